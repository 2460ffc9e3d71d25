"""The recipe of a landscape: what it is a landscape of, in enough detail to make the same again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataRecipe:
    """The data of one surface.

    Args:
        samples: how many every point is measured on.
        batches: how many these make.
        checksum: of types, shapes and bits of all tensors; XXH3, 128 bits.
        choice: how the samples were chosen, in words.
        population: of how many samples they are a random part, none of them twice; None where nobody knows.
        available: how many there would be without a time limit; None where there was none.
    """

    samples: int
    batches: int | None = None
    checksum: str | None = None
    choice: str | None = None
    population: int | None = None
    available: int | None = None


@dataclass(frozen=True)
class DirectionsRecipe:
    """The k directions of the plane.

    Args:
        kind: e.g. "random", "pca", or the name of a user's callable.
        settings: of that kind, e.g. "seed" and "normalize".
        cosine: the largest |cosine| between two directions, with its sign.
        span: the dimensions that they span.
        lengths: the norm of each.
        axes: the names of the numbers that move, where there are no more than directions.
        moved_parameters: how many numbers move.
        resting_parameters: how many do not.
        dead_filters: filters of weight zero, which filter normalisation leaves at rest.
        checksum: of types, shapes and bits of the directions.
        labels: the directions in words, e.g. "gradient"; empty where their letters say enough.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    cosine: float = 0.0
    span: int | None = None
    lengths: list[float] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)
    moved_parameters: int | None = None
    resting_parameters: int | None = None
    dead_filters: int | None = None
    checksum: str | None = None
    labels: list[str] = field(default_factory=list)

    @property
    def normalize(self) -> str | None:
        """The scaling of the directions by the weights; None where it is unknown."""
        return self.settings.get("normalize")


@dataclass(frozen=True)
class RangeRecipe:
    """The range of an axis that was found, from -end to end (`find_range`).

    Args:
        end: in lengths of the direction.
        reason: the reason why it ends there, in words.
        samples: on how many samples it was found.
    """

    end: float
    reason: str
    samples: int = 0


@dataclass(frozen=True)
class Recipe:
    """The making of a landscape. None stands for an unknown entry.

    The mean over the samples is accumulated in float64. Standard errors are those of that mean.

    - Samples that are a random part of a known number stand for that number (finite population correction). Other
      samples stand for all data of their kind.
    - The errors come from the spread of single samples where the losses give it, else from that of random batches.
    - They are multiplied by t/2 of Student's t, so that ±2 cover 95.45 %.

    Args:
        module: the class of the module.
        objective: the step, or the function in its place.
        mode: "eval" or "train".
        seed: of the choice of data and of the random numbers that all points share.
        step: of the optimiser, at which the weights were taken.
        epoch: the number of finished epochs.
        weights: "the module's", what averaged them, or the checkpoint that they are from.
        weights_checksum: of types, shapes and bits; XXH3, 128 bits.
        data: the data of each surface, the main one first.
        data_of: the data on which each metric was measured.
        same_as_loss: names under which the step logged the loss itself, each with the name of that loss.
        directions: of the plane.
        ranges: those that were found, by the name of the axis; kept for all landscapes of a run.
        precision: of the numbers.
        rounding: "bf16" where points may be in bfloat16.
        tolerance: the largest error of interpolated points that was allowed, as a share of the range.
        budget: of the time, as it was given: "auto", "30s", 0.05; None for no limit.
        max_samples: of each data set, as it was given; None for all.
        planned_samples: of each data set, as the time allows; None without a budget.
        tiles: how many single samples have a landscape.
        dir_type: "weights", or "states" where buffers move too.
        recalibrate: True if the statistics of BatchNorm were computed anew at every point.
        versions: of the libraries.
    """

    module: str | None = None
    objective: str | None = None
    mode: str | None = None
    seed: int | None = None
    step: int | None = None
    epoch: int | None = None
    weights: str | None = None
    weights_checksum: str | None = None
    data: dict[str, DataRecipe] = field(default_factory=dict)
    data_of: dict[str, str] = field(default_factory=dict)
    same_as_loss: dict[str, str] = field(default_factory=dict)
    directions: DirectionsRecipe | None = None
    ranges: dict[str, RangeRecipe] = field(default_factory=dict)
    precision: str | None = None
    rounding: str | None = None
    tolerance: float | None = None
    budget: float | str | None = None
    max_samples: int | None = None
    planned_samples: int | None = None
    tiles: int = 0
    dir_type: str | None = None
    recalibrate: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> int | None:
        """The number of samples of the main data; None where it is not known.

        >>> Recipe(data={"train": DataRecipe(1024), "val": DataRecipe(512)}).samples
        1024
        """
        return next((data.samples for data in self.data.values()), None)

    def data_name(self, metric: str) -> str | None:
        """The data on which a metric was measured: the main data, unless `data_of` says another."""
        return self.data_of.get(metric, next(iter(self.data), None))
