"""Run by test_kept_memory.py as a program: how many pages the system clears for tensors of a megabyte."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import torch
from torch import nn

from lightning_landscape.accelerations.kept_memory import kept_memory
from lightning_landscape.evaluators import Sequential

torch.set_num_threads(1)


def resident() -> int:
    """Bytes; `VmRSS` is only about right on machines with many cores."""
    (kilobytes,) = re.findall(r"^Rss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    return 1024 * int(kilobytes)


def faults() -> int:
    """Of the best of rounds with ten tensors of a megabyte each: a small block that stays may shift one of them."""
    counts = []
    for turn in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.full((2**18 + i,), float(turn)) for i in range(10)]
        assert sum(t[-1] for t in tensors) == 10 * turn
        del tensors
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts[1:])  # the first takes what is kept from then on


evaluator = Sequential(nn.Linear(2, 2))  # imports what it needs
faults()
outside, at_first = faults(), resident()
with kept_memory(evaluator, []):
    inside = faults()
    low = [torch.ones(2**18) for _ in range(10)]
    alive = [torch.ones(2**14)]
    while alive[-1].data_ptr() < max(tensor.data_ptr() for tensor in low):  # in a gap below
        alive.append(torch.ones(2**14))
    del low
    meanwhile = resident()
left = resident() - at_first - sum(tensor.nbytes for tensor in alive)
print(json.dumps({"outside": outside, "inside": inside, "meanwhile": meanwhile - at_first, "left": left}))
