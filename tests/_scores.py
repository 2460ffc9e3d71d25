"""Run by evaluators/test_affine_memory.py as a program: the peak memory of affine scores of so many bytes."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lightning_landscape import Grid
from lightning_landscape.evaluators import Affine, Sequential
from lightning_landscape.evaluators.affine.settings import AffineSettings
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane

torch.set_num_threads(1)
CLASSES = 10
SETTINGS = AffineSettings(max_bytes=int(sys.argv[1]))


def memory(what: str) -> int:
    """Bytes: VmRSS now, VmHWM at the most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) * 1024


def with_accuracy(net: nn.Module, batch: Any) -> dict[str, Any]:
    scores = net(batch[0])
    return {"loss": F.cross_entropy(scores, batch[1]), "acc": (scores.argmax(1) == batch[1]).float().mean()}


def ignoring(net: nn.Module, batch: Any) -> Any:
    return F.cross_entropy(net(batch[0]), batch[1], ignore_index=3, label_smoothing=0.1)


def squared(net: nn.Module, batch: Any) -> Any:
    """No closed form."""
    return (net(batch[0]) - F.one_hot(batch[1], CLASSES)).square().mean()


def measure(loss: Any, k: int, sizes: list[int], streams: int) -> tuple[list[str], int]:
    """The ways of the streams, and how many bytes they took together; the second one is asked after the first, …."""
    torch.manual_seed(0)
    net = nn.Linear(1, CLASSES).requires_grad_(False)
    origin = {name: p.clone() for name, p in net.named_parameters()}
    plane = Plane(origin, tuple({n: torch.randn_like(p) for n, p in origin.items()} for _ in range(k)))
    data = [Batch((torch.randn(n, 1), torch.arange(n).remainder(CLASSES)), n, i) for i, n in enumerate(sizes)]
    points = Grid.from_ranges(*[(-1, 1, 3)] * k).points
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is nobody's
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, ways, evaluator = memory("VmRSS"), [], Affine(Sequential(net), SETTINGS)
    with preserved():
        running = [evaluator(LossFunction(loss), plane, points, data) for _ in range(streams)]
        for stream in running:
            next(stream)
            ways.append(evaluator.method)
        for _ in zip(*running, strict=True):
            pass
    return ways, memory("VmHWM") - before


measure(with_accuracy, 2, [50, 50], 1)  # the libraries
for line in sys.stdin:
    name, *numbers = json.loads(line)
    print(json.dumps(measure(globals()[name], *numbers)))
