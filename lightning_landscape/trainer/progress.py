"""A progress bar of a pass, through the Trainer's own bar where there is one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(trainer: Any, total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many of `total` points are done; the bar shows the time left.

    Rich's bar gets one more task, tqdm's one more line; without a bar (``enable_progress_bar=False``) nothing
    is shown.
    """
    own = trainer.progress_bar_callback
    if own is None or own.is_disabled:
        yield lambda done: None
    elif type(own).__name__.startswith("Rich") or hasattr(own, "progress"):
        yield from _rich(own, total, description)
    else:
        yield from _tqdm(total, description)


def _rich(own: Any, total: int, description: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    running = own.progress is not None and getattr(own.progress.live, "is_started", False)
    # Rich draws one live display at a time: the Trainer's while it is up, else one of ours.
    bar = (
        own.progress
        if running
        else Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
    )
    if not running:
        bar.start()
    task = bar.add_task(description, total=total)
    drawn = 0.0

    def shown(done: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        refresh = now - drawn > 0.1  # Lightning's display does not refresh itself
        bar.update(task, completed=done, refresh=refresh)
        drawn = now if refresh else drawn

    try:
        yield shown
    finally:
        bar.remove_task(task)
        if not running:
            bar.stop()


def _tqdm(total: int, description: str) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm  # Lightning's own dependency

    # Its own line below the epoch's bar; gone when the pass is over.
    with tqdm(total=total, desc=description, unit="point", leave=False, position=1, file=sys.stdout) as bar:
        yield lambda done: bar.update(done - bar.n)
