"""A time budget: what landscapes may take of a training, and what they have taken."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
clock = time.monotonic


def now() -> float:
    """Seconds on the clock that budgets are counted on."""
    return clock()


@dataclass(frozen=True)
class Budget:
    """The time that landscapes may take: seconds for each, or a share of the training's time.

    Either `seconds` or `share` is set, not both.

    Args:
        given: as the user wrote it.
        seconds: of each landscape; what one leaves over, the next may take.
        share: of the time that was trained so far, without the time of landscapes.
        least: seconds that each landscape may take in any case. With these the main loss has all of its pictures.
        least_at_end: the same of the last one.
    """

    given: float | str
    seconds: float | None = None
    share: float | None = None
    least: float = 0.0
    least_at_end: float = 0.0


AUTO = Budget("auto", share=0.1, least=20.0, least_at_end=60.0)


def parse_budget(budget: object) -> Budget | None:
    """The budget that "auto", "30s", "2min", "1h" or a share such as 0.05 stands for; None for none.

    >>> parse_budget("2min").seconds, parse_budget(0.05).share, parse_budget("auto").share
    (120.0, 0.05, 0.1)
    >>> parse_budget("5 minutes")
    Traceback (most recent call last):
    ValueError: budget='5 minutes': give "auto", the time of each landscape, e.g. "30s", "2min" or "1h", or a share of
    the training's time between 0 and 1, e.g. 0.05; or None for no limit.
    """
    if budget is None:
        return None
    if budget == AUTO.given:
        return AUTO
    if isinstance(budget, int | float) and not isinstance(budget, bool) and 0 < budget < 1:
        return Budget(budget, share=float(budget))
    text = budget if isinstance(budget, str) else ""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?(s|min|h)", text.strip())
    if found is None or not float(found[1]) > 0:
        raise ValueError(
            f'budget={budget!r}: give "auto", the time of each landscape, e.g. "30s", "2min" or "1h", or a share of '
            "the training's time between 0 and 1, e.g. 0.05; or None for no limit."
        )
    return Budget(text, seconds=float(found[1]) * UNITS[found[2]])


class Deadline:
    """The end of some work, told by a clock and by the steps that the work takes.

    A call gives True if the next step would end too late. After a first True, every call gives True.

    Args:
        seconds: from now.
        least: the number of steps that are done in any case.

    Attributes:
        steps: that were done.
    """

    def __init__(self, seconds: float, least: int = 0) -> None:
        self.end, self.least = now() + seconds, least
        self.steps = 0
        self._last, self._step, self._over = now(), 0.0, False

    @property
    def left(self) -> float:
        """Seconds, 0 at least."""
        return max(0.0, self.end - now())

    def start(self, left: float | None = None) -> None:
        """Begin to time the steps now; no earlier time counts as a step.

        Args:
            left: seconds until the end, if another clock tells them.
        """
        self._last, self._step = now(), 0.0
        self.end = self.end if left is None else self._last + left

    def step(self) -> None:
        """Count a step, and expect the next to take as long, or 0.7 of the longest expected before."""
        took, self._last = now() - self._last, now()
        self._step = max(took, 0.7 * self._step)
        self.steps += 1

    def stop(self) -> None:
        """Be over from now on."""
        self._over = True

    def before_step(self) -> bool:
        """True if the time is over; counts the step before, and is asked before each."""
        self.step()
        return self()

    def __call__(self) -> bool:
        self._over = self._over or (self.steps >= self.least and now() + self._step > self.end)
        return self._over


def never() -> bool:
    """False: the end of work that takes what it takes."""
    return False


@dataclass(frozen=True, eq=False)
class Limit:
    """The limits of a landscape that must be there in time.

    Args:
        deadline: of its last point.
        point: seconds that a point takes without accelerations, about; None where nobody knows.
        level: of the last subgrid that is evaluated (`refine`); None where it is not decided yet.
        is_last: whether the landscape takes all of its time, and may be finer than those before it.
    """

    deadline: Deadline
    point: float | None = None
    level: int | None = None
    is_last: bool = True


@dataclass(frozen=True)
class Grant:
    """The seconds that a landscape may take.

    Args:
        measuring: until its last point.
        total: until its last picture.
        pictures: how many are drawn in any case.
    """

    measuring: float
    total: float
    pictures: int = 1


class Account:
    """The time that the landscapes of a run have taken and may take, on the wall clock.

    Args:
        budget: the time that they may take.
        pictures: how many each draws of the main loss.
        picture: seconds for drawing a picture and writing its files, until one was drawn.
        share_of_pictures: the largest share of a landscape's time that its pictures may take.
        share_of_films: the largest share of the last landscape's time that is left for films of all of them.

    Attributes:
        spent: seconds that they have taken.
        passes: how many there were.
        showing: seconds that the pictures of a landscape are expected to take.
    """

    def __init__(
        self,
        budget: Budget,
        pictures: int = 0,
        picture: float = 0.6,
        share_of_pictures: float = 0.5,
        share_of_films: float = 0.2,
    ) -> None:
        self.budget, self.share_of_pictures, self.share_of_films = budget, share_of_pictures, share_of_films
        self._limit: float | None = None  # of what is spent, films included, once the last landscape has begun
        self.spent, self.passes = 0.0, 0
        self.began = now()
        self.showing, self.pictures = picture * pictures, pictures

    @contextmanager
    def spending(self) -> Iterator[None]:
        """A context whose time counts as spent on a landscape."""
        began = now()
        try:
            yield
        finally:
            self.spent += now() - began

    @property
    def trained(self) -> float:
        """Seconds since the beginning that no landscape has taken."""
        return now() - self.began - self.spent

    def left(self, last: bool, to_come: int = 1) -> float:
        """Seconds that a landscape which begins now may take, with what earlier ones left over.

        If more are `to_come`, it shares them with these.
        """
        if self.budget.seconds is not None:
            return (self.passes + 1) * self.budget.seconds - self.spent
        least = self.budget.least_at_end if last else self.budget.least
        return max(((self.budget.share or 0.0) * self.trained - self.spent) / to_come, least)

    def rest(self) -> float:
        """Seconds for films: those that the last landscape leaves over, or might have taken if there was none."""
        if self._limit is None:
            return self.left(last=True) - (self.budget.seconds or 0.0)
        return self._limit - self.spent

    def grant(self, last: bool, needed: float, to_come: int = 1, films: float = 0.0) -> Grant | None:
        """The seconds of a landscape that begins now; None where they are saved for a later one.

        Args:
            last: for the last landscape, which does not wait.
            needed: seconds that the coarsest landscape takes, without its pictures. If landscapes share the time, as
                much is left for the last one.
            to_come: how many landscapes share what is left of the time.
            films: seconds that films of all landscapes, and that of the path, take; the last one leaves as much, or a
                share of its own.
        """
        left, needed = self.left(last, to_come), needed + self.showing
        if not last and self.budget.share and not self.budget.least_at_end:
            left -= needed
        if not last and left < needed:
            return None
        left = max(left, 0.0)
        self.passes += 1
        if last:
            self._limit = self.spent + left
            left -= min(films, self.share_of_films * left)
        pictures = self.pictures if self.budget.least else 1
        return Grant(left - min(self.showing, left * self.share_of_pictures), left, pictures)

    def grant_path(self, needed: float, films: float = 0.0) -> Grant | None:
        """The seconds of the landscape of the path, which comes after the last one; None if they are too few.

        It has time of its own where each landscape has; else what the last one left over.

        Args:
            needed: seconds that the coarsest one takes, without its pictures.
            films: seconds that films of all landscapes take; it leaves as much, or a share of its own.
        """
        each = self.budget.seconds
        left = self.rest() if each is None else self.left(last=True)
        left -= min(films, self.share_of_films * left) if each is None else 0.0
        if left < needed + self.showing:
            return None
        self.passes += 1
        if each is not None and self._limit is not None:
            self._limit += each
        return Grant(left - min(self.showing, left * self.share_of_pictures), left)

    def record_pictures(self, seconds: float, share: float) -> None:
        """Learn from a share of a landscape's pictures, which took so many seconds, what all of them take."""
        if share > 0:
            self.showing = seconds / share
