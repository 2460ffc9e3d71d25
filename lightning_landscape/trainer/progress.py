"""A progress bar of a pass, through the Trainer's own bar where there is one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from rich.progress import Progress


@contextmanager
def progress(trainer: Trainer, total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left; gives a function to call with the number of points that are done.

    Rich's bar gets one more task, tqdm's one more line. Without a bar (``enable_progress_bar=False``) nothing is shown.
    """
    bar = trainer.progress_bar_callback
    if bar is None or getattr(bar, "is_disabled", False):
        yield lambda done: None
    elif type(bar).__name__.startswith("Rich") or hasattr(bar, "progress"):
        yield from _rich(getattr(bar, "progress", None), total, description)
    else:
        yield from _tqdm(total, description)


def _rich(display: Progress | None, total: int, description: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Rich draws one live display at a time: the Trainer's while it is up, else one of ours.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_up = display is not None and getattr(display.live, "is_started", False)
    bar = display if display is not None and is_up else Progress(*columns, transient=True)
    if not is_up:
        bar.start()
    task = bar.add_task(description, total=total)
    last = 0.0

    def update(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        refresh = now - last > 0.1  # Lightning's display does not refresh itself
        bar.update(task, completed=done, refresh=refresh)
        last = now if refresh else last

    try:
        yield update
    finally:
        bar.remove_task(task)
        if not is_up:
            bar.stop()


def _tqdm(total: int, description: str) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm  # Lightning's own dependency

    # Its own line below the epoch's bar; gone when the pass is over.
    with tqdm(total=total, desc=description, unit="point", leave=False, position=1, file=sys.stdout) as bar:
        yield lambda done: bar.update(done - bar.n)
