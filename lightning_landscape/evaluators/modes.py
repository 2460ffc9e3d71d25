"""Eval and train mode: the training flag of each part of a module, and what a loss is in the other mode."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ..objectives.base import Batch, CannotMeasureError, Objective
from ..report import TrainModeLoss

if TYPE_CHECKING:
    from ..weights.plane import Plane
    from . import Measurement, Measurements, Sequential

log = logging.getLogger(__name__)
MODES = ("eval", "train")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
Flags = Mapping[str, bool]
NO_FLAGS: Flags = MappingProxyType({})


def flags_of(module: nn.Module) -> dict[str, bool]:
    """The training flag of each part by its name, the module itself being "".

    >>> flags_of(nn.Sequential(nn.Dropout().eval()))
    {'': True, '0': False}
    """
    return {name: part.training for name, part in module.named_modules()}


def training_flags(module: nn.Module) -> dict[str, bool]:
    """`flags_of`; none of a module that is in eval mode as a whole, where they tell nothing of its training."""
    return flags_of(module) if is_training(module) else {}


def is_training(module: nn.Module) -> bool:
    """True if any part of a module is in train mode."""
    return any(part.training for part in module.modules())


def put_in_mode(module: nn.Module, mode: str, flags: Flags) -> None:
    """Put a module into eval mode; or into train mode, part by part as in its training.

    Args:
        module: a module that may be changed.
        mode: one of MODES.
        flags: of the parts in their training, by name; a part that is missing is in train mode. Without any, the
            module itself decides what its `train` does.
    """
    if mode == "eval":
        module.eval()
    elif not flags:
        module.train()
    else:
        for name, part in module.named_modules():
            part.training = flags.get(name, True)


def normalises_by_batch(module: nn.Module) -> bool:
    """True if some BatchNorm takes its statistics from the batch, since it is in train mode."""
    return any(part.training for part in module.modules() if isinstance(part, BATCH_NORMS))


def refuse_synchronised(module: nn.Module) -> None:
    """Raises CannotMeasureError for a SyncBatchNorm in train mode: it would wait for processes at other points."""
    for name, part in module.named_modules():
        if isinstance(part, nn.SyncBatchNorm) and part.training:
            raise CannotMeasureError(
                f"mode='train': {name} is a SyncBatchNorm, whose statistics are of the batches of all processes. Here "
                "each process measures other points. Give mode='eval', or train in one process."
            )


def at_origin_in_train_mode(
    evaluator: Sequential, flags: Flags, make: Callable[[], Objective], plane: Plane, batches: Sequence[Batch]
) -> Measurements:
    """The measurements at the centre of an eval-mode landscape, taken in train mode; empty where that fails.

    Args:
        evaluator: of a module in eval mode, which it finds again.
        flags: as of `put_in_mode`.
        make: gives the objective, when the module is in train mode.
        plane: on which the landscape lies.
        batches: the frozen data.
    """
    try:
        with warnings.catch_warnings(), evaluator.in_train_mode(flags) as trained:
            warnings.simplefilter("ignore")  # nobody has asked for train mode
            return next(iter(trained(make(), plane, np.zeros((1, plane.ndim)), batches)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the landscape does not need it
        log.debug("not measured in train mode: %s: %s", type(error).__name__, error)
        return {}


def compared(
    name: str, evaluated: Measurement, trained: Measurement | None, module: nn.Module, flags: Flags
) -> tuple[str, TrainModeLoss | None]:
    """One line for the log and the part of a landscape's report, where a loss differs between modes; else nothing.

    Args:
        name: of the loss.
        evaluated: the loss in eval mode.
        trained: that in train mode, where it is known.
        module: the module that is measured.
        flags: as of `put_in_mode`.

    >>> from lightning_landscape.evaluators import Measurement
    >>> compared("loss", Measurement(1.25, 0.02), Measurement(0.5, math.nan), nn.Dropout(), {})[0]
    "loss at the centre: 1.25 ± 0.02 in eval mode, which is measured; 0.5 in train mode (dropout is off in eval mode). mode='train' measures that."
    """  # noqa: E501
    if trained is None or not differ(evaluated, trained):
        return "", None
    why = reasons(module, flags)
    in_eval_mode, in_train_mode = (
        f"{m.value:.4g} ± {m.standard_error:.2g}" if math.isfinite(m.standard_error) else f"{m.value:.4g}"
        for m in (evaluated, trained)
    )
    line = (
        f"{name} at the centre: {in_eval_mode} in eval mode, which is measured; {in_train_mode} in train mode ({why}). "
        "mode='train' measures that."
    )
    return line, TrainModeLoss(trained.value, trained.standard_error, why)


def differ(evaluated: Measurement, trained: Measurement) -> bool:
    """True if a loss differs between train and eval mode by more than 5 % and two standard errors.

    The 5 % and the standard errors are those of the loss in eval mode. An unknown error counts as none, since the data
    are the same in both.

    >>> from lightning_landscape.evaluators import Measurement
    >>> differ(Measurement(1.0, 0.02), Measurement(1.06, 0.02)), differ(Measurement(1.0, 0.01), Measurement(1.04, 0.01))
    (True, False)
    >>> differ(Measurement(1.0, 0.04), Measurement(1.06, 0.04)), differ(Measurement(1.0, 1.0), Measurement(math.inf, 0))
    (False, True)
    """
    if not (math.isfinite(evaluated.value) and math.isfinite(trained.value)):
        return math.isfinite(evaluated.value) or math.isfinite(trained.value)
    error = evaluated.standard_error if math.isfinite(evaluated.standard_error) else 0.0
    return abs(evaluated.value - trained.value) > max(0.05 * abs(evaluated.value), 2 * error)


def reasons(module: nn.Module, flags: Flags) -> str:
    """The reasons, in words, why a loss in train mode by these flags differs from one in eval mode.

    >>> reasons(nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), {"0": False})
    'dropout is off in eval mode'
    """
    training = [part for name, part in module.named_modules() if flags.get(name, True)]
    causes = []
    if any(getattr(part, "running_mean", None) is not None for part in training):
        causes.append("BatchNorm takes running statistics in eval mode, which lag behind early in a training")
    if any(_drops(part) for part in training):
        causes.append("dropout is off in eval mode")
    return "; ".join(causes) or "the module's code asks for its training flag"


def _drops(part: nn.Module) -> bool:
    chance = part.p if isinstance(part, DROPOUTS) else getattr(part, "dropout", 0.0)  # of attention and recurrent nets
    return isinstance(chance, int | float) and chance > 0


def only_in_train_mode(error: Exception) -> Exception:
    """The error of a loss that can be measured in train mode, but was not asked for in it.

    >>> only_in_train_mode(RuntimeError("no"))
    RuntimeError("no. In eval mode it fails; it works in train mode: give mode='train'.")
    >>> only_in_train_mode(ValueError("too many values to unpack"))
    RuntimeError("ValueError: too many values to unpack. In eval mode it fails; it works in train mode: give mode='train'.")
    """  # noqa: E501
    kind = CannotMeasureError if isinstance(error, CannotMeasureError) else RuntimeError
    text = f"{error}" if type(error) is kind else f"{type(error).__name__}: {error}"
    return kind(f"{text.removesuffix('.')}. In eval mode it fails; it works in train mode: give mode='train'.")
