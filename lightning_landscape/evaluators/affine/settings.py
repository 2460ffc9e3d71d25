"""The settings of the affine evaluator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AffineSettings:
    """Settings for the search for affine scores, and for the points that are computed from them.

    Args:
        max_bytes: of all that is recorded and made of it, in all streams.
        trial_bytes: of the record on the smallest batch.
        closed_form_factor: bytes that the closed form takes in all for each byte of its record.
        replay_factor: bytes that a replay takes in all for each byte of its record.
        numbers_at_once: numbers computed before the next point is given: a second or so.
        numbers_of_sum: numbers that cost as much as the sum of a batch at a point.
        tolerance: the allowed relative error of a value at the farthest point.
        min_rates: distinct values of an accuracy that must be seen before it is taken for one.
    """

    max_bytes: int = 2**31
    trial_bytes: int = 2**28
    closed_form_factor: int = 6
    replay_factor: int = 3
    numbers_at_once: int = 2**32
    numbers_of_sum: int = 128
    tolerance: float = 1e-6
    min_rates: int = 3


DEFAULT = AffineSettings()
