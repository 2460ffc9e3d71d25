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
from .batches import deep_copy, leaf_states, leaves

LOGGED_SUFFIX = "_logged"
REDUCTIONS = {"sum": "sum", "min": "min", "max": "max", "amin": "min", "amax": "max"}  # all others: "mean"


class LoggedValues:
    """The values that a step logs on one batch, by `log` and `log_dict` in place of the probe's.

    Attributes:
        observations: the numbers that were logged on this batch, by name.
        metrics: the torchmetrics objects that were logged since the loader began, by name.
        batch: the batch that the step is on.
        several_loaders: True if names get the number of the loader, as in Lightning.
    """

    def __init__(self) -> None:
        self.observations: dict[str, Observation] = {}
        self.metrics: dict[str, Any] = {}
        self.batch = Batch(None, 1)
        self.several_loaders = False

    def log(self, name: str, value: Tensor | float, *args: Any, **options: Any) -> None:
        """Same signature as `LightningModule.log`."""
        if self.several_loaders and options.get("add_dataloader_idx", True):
            name = f"{name}/dataloader_idx_{self.batch.loader}"
        if hasattr(value, "compute") and hasattr(value, "update"):
            self.metrics[name] = value
            return
        reduce_fx = options.get("reduce_fx", "mean")
        key = reduce_fx if isinstance(reduce_fx, str) else getattr(reduce_fx, "__name__", "")
        weight = options.get("batch_size") or self.batch.log_weight or self.batch.size
        if isinstance(value, Tensor):
            value = value.detach().mean() if value.ndim else value.detach()
        self.observations[name] = Observation(value, weight, REDUCTIONS.get(key, "mean"))

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **options: Any) -> None:
        """Same signature as `LightningModule.log_dict`."""
        for name, value in dictionary.items():
            self.log(name, value, **options)


class StepObjective(Objective):
    """A step of a probe as the user wrote it: ``training_step``, ``validation_step`` or ``test_step``.

    The returned loss is called ``<data>_loss``; logged values keep the names that the user gave them. A value
    logged as ``<data>_loss`` which is not the returned loss is called ``<data>_loss_logged``.

    Args:
        module: the probe (see `trainer.probe`), whose `log` is that of `logged`.
        step: the name of the step.
        logged: the values that the probe logs.
        name: of the returned loss.
        context: entered around every step, e.g. the precision plugin's autocast.
        several_loaders: True if the batches come from several loaders in turn. Then the step gets the number of the
            loader, and logged names contain it, as in Lightning.
        objects: further objects whose state a step may change; it is restored with the module's.
        prepare: called before each point.
    """

    def __init__(
        self,
        module: nn.Module,
        step: str,
        logged: LoggedValues,
        name: str,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        several_loaders: bool = False,
        objects: Iterable[object] = (),
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.step, self.logged, self.name, self.context = getattr(module, step), logged, name, context
        self.several_loaders, self.prepare = several_loaders, prepare
        self._metrics: list[Any] = [m for m in module.modules() if hasattr(m, "_to_sync")]
        self._state = PythonState(module, objects)
        self._positions = _positional_arguments(self.step)
        self._held_back = EffectGuard(module, self.step)
        self._edits_batches = self._returns_loss = False
        self._computed: dict[str, float] = {}

    def start(self) -> None:
        """Reset metrics, Python state and generators to the start of the pass."""
        self._state.restore()
        self.prepare()
        self._held_back.start()
        self.logged.metrics.clear()
        self._computed.clear()
        self.logged.several_loaders = self.several_loaders
        for metric in self._metrics:
            metric.reset()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`; the main loss, where the step returns one, comes first."""
        if batch.loader != self.logged.batch.loader:
            self._compute_metrics()
        self.logged.batch, self.logged.observations = batch, {}
        indices = (batch.index, batch.loader) if self.several_loaders else (batch.index,)
        data = deep_copy(batch.data) if self._edits_batches else copy.copy(batch.data)
        with self.context(), self._held_back:
            output = self.step(data, *indices[: self._positions - 1])
        observations = self.logged.observations
        loss: Tensor | float | None = returned_loss(output)
        if loss is None and self._returns_loss:
            loss = float("nan")  # the step has skipped this batch
        if loss is None:
            return observations
        self._returns_loss = True
        if self.name in observations:
            observations[self.name + LOGGED_SUFFIX] = observations.pop(self.name)
        return {self.name: Observation(loss, batch.size), **observations}

    def finish(self) -> dict[str, float]:
        """The torchmetrics objects that the step logged, computed over the whole set."""
        self._compute_metrics()
        return self._computed

    def _compute_metrics(self) -> None:
        """Compute the logged torchmetrics objects at the end of each loader, as Lightning does.

        A metric that several loaders update is not reset between the loaders.
        """
        for name, metric in self.logged.metrics.items():
            with self._held_back:
                value = metric.compute()
            if not isinstance(value, Tensor) or value.numel() == 1:
                self._computed[name] = float(value)
        self.logged.metrics.clear()

    def main(self, names: list[str]) -> str:
        """The returned loss; without one, the logged value with the most similar name."""
        candidates = [self.name, "loss", *(name for name in names if "loss" in name.lower()), *names]
        return next(name for name in candidates if name in names)

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Find out, on a copy of a batch, if the step edits it; then every call gets a copy."""
        twin = Batch(deep_copy(batch.data), batch.size, batch.index, batch.loader)
        before, originals = leaf_states(twin.data), leaves(twin.data)  # kept alive, so that no id is used again
        self.start()
        self(module, twin)
        self._edits_batches = leaf_states(twin.data) != before
        del originals


def returned_loss(output: object) -> Tensor | None:
    """The loss in the output of a step: a scalar tensor, or the entry "loss" of a mapping; else None.

    With its graph, where there is one.

    >>> import torch
    >>> returned_loss({"loss": torch.tensor(2.0), "logits": torch.zeros(3)})
    tensor(2.)
    """
    if isinstance(output, Mapping):
        output = output.get("loss")
    if isinstance(output, Tensor) and output.numel() == 1:
        return output.reshape(())
    return None


def _positional_arguments(step: Callable[..., Any]) -> int:
    """The number of positional arguments a step takes, of (batch, batch_idx, dataloader_idx); 3 for ``*args``."""
    parameters = inspect.signature(step).parameters.values()
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return 3
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
