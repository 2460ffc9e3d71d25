"""The progress of a pass goes through the Trainer's own bar, and is never silent."""

from __future__ import annotations

import io
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console
from rich.progress import Progress as RichProgress

from lightning_landscape.landscape import Grid
from lightning_landscape.trainer.interrupts import Interrupts, PassEndedError
from lightning_landscape.trainer.progress import Progress, progress, waiting
from lightning_landscape.trainer.ticker import ticking

GRID = Grid.from_ranges((-1, 1, 2), (-1, 1, 2))
Shown = tuple[str, int, int]


class Screen:
    """A bar that remembers what it was to show."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def show(self, text: str, done: int, total: int, is_limited: bool = False) -> None:
        self.shown.append((text, done, total))

    def close(self) -> None:
        self.shown.append(("closed", 0, 0))


def of(bar: Screen | None, say: Callable[[str], None] = print, **options: Any) -> Progress:
    return Progress(GRID, bar, Interrupts(), say, **{"seconds": (0.0, 0.0), **options})


def test_every_phase_is_shown_as_it_begins() -> None:
    screen = Screen()
    talk = of(screen)
    talk.tell("reading data", 1, 3)
    talk.tell("measuring the centre")
    talk.points(2, 4)
    assert screen.shown == [
        ("Landscape 2×2: reading data 1/3", 0, 0),
        ("Landscape 2×2: measuring the centre", 0, 0),
        ("Landscape 2×2: point 3", 2, 4),
    ]


def test_a_long_point_has_its_batch() -> None:
    talk = of(Screen())
    talk.points(11, 20)
    talk.at_batch(3, 8)
    assert talk.text == "Landscape 2×2: point 12, batch 3/8"
    quick = of(Screen(), seconds=(0.0, 60.0))
    quick.points(11, 20)
    quick.at_batch(3, 8)
    assert quick.text == "Landscape 2×2"
    talk.interrupts.pressed = True
    assert talk.text == "Landscape 2×2: ending after this point, batch 3/8"


def test_a_limited_pass_says_when_its_points_end() -> None:
    talk = of(Screen(), seconds=(0.0, 60.0))
    talk.limit(12.4)
    talk.tell("reading data", 1, 3)
    assert talk.text == "Landscape 2×2: reading data 1/3"
    talk.points(1, 4)
    assert talk.text == "Landscape 2×2, 12 s left"
    talk.limit(-1)
    assert talk.text == "Landscape 2×2, 0 s left"


def test_ctrl_c_ends_a_pass_between_the_parts_of_a_phase_until_there_are_points() -> None:
    talk = of(None)
    talk.interrupts.pressed = True
    with pytest.raises(PassEndedError, match="before its first point"):
        talk.tell("reading data", 2, 3)
    together = of(None, may_leave=False)
    together.interrupts.pressed = True
    together.tell("reading data", 2, 3)
    talk.points(1, 4)
    talk.tell("drawing", 1, 9)
    talk.leave_points(missing=3)
    assert talk.has_ended
    assert not talk.must_end  # a later one is of the drawing
    whole = of(None)
    whole.interrupts.pressed = True
    whole.leave_points(missing=0)
    assert not whole.has_ended


def test_without_a_bar_the_log_says_once_that_a_long_point_is_the_last() -> None:
    lines: list[str] = []
    talk = of(None, lines.append)
    talk.points(1, 4)
    talk.tick()
    talk.interrupts.pressed = True
    talk.tick()
    talk.tick()
    assert lines == ["Landscape 2×2: ending after this point"]


def test_a_call_that_lasts_is_shown_again_and_again() -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=TQDMProgressBar())
    with progress(trainer, GRID) as talk:
        assert talk.bar is not None
        talk.bar.close()
        talk.bar = screen = Screen()
        talk.tell("compiling")
        began = time.monotonic()
        while len(screen.shown) < 4 and time.monotonic() - began < 60:
            time.sleep(0.1)  # no call of ours
    assert [text for text, _, _ in screen.shown[:4]] == ["Landscape 2×2: compiling"] * 4


def test_talk_costs_less_than_a_hundredth_of_a_millisecond() -> None:
    talk, count = of(Screen(), seconds=(0.1, 1.0)), 20_000
    began = time.perf_counter()
    for i in range(count):
        talk.at_batch(i, count)
        talk.points(i, count)
    assert (time.perf_counter() - began) / count < 1e-5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_no_fork_happens_in_the_middle_of_a_tick() -> None:
    lock, failed = threading.Lock(), 0

    def tick() -> None:  # as an output stream: a lock is held while something is written
        with lock:
            time.sleep(0.01)

    with ticking(tick, seconds=0.001):
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if lock.acquire(timeout=1) else 1)
            failed += os.waitpid(pid, 0)[1]
            time.sleep(0.005)
    assert failed == 0


def test_a_screen_that_breaks_does_not_matter() -> None:
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise BrokenPipeError

    with ticking(broken, seconds=0.001):
        time.sleep(0.1)
    assert len(calls) == 1


def test_tqdm_shows_phases_then_points_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=TQDMProgressBar())
    with progress(trainer, GRID) as talk:
        talk.tell("reading data", 1, 3)
        for done in (1, 2, 3):
            talk.points(done, 4)
            talk.tick()
        talk.tell("drawing", 1, 2)
    text = capsys.readouterr().out
    assert "Landscape 2×2: reading data 1/3 [00:00]" in text
    assert "/4 points [00:00, " in text
    assert "Landscape 2×2: drawing 1/2 [00:00]" in text
    assert "Landscape 2×2: point" not in text
    assert "0/0" not in text
    assert "::" not in text


def test_rich_gets_one_more_task_in_the_running_display() -> None:
    bar = RichProgressBar()
    display: Any = RichProgress(console=Console(file=io.StringIO(), force_terminal=True))
    bar.progress = display
    display.start()
    try:
        trainer: Any = SimpleNamespace(progress_bar_callback=bar)
        with progress(trainer, GRID) as talk:
            talk.tell("reading data", 1, 3)
            (task,) = display.tasks
            assert (task.description, task.total) == ("Landscape 2×2: reading data 1/3", math.inf)
            talk.points(3, 4)
            talk.tick()
            (task,) = display.tasks
            assert (task.description, task.total, task.completed) == ("Landscape 2×2", 4, 3)
        assert display.tasks == []
    finally:
        display.stop()


def test_no_bar_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=None)
    with progress(trainer, GRID) as talk:
        talk.points(1, 4)
        talk.tick()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_an_exception_takes_the_bar_away(bar: Any) -> None:
    trainer: Any = SimpleNamespace(progress_bar_callback=bar())
    with pytest.raises(KeyError, match="boom"), progress(trainer, GRID):
        raise KeyError("boom")


def press() -> None:
    """Ctrl-C, and the time in which Python takes it."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def test_the_first_ctrl_c_only_asks_and_the_second_stops() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        press()
        assert interrupts.pressed
        with pytest.raises(KeyboardInterrupt):
            press()
        press()  # while the training is put back
    assert signal.getsignal(signal.SIGINT) is before


def test_a_late_second_ctrl_c_is_a_first_one() -> None:
    with Interrupts(patience=0.05) as interrupts:
        press()
        interrupts.pressed = False
        time.sleep(0.1)
        press()
        assert interrupts.pressed


def test_a_program_that_ignores_ctrl_c_still_does() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            press()
            press()
            assert not interrupts.pressed
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    found = []

    def enter() -> None:
        with Interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_what_lasts_longer_than_a_second_is_shown_and_nothing_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("lightning_landscape.trainer.progress._bar", lambda trainer: screen)
    trainer: Any = SimpleNamespace()
    with waiting(trainer, "one batch for trial"):
        pass
    assert screen.shown == [("closed", 0, 0)]
    began = time.monotonic()
    with waiting(trainer, "one batch for trial"):
        while len(screen.shown) < 2 and time.monotonic() - began < 60:
            time.sleep(0.1)
    assert screen.shown[1] == ("one batch for trial", 0, 0)
