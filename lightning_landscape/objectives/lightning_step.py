"""The module's own step as an objective: its returned loss and every value that it logs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from ..isolation.effects import EffectGuard
from ..isolation.module_state import PythonState
from .base import Batch, Objective, Observation
from .batches import deep_copy, leaves

LOGGED_SUFFIX = "_logged"
REDUCTIONS = {
    "mean": "mean",
    "avg": "mean",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "amin": "min",
    "amax": "max",
}


class Recorder:
    """Takes the place of `self.log` and `self.log_dict` on the probe: keeps what one batch logs."""

    def __init__(self) -> None:
        self.observations: dict[str, Observation] = {}
        self.metrics: dict[str, Any] = {}
        self.batch = Batch(None, 1)
        self.several_loaders = False

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Same signature as `LightningModule.log`."""
        if self.several_loaders and options.get("add_dataloader_idx", True):
            name = f"{name}/dataloader_idx_{self.batch.loader}"
        if hasattr(value, "compute") and hasattr(value, "update"):
            self.metrics[name] = value
            return
        reduce_fx = options.get("reduce_fx", "mean")
        how = REDUCTIONS.get(reduce_fx if isinstance(reduce_fx, str) else getattr(reduce_fx, "__name__", ""), "mean")
        weight = options.get("batch_size") or self.batch.log_weight or self.batch.size
        if isinstance(value, Tensor):
            value = value.detach().mean() if value.ndim else value.detach()
        self.observations[name] = Observation(value, weight, how)

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **options: Any) -> None:
        """Same signature as `LightningModule.log_dict`."""
        for name, value in dictionary.items():
            self.log(name, value, **options)


class StepObjective(Objective):
    """``training_step``, ``validation_step`` or ``test_step`` of a probe, as users wrote it.

    The returned loss is called ``<data>_loss``; logged values keep the names that the user gave them. A value
    logged as ``<data>_loss`` which is not the returned loss is called ``<data>_loss_logged``.

    Args:
        module: the probe (see `quiet.probe_copy`), whose ``log`` is the recorder's.
        step: the name of the step.
        recorder: what the probe's `log` writes to.
        name: of the returned loss.
        context: entered around every step, e.g. the precision plugin's autocast.
        several_loaders: whether the batches come from several loaders in turn: then a step is told which one,
            and logged names say it, as in Lightning.
        others: objects beside the module whose state a step may change; it is put back with the module's.
        prepare: called before each point.
    """

    def __init__(
        self,
        module: nn.Module,
        step: str,
        recorder: Recorder,
        name: str,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        several_loaders: bool = False,
        others: Iterable[Any] = (),
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.prepare = prepare
        self.several_loaders = several_loaders
        self.step, self.recorder, self.name, self.context = getattr(module, step), recorder, name, context
        self._metrics: list[Any] = [m for m in module.modules() if hasattr(m, "_to_sync")]
        self._state = PythonState(module, others)
        self._positions = _positional_arguments(self.step)
        self._held_back = EffectGuard(module, self.step)
        self._edits_batches = self._returns = False
        self._whole: dict[str, float] = {}

    def start(self) -> None:
        """Metric states, python state and generators back to where the pass began."""
        self._state.restore()
        self.prepare()
        self._held_back.start()
        self.recorder.metrics.clear()
        self._whole.clear()
        self.recorder.several_loaders = self.several_loaders
        for metric in self._metrics:
            metric.reset()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`; the main loss, where the step returns one, comes first."""
        if batch.loader != self.recorder.batch.loader:
            self._compute_metrics()
        self.recorder.batch, self.recorder.observations = batch, {}
        data = batch.data
        arguments = (batch.index, batch.loader)[: self._positions - 1]
        if not self.several_loaders:
            arguments = arguments[:1]
        with self.context(), self._held_back:
            output = self.step(deep_copy(data) if self._edits_batches else copy.copy(data), *arguments)
        logged = self.recorder.observations
        loss: Tensor | float | None = returned_loss(output)
        if loss is None and self._returns:
            loss = float("nan")  # a step that skips a batch it does not like has no loss there
        if loss is None:
            return logged
        self._returns = True
        if self.name in logged:
            logged[self.name + LOGGED_SUFFIX] = logged.pop(self.name)
        return {self.name: Observation(loss, batch.size), **logged}

    def finish(self) -> dict[str, float]:
        """The torchmetrics objects that the step logged, computed over the whole set."""
        self._compute_metrics()
        return self._whole

    def _compute_metrics(self) -> None:
        """Compute the logged torchmetrics objects at the end of each loader, as Lightning does.

        A metric that several loaders update is not reset between the loaders.
        """
        for name, metric in self.recorder.metrics.items():
            with self._held_back:
                value = metric.compute()
            if not isinstance(value, Tensor) or value.numel() == 1:
                self._whole[name] = float(value)
        self.recorder.metrics.clear()

    def main(self, names: list[str]) -> str:
        """The returned loss; where a step returns none, the logged value that is called most like it."""
        wanted = [self.name, "loss", *(name for name in names if "loss" in name.lower()), *names]
        return next(name for name in wanted if name in names)

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See whether the step edits the batch it is given: if so, every call gets a copy of its own."""
        twin = Batch(deep_copy(batch.data), batch.size, batch.index, batch.loader)
        before, kept = _versions(twin.data), leaves(twin.data)  # kept alive, so that no id is used again
        self.start()
        self(module, twin)
        self._edits_batches = _versions(twin.data) != before
        del kept


def returned_loss(output: Any) -> Tensor | None:
    """The loss in what a step returned: a scalar tensor, or the entry "loss" of a mapping; else None.

    >>> import torch
    >>> returned_loss({"loss": torch.tensor(2.0), "logits": torch.zeros(3)})
    tensor(2.)
    """
    if isinstance(output, Mapping):
        output = output.get("loss")
    if isinstance(output, Tensor) and output.numel() == 1:
        return output.detach().reshape(())
    return None


def _positional_arguments(step: Callable[..., Any]) -> int:
    """The number of positional arguments a step takes, of (batch, batch_idx, dataloader_idx); 3 for ``*args``."""
    kinds = [p.kind for p in inspect.signature(step).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 3
    return sum(k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in kinds)


def _versions(data: Any) -> list[tuple[int, int]]:
    """Identity of every leaf of a batch, and how often it was edited."""
    return [(id(leaf), leaf._version if isinstance(leaf, Tensor) else 0) for leaf in leaves(data)]
