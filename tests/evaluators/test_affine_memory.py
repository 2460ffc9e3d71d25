"""What models affine in the point take in memory: all that is kept and made of the scores, as the system counts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .._limits import HANG

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

PROGRAM = Path(__file__).parents[1] / "_scores.py"
BOUND = 2**27
BYTES = 10 * 4 + 8  # a sample: ten scores and its label


def run(*cases: tuple[str, int, list[int], int]) -> list[tuple[list[str], int]]:
    """For each (loss, k, sizes of the batches, streams) the way of each stream, and the bytes of all at the peak."""
    # What is freed goes back at once: else the peak is also of the gaps that the allocator keeps.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(BOUND)], input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True, text=True, timeout=HANG, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def samples(share: float, k: int) -> list[int]:
    """Of so many that what k + 2 passes record is a share of the bound, most in one batch."""
    count = int(share * BOUND / (k + 2) / BYTES)
    return [count // 10, count - count // 10]


# What is made of it takes up to five times as much again (closed form), or twice (replay).
ALONE = [
    ("with_accuracy", 0.15, "closed form"),
    ("ignoring", 0.15, "closed form"),
    ("squared", 0.3, "replay"),
    ("with_accuracy", 0.6, ""),
    ("squared", 0.6, ""),
]


def test_what_fits_is_computed_and_nothing_takes_more_than_the_bound() -> None:
    cases = [(loss, 2, samples(share, 2), 1) for loss, share, _ in ALONE]
    streams = 7  # of which only the first would fit alone
    *alone, (ways, together) = run(*cases, ("with_accuracy", 2, samples(0.16, 2), streams))
    assert [way for way, _ in alone] == [[way] for _, _, way in ALONE]
    assert max(peak for _, peak in alone) <= BOUND
    assert together <= BOUND
    assert len(ways) == streams
    assert (ways[0], ways[-1]) == ("closed form", "")
