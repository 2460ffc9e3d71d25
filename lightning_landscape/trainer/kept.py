"""The decisions that a run keeps from one landscape to the next, so that its landscapes can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from ..accelerations.trial import Choice
from ..survey.plan import Plan
from .cost import Cost


@dataclass
class Kept:
    """The decisions of a run; each is None until a landscape, or the rehearsal, has made it.

    Args:
        choice: the accelerations that were tried on this module. They are proved anew on the data of each landscape.
        cost: the time that measuring takes, as the rehearsal saw it.
        plan: the data and the fineness of all landscapes.
    """

    choice: Choice | None = None
    cost: Cost | None = None
    plan: Plan | None = None
