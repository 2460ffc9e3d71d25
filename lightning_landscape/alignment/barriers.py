"""The barriers between every two of several models, as they are or aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..barrier_matrix import BarrierMatrix
from ..directions.between import Weights
from ..evaluators.modes import BATCH_NORMS
from ..isolation.effects import replace_writers
from ..isolation.module_copy import module_copy
from ..loss_landscape import LossLandscape
from .align import align as align_models
from .align import load, require_scipy


def barriers(
    net: nn.Module,
    checkpoints: Mapping[str, Weights] | Sequence[Weights],
    dataloader: Iterable[Any],
    criterion: Callable[..., Any] | None = None,
    *,
    points: int = 11,
    align: bool = False,
    recalibrate: bool | None = None,
    **options: Any,
) -> BarrierMatrix:
    """The losses on the straight lines between every two of n models: n (n − 1) / 2 lines, on the same data.

    The average of two nets needs statistics of BatchNorm of its own: those of either, or their average, make the
    barrier look much higher than it is (REPAIR: Jordan et al. 2023). So they are computed anew, at the ends too.

    Args:
        net: a module of the architecture; its own weights are not used.
        checkpoints: modules, state dicts or files; a mapping gives them names.
        dataloader: as of `LossLandscape`.
        criterion: as of `LossLandscape`.
        points: on each line, its ends included.
        align: put the units of the second model of each pair in the order of those of the first (`align`).
        recalibrate: compute BatchNorm's statistics anew at every point, in twice the time. None if there are any.
        options: of `LossLandscape`: use_cuda, seed, max_batches, mode, accelerate.

    Raises:
        ImportError: with `align`, if scipy is not installed.
        ValueError: if there are less than 2 checkpoints or 3 points, or as `LossLandscape` and `align`.

    >>> nets = [nn.Linear(2, 1) for _ in range(3)]
    >>> matrix = barriers(nets[0], nets, [(torch.randn(8, 2), torch.randn(8, 1))], nn.MSELoss(), points=3)
    >>> matrix.barriers.shape, bool((matrix.barriers < 1e-6).all())  # a linear model has a convex loss
    ((3, 3), True)
    """
    names, sources = _named(checkpoints)
    if len(sources) < 2:
        raise ValueError(f"checkpoints holds {len(sources)}: a barrier is between two, so give at least 2.")
    if points < 3:
        raise ValueError(f"points={points!r}: give the points of a line, at least 3, e.g. 11.")
    if align:
        require_scipy("align=True")
    models = [_model(net, source, name) for name, source in zip(names, sources, strict=True)]
    if recalibrate is None:
        recalibrate = any(isinstance(m, BATCH_NORMS) and m.track_running_stats for m in net.modules())
    along = LossLandscape(models[0], dataloader, criterion, **options)
    lines = np.full((len(models), len(models), points), np.nan)
    errors = lines.copy()
    for i, j in zip(*np.triu_indices(len(models), 1), strict=True):
        target = align_models(models[i], models[j], dataloader).weights if align else models[j]
        along.net = models[i]
        along.compute_1d("target", (0, 1, points), "states", target_model=target, save=False, recalibrate=recalibrate)
        line = along.landscape
        for table, values in ((lines, line.loss), (errors, line.standard_errors[line.main])):
            table[i, j], table[j, i] = values, values[::-1]
            table[i, i], table[j, j] = values[0], values[-1]
    return BarrierMatrix(names, line.main, line.grid.axes[0], lines, errors, align, recalibrate)


def _named(checkpoints: Mapping[str, Weights] | Sequence[Weights]) -> tuple[tuple[str, ...], list[Weights]]:
    """Names and models: names of files where these differ, else numbers."""
    if isinstance(checkpoints, Mapping):
        return tuple(checkpoints), list(checkpoints.values())
    sources = list(checkpoints)
    stems = [Path(source).stem if isinstance(source, str | PathLike) else "" for source in sources]
    distinct = all(stems) and len(set(stems)) == len(stems)
    return tuple(stems if distinct else [str(i + 1) for i in range(len(sources))]), sources


def _model(net: nn.Module, source: Weights, name: str) -> nn.Module:
    """A copy of the net with the weights of a checkpoint."""
    with replace_writers(), torch.inference_mode(False):
        model = module_copy(getattr(net, "_orig_mod", net), {})
    try:
        load(model, source)
    except ValueError as error:
        raise ValueError(f"Checkpoint {name!r} does not fit: {error}") from error
    return model
