"""The measures that a moment of a training has time for: each saves up its share of the budget."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..survey.budget import Budget, now


class Savings:
    """The time that each of several measures has saved up, and takes.

    All get equal shares. A measure is taken when its share covers what it took last time. What it has left beyond the
    next time goes to those that wait. So quick ones are measured at more moments than slow ones, and none waits for
    ever.

    Args:
        budget: the time of all measures; None for no limit.
        names: of the measures.
        picture: seconds that a picture at the end takes, about; up to half of what is left is kept for it.

    >>> saved = Savings(Budget("1s", seconds=1.0), ["quick", "slow"])
    >>> saved.expect({"quick": 0.1, "slow": 0.9}, 0.0)
    >>> saved.due()
    ['quick']
    >>> saved.pay({"quick": 0.1}, 0.1)
    >>> saved.due()
    ['quick', 'slow']
    """

    def __init__(self, budget: Budget | None, names: Iterable[str], picture: float = 0.6) -> None:
        self.budget, self.picture = budget, picture
        self._saved = dict.fromkeys(names, 0.0)
        self._costs = dict.fromkeys(self._saved, 0.0)
        self._common = 0.0  # seconds that a moment takes beside its measures
        self._seen = now()

    def expect(self, costs: dict[str, float], common: float) -> None:
        """Note what the measures will take, in seconds, and what each moment takes beside them."""
        self._costs.update(costs)
        self._common = common

    def due(self, last: bool = False) -> list[str]:
        """The measures that have saved enough; called once a moment.

        Args:
            last: True at the end, when nothing is saved any more: the quickest share what is left.
        """
        if self.budget is None:
            return list(self._saved)
        moment, self._seen = now() - self._seen, now()
        income = (self.budget.share or 0.0) * moment if self.budget.seconds is None else self.budget.seconds
        for name in self._saved:
            self._saved[name] += income / len(self._saved)
        if last:
            return self._quickest(max(self.left - self.picture, self.left / 2))
        together = sum(saved >= self._costs[name] for name, saved in self._saved.items())
        common = self._common / max(together, 1)
        return [name for name, saved in self._saved.items() if saved >= self._costs[name] + common]

    @property
    def left(self) -> float:
        """Seconds that all measures together have saved; infinite without a limit."""
        return math.inf if self.budget is None else sum(self._saved.values())

    def _quickest(self, seconds: float) -> list[str]:
        """The measures that so many seconds are enough for, the quickest first."""
        left, chosen = seconds - self._common, list[str]()
        for name in sorted(self._saved, key=self._costs.__getitem__):
            left -= self._costs[name]
            if left < 0:
                break
            chosen.append(name)
        return chosen

    def pay(self, seconds: dict[str, float], total: float) -> None:
        """Take what a moment has cost.

        Args:
            seconds: of each measure.
            total: of the whole moment.
        """
        self._costs.update(seconds)
        if seconds:
            self._common = max(0.0, total - sum(seconds.values()))
        payers = list(seconds) or list(self._saved)
        for name in payers:
            self._saved[name] -= seconds.get(name, 0.0) + (total - sum(seconds.values())) / len(payers)
        self._give_away(list(seconds))
        self._seen = now()

    def _give_away(self, taken: list[str]) -> None:
        """Give what measures have beyond their next time to those that were not taken."""
        waiting = [name for name in self._saved if name not in taken]
        for name in taken if waiting else ():
            surplus = max(0.0, self._saved[name] - self._costs[name] - self._common)
            self._saved[name] -= surplus
            for other in waiting:
                self._saved[other] += surplus / len(waiting)
