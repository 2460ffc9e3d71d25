"""The progress bar goes through the Trainer's own."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console
from rich.progress import Progress

from lightning_landscape.trainer.progress import progress


def test_tqdm_shows_points_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=TQDMProgressBar())
    with progress(trainer, 4, "Landscape 2×2") as shown:
        for done in (1, 2, 3):
            shown(done)
    text = capsys.readouterr().out
    assert "Landscape 2×2" in text
    assert "/4 [" in text


def test_rich_gets_one_more_task_in_the_running_display() -> None:
    bar = RichProgressBar()
    bar.progress = Progress(console=Console(file=io.StringIO(), force_terminal=True))  # type: ignore[assignment]
    bar.progress.start()
    try:
        trainer: Any = SimpleNamespace(progress_bar_callback=bar)
        with progress(trainer, 4, "Landscape 2×2") as shown:
            shown(3)
            (task,) = bar.progress.tasks
            assert (task.description, task.total, task.completed) == ("Landscape 2×2", 4, 3)
        assert bar.progress.tasks == []
    finally:
        bar.progress.stop()


def test_no_bar_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=None)
    with progress(trainer, 4, "Landscape") as shown:
        shown(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_an_exception_takes_the_bar_away(bar: Any) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=bar())
    with pytest.raises(KeyError, match="boom"), progress(trainer, 4, "Landscape"):
        raise KeyError("boom")
