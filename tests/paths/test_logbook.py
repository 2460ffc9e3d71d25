"""Logbook: bounded files and memory over many steps, and the choice of the records that stay."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import Recording
from lightning_landscape.paths.logbook import Logbook


def walk(net: nn.Module, book: Logbook, steps: int) -> int:
    """So many steps of a random walk, recorded as a training does; gives the largest number of files on the way."""
    generator, most = torch.Generator().manual_seed(0), 0
    for _ in range(steps):
        if book.is_due_within(2):
            book.copy(net)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
        book.count += 1
        if book.is_due:
            book.record(net)
            most = max(most, len([*book.folder.iterdir()]))
    return most


def resident() -> int:
    """The memory of this process in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_ten_thousand_steps_leave_few_files_and_take_no_memory(tmp_path: Path) -> None:
    net = nn.Linear(100, 100)
    book = Logbook(net, Recording(keep=64), tmp_path, patience=0.0)
    book.record(net)
    first = walk(net, book, 2000)
    before = resident()
    most = walk(net, book, 8000)
    assert max(first, most) <= 63  # the current weights are one more
    assert resident() - before < 2**20  # 8,000 records would take 323 MB
    book.flush()
    names = sorted(path.name for path in book.folder.iterdir())
    assert names == [f"step={step:08d}.safetensors" for step in range(0, 10_001, 256)]
    assert len(book.history) < 64 + 32 * np.log2(10_000 / 63) + 1


def test_records_wait_in_memory_and_reach_the_disk_with_a_checkpoint(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    book = Logbook(net, Recording(keep=8), tmp_path, patience=1e9)
    book.record(net)
    assert walk(net, book, 30) <= 2  # the first at once, and the next, as none was written before
    book.flush()
    assert book.records().steps == [0, 4, 8, 12, 16, 20, 24]
    assert all(path.exists() for path in book.records().files)


def test_a_large_record_is_written_at_once(tmp_path: Path) -> None:
    net = nn.Linear(30, 20)
    book = Logbook(net, Recording(keep=100), tmp_path, patience=1e9, most_waiting=10_000)
    book.record(net)
    walk(net, book, 20)
    assert len([*book.folder.iterdir()]) >= 18  # 2,480 bytes each: three may wait


def test_the_angle_is_left_out_of_large_modules(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    book = Logbook(net, Recording(keep=100), tmp_path, cosine_limit=8)
    assert book.lookback == 1
    walk(net, book, 10)
    assert np.isnan(book.history.columns["cosine"]).all()
    assert np.isfinite(book.history.columns["step_length"][1:]).all()


@pytest.mark.parametrize(
    "net, message",
    [
        (nn.Linear(2, 2).requires_grad_(False), "no trainable parameter"),
        (nn.LazyLinear(2), "has no shape yet"),
    ],
)
def test_what_can_not_be_recorded_is_refused(tmp_path: Path, net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Logbook(net, Recording(), tmp_path)


def test_complex_weights_are_recorded(tmp_path: Path) -> None:
    net = nn.Linear(3, 2, dtype=torch.complex64)
    book = Logbook(net, Recording(keep=8, max_bytes=1), tmp_path)
    book.record(net)
    weights = net.weight.detach().clone()
    assert torch.equal(book.records()[0]["weight"], weights)
    book.count = 1
    with torch.no_grad():
        net.weight.add_(1j)
    now = book.records(net)
    assert now.steps == [0, 1]
    assert torch.equal(now[-1]["weight"], net.weight)
    assert torch.equal(now[:1][0]["weight"], weights)
