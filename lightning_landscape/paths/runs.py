"""Several runs on one plane: the principal components of all their records, through the mean of these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..directions import PCA, Site
from ..evaluators import Sequential
from ..objectives.base import Batch, Objective
from ..trajectory import Trajectory
from ..weights.parameters import Params, Snapshot, canonical_name, exact, norm, working_dtype
from ..weights.plane import Plane
from .project import Recorded, trajectory_of

Run = Recorded | Sequence[Params]
Ends = tuple[float, float]


class AllRecords(Sequence[Params]):
    """The records of several runs, one run after the other; each is read when it is asked for.

    Args:
        records: of each run.

    >>> first, second = [{"w": torch.zeros(1)}], [{"w": torch.ones(1)}, {"w": torch.ones(1)}]
    >>> both = AllRecords([first, second])
    >>> len(both), len(both[:-1]), both[1]
    (3, 2, {'w': tensor([1.])})
    """

    def __init__(self, records: Sequence[Sequence[Params]]) -> None:
        self._places = [(run, t) for run in records for t in range(len(run))]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Params: ...

    @overload
    def __getitem__(self, index: slice) -> AllRecords: ...

    def __getitem__(self, index: int | slice) -> Params | AllRecords:
        if isinstance(index, slice):
            chosen = AllRecords([])
            chosen._places = self._places[index]
            return chosen
        run, t = self._places[index]
        return run[t]


@dataclass(frozen=True, eq=False)
class SharedPlane:
    """The plane of several runs: through the mean of all their records, along the first principal components.

    Of all planes it has the least squared distance from the records. It is called as a kind of directions is.

    Args:
        runs: by name, the records of each.
        mean: of all records, with the statistics of BatchNorm.
        pca: the principal components.
        plane: with k directions of unit length.
    """

    runs: Mapping[str, Run]
    mean: dict[str, Tensor]
    pca: PCA
    plane: Plane

    @classmethod
    def of(cls, runs: Mapping[str, Run], module: nn.Module, k: int = 2) -> SharedPlane:
        """The plane of some runs.

        Args:
            runs: by name, a `Recorder`, or records of the weights, oldest first.
            module: of the same kind. It is moved to the mean of the records.
            k: the number of directions.

        Raises:
            ValueError: if there are fewer than two runs, one has no records, or records are of another module.
        """
        check_runs(runs, Snapshot.view(module).params)
        records = AllRecords([weights_of_run(run) for run in runs.values()])
        mean = mean_weights(records, Snapshot.view(module, buffers=True).params)
        move(module, mean)
        snapshot, pca = Snapshot.of(module), PCA(records)
        return cls(runs, mean, pca, Plane(snapshot.params, pca(snapshot, k)))

    def __call__(self, site: Site, k: int) -> tuple[Params, ...]:
        return self.plane.directions

    def recipe(self) -> dict[str, Any]:
        """The settings of the directions, as plain JSON values."""
        through = f"the mean of {self.pca.recorded} records"
        return {**self.pca.recipe(), "runs": list(self.runs), "through": through}

    def paths(self) -> dict[str, Trajectory]:
        """The path of each run on the plane, with numbers of all its records."""
        return {name: _path(run, self.plane) for name, run in self.runs.items()}

    def end_distances(self) -> dict[str, dict[str, float]]:
        """‖θ_A − θ_B‖ between the last weights of each two runs, by their names."""
        ends = {name: weights_of_run(run)[-1] for name, run in self.runs.items()}
        return {a: {b: _distance(ends[a], ends[b], self.plane.origin) for b in ends} for a in ends}


def weights_of_run(run: Run) -> Sequence[Params]:
    """The records of the weights of a run, oldest first."""
    return run.weights if isinstance(run, Recorded) else run


def check_runs(runs: Mapping[str, Run], params: Params) -> None:
    """Raises ValueError unless there are two runs or more, whose records have these parameters."""
    if len(runs) < 2:
        raise ValueError(
            f"runs holds {len(runs)} run{'s' * (len(runs) != 1)} ({', '.join(runs) or 'none'}), and a plane of several "
            "needs at least 2: give a mapping of names to recorders. Of a single one, compute_2d with "
            "directions=PCA(recorder.weights) shows the path."
        )
    for name, run in runs.items():
        weights = weights_of_run(run)
        if not len(weights):
            raise ValueError(f"runs[{name!r}] has no record: call record(module, step) during its training.")
        for key, tensor in params.items():
            other = weights[-1].get(key)
            if other is None or other.shape != tensor.shape:
                known = "has none" if other is None else f"has shape {tuple(other.shape)}"
                raise ValueError(
                    f"runs[{name!r}] {known} for {key!r}, the net has {tuple(tensor.shape)}: all runs on a plane "
                    "have one architecture. Record the module that is measured."
                )


def mean_weights(records: Sequence[Params], like: Params) -> dict[str, Tensor]:
    """The mean of all records, accumulated in float64, in the types of `like`; one record is read at a time.

    Args:
        records: of the weights.
        like: the tensors to average. One that the records do not have stays as it is.

    >>> mean_weights([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}], {"w": torch.zeros(1)})
    {'w': tensor([2.5000])}
    """
    totals = {name: torch.zeros_like(exact(tensor), device="cpu") for name, tensor in like.items()}
    counts = dict.fromkeys(totals, 0)
    for t in range(len(records)):
        record = records[t]
        for name in totals.keys() & record.keys():
            totals[name] += exact(record[name].cpu())
            counts[name] += 1
    return {
        name: (total / counts[name]).to(like[name].device, like[name].dtype) if counts[name] else like[name].clone()
        for name, total in totals.items()
    }


def move(module: nn.Module, weights: Params) -> None:
    """Moves a module to some weights, as far as it has them."""
    for name, tensor in Snapshot.view(module, buffers=True).params.items():
        if name in weights:
            tensor.copy_(weights[name])


def ranges_of_paths(paths: Mapping[str, Trajectory], margin: float = 0.15, least: float = 0.25) -> list[Ends]:
    """The ends of the axes that hold all paths, and a margin.

    Args:
        paths: on one plane.
        margin: beyond the paths, as a share of their span.
        least: the least span of an axis as a share of the widest one: a strip would show nothing of the surface.
    """
    points = np.concatenate([path.points for path in paths.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    spans = np.maximum(high - low, least * (high - low).max() or 1.0) * (1 + 2 * margin)
    middle = (low + high) / 2
    return [(float(m - s / 2), float(m + s / 2)) for m, s in zip(middle, spans, strict=True)]


def _path(run: Run, plane: Plane) -> Trajectory:
    """The path of one run on a plane."""
    weights = weights_of_run(run)
    path = run.trajectory(plane) if isinstance(run, Recorded) else trajectory_of(range(len(weights)), weights, plane)
    return path if path.history else replace(path, history=_history(path.steps, weights, plane.origin))


def _history(steps: NDArray[np.float64], weights: Sequence[Params], like: Params) -> dict[str, NDArray[np.float64]]:
    """The norm of each record, and its distance from the first one."""
    first, rows = weights[0], []
    for t in range(len(weights)):
        record = weights[t]
        rows.append((norm({name: record[name] for name in like}), _distance(record, first, like)))
    norms, distances = np.array(rows).T
    return {"step": steps, "norm": norms, "distance": distances}


def _distance(a: Params, b: Params, names: Params) -> float:
    """‖a − b‖ over some of the tensors."""
    return math.hypot(*(float(torch.linalg.vector_norm(exact(a[name].cpu()) - exact(b[name].cpu()))) for name in names))


def with_losses(
    path: Trajectory,
    weights: Sequence[Params],
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    evaluators: tuple[Sequential, Sequential],
) -> Trajectory:
    """A path with the loss of each record itself, and that of the plane where it is drawn.

    Args:
        path: of the records.
        weights: the records.
        objective: what is measured.
        plane: of the path.
        batches: the data.
        evaluators: one that takes the statistics of BatchNorm as recorded, and that of the plane.
    """
    as_recorded, of_plane = evaluators
    beside = [_values(found) for found in of_plane(objective, plane, path.points, batches)]
    measured = [next(_measured(as_recorded, objective, weights[t], plane, batches)) for t in range(len(weights))]
    everywhere = np.ones(len(path.steps), dtype=bool)
    return replace(path, losses=_by_metric(measured), plane_losses=_by_metric(beside), measured=everywhere)


def _measured(
    evaluator: Sequential, objective: Objective, record: Params, plane: Plane, batches: Sequence[Batch]
) -> Iterator[dict[str, float]]:
    """The values of one record, with its own statistics of BatchNorm."""
    buffers = {canonical_name(name): tensor for name, tensor in evaluator.module.named_buffers()}
    tensors = {name: t for name, t in (*buffers.items(), *plane.origin.items()) if name in record}
    origin = {name: record[name].to(t.device, t.dtype, copy=True) for name, t in tensors.items()}
    still = {name: torch.zeros_like(t, dtype=working_dtype(t.dtype)) for name, t in origin.items()}
    for found in evaluator(objective, Plane(origin, (still,)), np.zeros((1, 1)), batches):
        yield _values(found)


def _values(measured: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(measurement.value) for name, measurement in measured.items()}


def _by_metric(rows: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in rows[0]}
