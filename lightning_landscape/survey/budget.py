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
    """The time that landscapes may take: seconds for each, or a share of all the time.

    Either `seconds` or `share` is set, not both.

    Args:
        given: as the user wrote it.
        seconds: of each landscape; what one leaves over, the next may take.
        share: of the time from the beginning of the training to its end, landscapes included.
    """

    given: float | str
    seconds: float | None = None
    share: float | None = None


def parse_budget(budget: object) -> Budget | None:
    """The budget that "30s", "2min", "1h" or a share such as 0.05 stands for; None for none.

    >>> parse_budget("2min").seconds, parse_budget(0.05).share
    (120.0, 0.05)
    >>> parse_budget("5 minutes")
    Traceback (most recent call last):
    ValueError: budget='5 minutes': give the time of each landscape, e.g. "30s", "2min" or "1h", or a share of the
    training's time between 0 and 1, e.g. 0.05; or None for no limit.
    """
    if budget is None:
        return None
    if isinstance(budget, int | float) and not isinstance(budget, bool) and 0 < budget < 1:
        return Budget(budget, share=float(budget))
    text = budget if isinstance(budget, str) else ""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?(s|min|h)", text.strip())
    if found is None or not float(found[1]) > 0:
        raise ValueError(
            f'budget={budget!r}: give the time of each landscape, e.g. "30s", "2min" or "1h", or a share of the '
            "training's time between 0 and 1, e.g. 0.05; or None for no limit."
        )
    return Budget(text, seconds=float(found[1]) * UNITS[found[2]])


class Deadline:
    """The end of some work, told by a clock and by the steps that the work takes.

    A call gives True if the next step would end too late or be one too many. After a first True, every call gives True.

    Args:
        seconds: from now.
        steps: at most, or None for any number.

    Attributes:
        steps: that were done.
    """

    def __init__(self, seconds: float, steps: int | None = None) -> None:
        self.end, self._maximum = now() + seconds, steps
        self.steps = 0
        self._last, self._step, self._over = now(), 0.0, False

    @property
    def left(self) -> float:
        """Seconds, 0 at least."""
        return max(0.0, self.end - now())

    def start(self) -> None:
        """Begin to time the steps now; no earlier time counts as a step."""
        self._last, self._step = now(), 0.0

    def step(self) -> None:
        """Count a step, and expect the next to take as long, or 0.7 of the longest expected before."""
        took, self._last = now() - self._last, now()
        self._step = max(took, 0.7 * self._step)
        self.steps += 1

    def __call__(self) -> bool:
        self._over = self._over or now() + self._step > self.end or self.steps == self._maximum
        return self._over


@dataclass(frozen=True)
class AccountSettings:
    """The times that an `Account` expects before it knows them.

    Args:
        picture: seconds for drawing a picture and writing its files, until one was drawn.
        share_of_pictures: the largest share of a landscape's time that its pictures may take.
        rehearsals: the least time of a landscape that shows more than its centre, in rehearsals.
    """

    picture: float = 0.4
    share_of_pictures: float = 0.5
    rehearsals: int = 12


DEFAULTS = AccountSettings()


class Account:
    """The time that the landscapes of a run have taken and may take, on the wall clock.

    Args:
        budget: the time that they may take.
        pictures: how many each draws.
        settings: the times expected at first.

    Attributes:
        spent: seconds that they have taken.
        passes: how many there were.
        preparing: seconds that a rehearsal took; no landscape takes less.
        showing: seconds that the pictures of a landscape are expected to take.
    """

    def __init__(self, budget: Budget, pictures: int = 0, settings: AccountSettings = DEFAULTS) -> None:
        self.budget, self.settings, self.spent, self.passes = budget, settings, 0.0, 0
        self.began = now()
        self.preparing = 0.0
        self.showing = settings.picture * pictures

    @contextmanager
    def spending(self) -> Iterator[None]:
        """A context whose time counts as spent on a landscape."""
        began = now()
        try:
            yield
        finally:
            self.spent += now() - began

    @property
    def share(self) -> float:
        """The share of the time since the beginning that landscapes have taken."""
        return self.spent / max(now() - self.began, 1e-9)

    def left(self) -> float:
        """Seconds that a landscape which begins now may take, with what earlier ones left over."""
        if self.budget.seconds is not None:
            return (self.passes + 1) * self.budget.seconds - self.spent
        share = self.budget.share or 0.0
        return (share * (now() - self.began) - self.spent) / (1 - share)

    def grant(self, last: bool) -> tuple[float, float] | None:
        """Seconds for measuring, and for the whole landscape; None if the time is too short or better saved.

        A landscape waits until half of its time is enough for its pictures. The other half must be enough for more
        than a few points. If landscapes share the time, as much must be left for the last one. The `last` does not
        wait.
        """
        left, settings = self.left(), self.settings
        needed = max(self.showing, settings.rehearsals * self.preparing) / settings.share_of_pictures
        if not last and self.budget.share is not None:
            left -= needed
        if left <= (2 * self.preparing if last else needed):
            return None
        self.passes += 1
        return left - min(self.showing, left * settings.share_of_pictures), left

    def record_pictures(self, seconds: float, share: float) -> None:
        """Learn from a share of a landscape's pictures, which took so many seconds, what all of them take."""
        self.showing = seconds / max(share, 1e-9)
