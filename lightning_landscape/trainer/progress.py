"""The progress of a pass: its phase and its points in the Trainer's own kind of bar, and Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..landscape import Grid, Landscape
from ..phases import Phases
from . import compat
from .announcements import closing_line, ended_line
from .interrupts import Interrupts, PassEndedError
from .ticker import ticking

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

ENDING = "ending after this point"


class Bar(Protocol):
    """A bar on the screen."""

    def show(self, text: str, done: int, total: int, is_limited: bool = False) -> None:
        """Show a text, and so many points of a total of them; a total of 0 shows the text alone.

        The text says when points end that are limited: not all of them may come.
        """

    def close(self) -> None:
        """Take it away."""


class Progress(Phases):
    """The display of what a pass does, and the wish of the user to end it.

    The thread that measures tells it phases, batches and points. Another thread shows them every half second, so that
    a long point or call has its time and its words. Remembering a batch or point costs less than a microsecond.

    Args:
        grid: of the landscape.
        bar: on the screen; None for none.
        interrupts: tell of Ctrl-C.
        say: writes a line to the log.
        goes_on: what goes on where Ctrl-C ends the pass, in words.
        may_leave: True if a pass may end before its first point; processes that share a step must end it together.
        seconds: the least time between two pictures of the bar, and the time from which a point is a long one.

    Attributes:
        has_ended: True if Ctrl-C has ended the pass before all its points were done.
    """

    def __init__(
        self,
        grid: Grid,
        bar: Bar | None,
        interrupts: Interrupts,
        say: Callable[[str], None],
        goes_on: str = "the training",
        may_leave: bool = True,
        seconds: tuple[float, float] = (0.25, 1.0),
    ) -> None:
        self.grid, self.title = grid, f"Landscape {'×'.join(map(str, grid.shape))}"
        self.bar, self.interrupts, self.say = bar, interrupts, say
        self.goes_on, self.may_leave = goes_on, may_leave
        self._refresh_after, self._long = seconds
        self._phase, self._part, self._of = "", 0, 0
        self._done = self._total = self._batch = self._batches = 0
        self._began = self._changed = self._shown = time.monotonic()
        self._left_points: float | None = None  # when the last point was done
        self._end: float | None = None  # of the points, at the latest
        self._has_said = self.has_ended = False

    @property
    def must_end(self) -> bool:
        """True if the user wants the pass to end."""
        return self.interrupts.pressed

    def tell(self, phase: str, part: int = 0, of: int = 0) -> None:
        """See `Phases`.

        Raises:
            PassEndedError: if the user wants the pass to end, before its points.
        """
        if self.must_end and self.may_leave:
            raise PassEndedError("Ctrl-C ended the pass before its first point.")
        is_new, self._phase, self._part, self._of = phase != self._phase, phase, part, of
        self._total = self._batches = 0
        self._changed = time.monotonic()
        if is_new or self._changed - self._shown > self._refresh_after:
            self._show()

    def leave_points(self, missing: int) -> None:
        """Say that no more points come, and how many are missing; a later Ctrl-C is of what follows."""
        self.has_ended, self.interrupts.pressed = self.interrupts.pressed and missing > 0, False
        self.may_leave = False
        self._left_points = time.monotonic()

    def closing_line(self, landscape: Landscape, step: int, folder: Path | None, *notes: str) -> str:
        """The line that says at the end where the landscape is, and what it took."""
        now = time.monotonic()
        drawing = 0.0 if self._left_points is None else now - self._left_points  # only the first process draws
        return closing_line(landscape, step, folder, now - self._began, drawing, notes)

    def ended_line(self, step: int, done: int) -> str:
        """The line that says that Ctrl-C has ended the pass, with so many points done."""
        return ended_line(step, done, self.grid.size, self.goes_on)

    def at_batch(self, batch: int, of: int) -> None:
        """See `Phases`."""
        self._batch, self._batches = batch, of

    def limit(self, seconds: float) -> None:
        """Say that the last point comes in so many seconds, at the latest."""
        self._end = time.monotonic() + seconds

    def points(self, done: int, total: int) -> None:
        """Say that so many points of a total are done."""
        self._done, self._total, self.may_leave = done, total, False
        self._changed = time.monotonic()
        if self._changed - self._shown > self._refresh_after:
            self._show()

    def tick(self) -> None:
        """Show what lasts; called by another thread."""
        if self.must_end and self._total and not self._has_said:
            self._has_said = True
            if self.bar is None:
                self.say(f"{self.title}: {ENDING}")
        self._show()

    @property
    def text(self) -> str:
        """The words of the bar."""
        words = self._phase if not self._of else f"{self._phase} {self._part}/{self._of}"
        if self._total:
            is_long = time.monotonic() - self._changed > self._long
            words = f"point {self._done + 1}" if is_long else ""
            words = ENDING if self.must_end else words
        if self._batches > 1 and (words or not self._total) and time.monotonic() - self._changed > self._long:
            words += f", batch {self._batch}/{self._batches}"
        title = self.title
        if self._total and self._end is not None:
            title += f", {max(0.0, self._end - time.monotonic()):.0f} s left"
        return f"{title}: {words}" if words else title

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self.bar is not None:
            self.bar.show(self.text, self._done, self._total, self._end is not None)


@contextmanager
def progress(trainer: Trainer, grid: Grid, last: bool = False, may_leave: bool = True) -> Iterator[Progress]:
    """Show a pass in the Trainer's kind of bar, and let Ctrl-C end the pass alone.

    Rich's bar gets one more task, tqdm's one more line. Without a bar (``enable_progress_bar=False``) nothing is shown.

    Args:
        trainer: in the middle of its work.
        grid: of the landscape.
        last: True if no training follows.
        may_leave: as of `Progress`.
    """
    bar = _bar(trainer)
    with Interrupts() as interrupts:
        goes_on = "the program" if last else "the training"
        talk = Progress(grid, bar, interrupts, lambda text: compat.info(trainer, text), goes_on, may_leave)
        try:
            with ticking(talk.tick):
                yield talk
        finally:
            if bar is not None:
                bar.close()


@contextmanager
def waiting(trainer: Trainer, text: str) -> Iterator[None]:
    """Show a text and the time in the Trainer's kind of bar, where the context lasts longer than a second."""
    bar = _bar(trainer)
    if bar is None:
        yield
        return
    try:
        with ticking(lambda: bar.show(text, 0, 0), seconds=1.0):
            yield
    finally:
        bar.close()


