"""The thresholds of a reading, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

# Directions that lead to other weights: their range is the way there, and their loss need not rise.
PATHS = ("between", "bezier", "joined")
# The letters of the axes in pictures.
GREEK = "αβγ"
# Criteria whose unit is the nat, as a recipe names them.
IN_NATS = ("CrossEntropyLoss", "cross_entropy")


@dataclass(frozen=True)
class ReadingSettings:
    """The thresholds of a reading, each with its reason.

    Args:
        rise_share: the rise, as a share of the loss at the centre, that counts as one. Smaller ones are lost in a
            picture of 30 colours.
        rise: the rise in units of the loss. For a cross-entropy it is a nat: the right class is e times less likely.
        rounding: the largest share of the centre that is no difference. Faster evaluators agree to it.
        clear_errors: the standard errors from which on a lower point counts as lower. Two cover 95 %.
        flat_errors: the standard errors below which a relief counts as flat. The highest of many points is often two
            above the mean by chance.
        noisy_share: the share of the relief that a standard error may be. Beyond it one of ten colours is noise.
        far_multiple: the multiple of the loss at the centre beyond which a point is far. Li et al.'s figures of
            minima reach some tens.
        far_least: the loss up to which no point is far. A classifier that guesses among 20,000 classes has about 10.
        far_share: the share of far points from which on a range is too large. The picture is then mostly rim.
        zero_share: the share of λ_max below which an eigenvalue may be zero. Lanczos runs are right to 1e-4.
        still_share: the share of the centre's loss that a fall along the gradient may have at a minimum or saddle. It
            is a tenth of `rise_share`.
        edge_share: the distance from 2/η, as a share of it, within which λ_max is at the edge. Full-batch training
            stays some per cent above it (Cohen et al. 2021).
        zoom: the factor by which a range is to be widened or narrowed. It keeps the centre a point of the grid.
    """

    rise_share: float = 0.1
    rise: float = 1.0
    rounding: float = 1e-6
    clear_errors: float = 2.0
    flat_errors: float = 3.0
    noisy_share: float = 0.1
    far_multiple: float = 100.0
    far_least: float = 10.0
    far_share: float = 0.5
    zero_share: float = 1e-3
    still_share: float = 0.01
    edge_share: float = 0.1
    zoom: float = 2.0


SETTINGS = ReadingSettings()
