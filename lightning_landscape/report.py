"""The report of a pass: what it took, how well its values are known, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Interpolation:
    """The errors of the points that were not evaluated, as shares of a metric's range.

    Args:
        tolerance: the largest error that was allowed; None for as small as the time allows.
        judged: the metrics that had to be within the tolerance.
        errors: of each metric, estimated at points that were left out.
        log_errors: the same of the logarithms, as shares of their range, where these were interpolated.
        methods: how each metric was interpolated.
        tiles: the error of each tile.
    """

    tolerance: float | None = None
    judged: list[str] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    log_errors: dict[str, float] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    tiles: list[float] = field(default_factory=list)

    def forget(self, metric: str) -> None:
        """Leave out a metric that the landscape has no longer."""
        for table in (self.errors, self.log_errors, self.methods):
            table.pop(metric, None)


@dataclass(frozen=True)
class RoundingError:
    """The differences between bfloat16 and float32, at points that were evaluated in both.

    Args:
        points: how many were checked.
        batches: on how many batches.
        largest: the largest difference of each metric; "samples" for the worst tile.
        share: the same as a share of the metric's range over these points.
    """

    points: int
    batches: int
    largest: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainModeLoss:
    """The loss at the centre in train mode, where it differs from that in eval mode.

    Args:
        value: the loss.
        standard_error: of the loss; NaN where unknown.
        reason: the parts of the module that make the difference.
    """

    value: float
    standard_error: float
    reason: str


@dataclass
class Report:
    """The time of a pass, its accelerations, its errors and its failures.

    Args:
        seconds: from its beginning to its last point, or the last record of its path.
        accelerations: what the points were measured with, and its gain in a trial; None where there was no trial.
        split_batches: the number of batches, where they did not fit into the memory as they were.
        interpolation: how well the points that were not evaluated are known; None if all were.
        rounding_error: of points in bfloat16; None for float32.
        train_mode_loss: at the centre, where it differs from that in eval mode.
        failure: the first error that cost a point.
        no_tiles: why single samples could not be measured.
        left_out: metrics without a surface, since they differ between the processes.
        no_path: why the path of the training, or the losses of some of its records, are missing.
    """

    seconds: float | None = None
    accelerations: dict[str, float | None] = field(default_factory=dict)
    split_batches: int | None = None
    interpolation: Interpolation | None = None
    rounding_error: RoundingError | None = None
    train_mode_loss: TrainModeLoss | None = None
    failure: str | None = None
    no_tiles: str | None = None
    left_out: list[str] = field(default_factory=list)
    no_path: str | None = None
