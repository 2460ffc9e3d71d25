"""A time budget: what landscapes may take of a training, and what they have taken."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


def parse_budget(budget: Any) -> Budget | None:
    """The budget that is meant by "30s", "2min", "1h" or a share such as 0.05; None for none.

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
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?(s|min|h)", budget.strip()) if isinstance(budget, str) else None
    if found is None or not float(found[1]) > 0:
        raise ValueError(
            f'budget={budget!r}: give the time of each landscape, e.g. "30s", "2min" or "1h", or a share of the '
            "training's time between 0 and 1, e.g. 0.05; or None for no limit."
        )
    return Budget(budget, seconds=float(found[1]) * UNITS[found[2]])


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
        self.end, self._most = now() + seconds, steps
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
        """One step was done since the last: the next is expected to take as long, or what most of them take."""
        took, self._last = now() - self._last, now()
        self._step = max(took, 0.7 * self._step)
        self.steps += 1

    def __call__(self) -> bool:
        self._over = self._over or now() + self._step > self.end or self.steps == self._most
        return self._over


PICTURE = 0.4  # seconds that drawing one and writing its files takes, before it is known
SHARE_OF_PICTURES = 0.5  # of a landscape's time at most
WORTH = 12  # rehearsals that a landscape takes at least if it is to show more than its centre


class Account:
    """The time that the landscapes of a run have taken and may take, on the wall clock.

    Args:
        budget: what they may take.
        pictures: how many each draws.

    Attributes:
        spent: seconds that they have taken.
        passes: how many there were.
    """

    def __init__(self, budget: Budget, pictures: int = 0) -> None:
        self.budget, self.spent, self.passes = budget, 0.0, 0
        self.began = now()
        self.preparing = 0.0  # seconds that a rehearsal took: no landscape takes less
        self.showing = PICTURE * pictures

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
        """Seconds that a landscape which begins now may take, with all that was left over."""
        if self.budget.seconds is not None:
            return (self.passes + 1) * self.budget.seconds - self.spent
        share = self.budget.share or 0.0
        return (share * (now() - self.began) - self.spent) / (1 - share)

    def grant(self, last: bool) -> tuple[float, float] | None:
        """Seconds for measuring, and for all; None where what is left is better saved, or no landscape at all.

        Before the `last`, a landscape waits until half of its time is enough for its pictures, and the other half for
        more than a few points; and, where landscapes share the time, until as much is left for the last.
        """
        left = self.left()
        wanted = max(self.showing, WORTH * self.preparing) / SHARE_OF_PICTURES
        if not last and self.budget.share is not None:
            left -= wanted
        if left <= (2 * self.preparing if last else wanted):
            return None
        self.passes += 1
        return left - min(self.showing, left * SHARE_OF_PICTURES), left

    def shown(self, seconds: float, share: float) -> None:
        """Showing that share of the pictures took so long."""
        self.showing = seconds / max(share, 1e-9)