def say(trainer: Trainer, text: str) -> None:
    """Write a line to the log of the first process, above the bars that are on the screen."""
    if _kind(trainer) != "tqdm":
        compat.info(trainer, text)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        compat.info(trainer, text)


def _kind(trainer: Trainer) -> str:
    """The kind of the Trainer's bar: "rich", "tqdm", or "" for none."""
    bar = trainer.progress_bar_callback
    if bar is None or getattr(bar, "is_disabled", False):
        return ""
    return "rich" if type(bar).__name__.startswith("Rich") or hasattr(bar, "progress") else "tqdm"


def _bar(trainer: Trainer) -> Bar | None:
    """A bar like the Trainer's; None where it has none."""
    kind = _kind(trainer)
    if kind == "rich":
        return _RichBar(getattr(trainer.progress_bar_callback, "progress", None))
    return _TqdmBar() if kind else None


class _RichBar:
    """A task in the Trainer's display while that is up, else in one of ours: Rich draws one display at a time."""

    def __init__(self, display: RichProgress | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._is_up = display is not None and getattr(display.live, "is_started", False)
        self._display = (
            display if display is not None and self._is_up else Progress(*columns, transient=True, refresh_per_second=4)
        )
        self._task: TaskID | None = None
        self._total = 0

    def show(self, text: str, done: int, total: int, is_limited: bool = False) -> None:
        """See `Bar`."""
        if self._task is None and not self._is_up:
            self._display.start()
        if self._task is None or total != self._total:  # a new task, since rates of points and phases do not mix
            if self._task is not None:
                self._display.remove_task(self._task)
            self._total = total
            # Lightning's columns know no task without a total, and show an infinite one as "--".
            self._task = self._display.add_task(text, total=total or float("inf"), completed=done if total else 0)
        self._display.update(self._task, description=text, completed=done if total else 0)
        if not self._display.live.auto_refresh:  # as in older versions of Lightning
            self._display.refresh()

    def close(self) -> None:
        """See `Bar`."""
        if self._task is not None:
            self._display.remove_task(self._task)
            if not self._is_up:
                self._display.stop()


class _TqdmBar:
    """A line below the epoch's bar, which is gone when the pass is over."""

    def __init__(self) -> None:
        from tqdm import tqdm  # Lightning's own dependency

        self._words = "{desc} [{elapsed}]"
        self._points = "{l_bar}{bar}| {n_fmt}/{total_fmt} points [{elapsed}, {remaining} left]"
        self._limited = "{l_bar}{bar}| {n_fmt}/{total_fmt} points [{elapsed}]"
        self._bar: tqdm[None] = tqdm(
            total=0, leave=False, file=sys.stdout, dynamic_ncols=True, bar_format=self._words, smoothing=0.1, delay=1e-9
        )

    def show(self, text: str, done: int, total: int, is_limited: bool = False) -> None:
        """See `Bar`."""
        self._bar.set_description_str(text, refresh=False)
        if total and self._bar.bar_format is self._words:
            self._bar.bar_format = self._limited if is_limited else self._points
            self._bar.reset(total)
            self._bar.initial = self._bar.n = done
        elif not total and self._bar.bar_format is not self._words:
            self._bar.bar_format = self._words
            self._bar.reset(0)
        if total:
            self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        """See `Bar`."""
        self._bar.close()


class Count:
    """The number of points that all processes have done, about: between two exchanges each knows of its own only.

    Args:
        processes: the number of processes, which go on at the same pace.

    >>> count = Count(2)
    >>> [count(done) for done in (1, 2, 4, 5)]  # the points of the other process came between 2 and 4
    [2, 4, 4, 6]
    """

    def __init__(self, processes: int) -> None:
        self.processes, self.known, self.shown = processes, 0, 0

    def __call__(self, done: int) -> int:
        """The number to show, where this process knows of so many."""
        new, self.known = done - self.known, done
        self.shown = self.shown + self.processes * new if new in (0, 1) else done
        return self.shown
