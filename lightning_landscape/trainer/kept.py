"""The decisions that a run keeps from one landscape to the next, so that its landscapes can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from ..accelerations.trial import Choice


@dataclass
class Kept:
    """The decisions of a run; each is None until a landscape has made it.

    Args:
        choice: the accelerations that were tried on this module. They are proved anew on the data of each landscape.
    """

    choice: Choice | None = None
