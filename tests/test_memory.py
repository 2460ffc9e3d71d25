"""A pass holds the parameters of the probe, of each direction, of the point and of the seal, and little else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ._limits import HANG

PROGRAM = Path(__file__).with_name("_memory.py")
# What is freed goes back at once: else the peak is also of the gaps that the allocator keeps, 40 MB more or less.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}


def run(layers: int) -> dict[str, int]:
    """Bytes of the parameters, and how much higher than before the pass took the peak."""
    command = [sys.executable, str(PROGRAM), str(layers)]
    environment = {**os.environ, **ALLOCATOR}
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_fifty_million_parameters_take_at_most_five_times_their_memory() -> None:
    one, many = run(1), run(48)  # the first for the libraries imported on the way
    assert many["parameters"] > 200e6
    scratch = 4 * one["parameters"]  # the tensor in work, in float64 too
    assert many["pass"] - one["pass"] <= 5 * (many["parameters"] - one["parameters"]) + scratch
