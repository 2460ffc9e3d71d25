"""Every private Lightning name that we touch, for both namespaces (`lightning.pytorch`, `pytorch_lightning`)."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..isolation.copying import private_copy
from .stand_ins import StandIns

log = logging.getLogger(__name__)
NAMESPACES = ("lightning.pytorch", "pytorch_lightning")
DATA = ("train", "val", "test")
STEPS = {"train": "training_step", "val": "validation_step", "test": "test_step"}


def lightning_pytorch() -> ModuleType:
    """The namespace the user works in: the one already imported, else the one that is installed."""
    for name in NAMESPACES:
        if name in sys.modules:
            return sys.modules[name]
    for name in NAMESPACES:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name)
    raise ImportError("Neither lightning nor pytorch_lightning is installed: pip install lightning.")


def callback_bases() -> tuple[type, ...]:
    """The Callback class of each namespace that is imported by now; at least one."""
    lightning_pytorch()
    return tuple(sys.modules[name].Callback for name in NAMESPACES if name in sys.modules)


def _part(trainer: Any, path: str) -> ModuleType:
    """A module of the namespace that `trainer` is from, e.g. ``utilities.exceptions``."""
    root = next(name for name in NAMESPACES for c in type(trainer).__mro__ if c.__module__.startswith(name))
    return importlib.import_module(f"{root}.{path}")


def misconfiguration(trainer: Any, message: str) -> Exception:
    """Lightning's exception for a wrong set-up, of the Trainer's own namespace."""
    return _part(trainer, "utilities.exceptions").MisconfigurationException(message)


def is_overridden(name: str, instance: Any) -> bool:
    """True if a LightningModule or LightningDataModule implements a hook itself."""
    if name in vars(instance):  # torch.compile puts its steps there
        return True
    hook = getattr(type(instance), name, None)
    return hook is not None and not any(hook.__module__.startswith(f"{root}.core") for root in NAMESPACES)


def takes_iterator(name: str, module: Any) -> bool:
    """True if a step of a LightningModule draws its batches itself, from a loader's iterator."""
    return "dataloader_iter" in inspect.signature(getattr(module, name)).parameters


_ROOTS = {name.partition(".")[0] for name in NAMESPACES} | {"lightning_fabric"}  # of pytorch_lightning


def _has_class(thing: Any, name: str) -> bool:
    """True if `thing` is of Lightning's class `name`, in either namespace."""
    return any(c.__name__ == name and c.__module__.split(".")[0] in _ROOTS for c in type(thing).__mro__)


def info(trainer: Any, message: str) -> None:
    """A line in the log of the first process only."""
    _part(trainer, "utilities.rank_zero").rank_zero_info(message)


def warn(trainer: Any, message: str) -> None:
    """A warning from the first process only; in the log where warnings are errors, which must not end a training."""
    try:
        _part(trainer, "utilities.rank_zero").rank_zero_warn(message, stacklevel=2)
    except Warning:
        log.warning(message)


def training_step_count(trainer: Any) -> int:
    """The step that loggers are given: as LearningRateMonitor does."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped) if trainer.fit_loop.epoch_loop else 0


def flags_before_evaluation(trainer: Any) -> dict[str, bool]:
    """The training flags of a module's parts, by name, before `Trainer.validate` or `test` put it into eval mode."""
    loop = {"validate": trainer.validate_loop, "test": trainer.test_loop}[trainer.state.fn]
    return dict(loop._module_mode.mode)


def checkpoint_progress(checkpoint: dict[str, Any]) -> dict[str, int]:
    """The step and epoch of the training that a checkpoint is of, counted as `training_step_count` does."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_loop.state_dict", {})
    step = loop.get("_batches_that_stepped", checkpoint.get("global_step"))
    found = {"step": step, "epoch": checkpoint.get("epoch")}
    return {name: int(value) for name, value in found.items() if value is not None}


def batch_size(trainer: Any, data: Any, fallback: int) -> int:
    """The number of samples in a batch, by Lightning's own rule.

    Lightning gives a batch this number as its weight in `self.log`. The rule looks into all that can be iterated, where
    a batch may raise anything. A batch that raises gets `fallback`.
    """
    utilities = _part(trainer, "utilities.data")
    try:
        return int(next(size for size in utilities._extract_batch_size(data) if size is not None))
    except Exception:  # noqa: BLE001  # Lightning would raise it as well, unless self.log is told the size
        return fallback


def combined_loader(trainer: Any, data: str) -> Any:
    """The CombinedLoader that the Trainer already has for "train", "val" or "test", or None."""
    loops = {
        "train": [trainer.fit_loop],
        "val": [trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop],
        "test": [trainer.test_loop],
    }[data]
    return next((loop._combined_loader for loop in loops if loop._combined_loader is not None), None)


def combine(trainer: Any, loaders: Any, mode: str) -> Any:
    """A CombinedLoader over any structure of loaders."""
    return _part(trainer, "utilities.combined_loader").CombinedLoader(loaders, mode)


def loader_mode(combined: Any) -> str:
    """The mode in which a CombinedLoader puts its loaders together, e.g. "sequential"."""
    return str(combined._mode)


def users_sampler(sampler: Any) -> Any:
    """The sampler that the user gave, where Lightning has put it into one that shares it among processes."""
    return sampler.dataset._sampler if _has_class(sampler, "DistributedSamplerWrapper") else sampler


def passed_loaders(trainer: Any, data: str) -> Any:
    """The loaders handed to fit/validate/test themselves, or None where a hook gives them."""
    loop = {
        "train": trainer.fit_loop,
        "val": trainer.fit_loop.epoch_loop.val_loop,
        "test": trainer.test_loop,
    }[data]
    if trainer.state.fn == "validate" and data == "val":
        loop = trainer.validate_loop
    source = loop._data_source
    return None if source.instance is None or source.is_module() else source.instance


def shared_objects(trainer: Any) -> Iterator[Any]:
    """The objects that a module and its copy must share: the Trainer and all that belongs to it."""
    yield from (trainer, trainer.datamodule, trainer.strategy, *trainer.loggers, *trainer.callbacks)
    for data in DATA:
        passed = passed_loaders(trainer, data)
        combined = combined_loader(trainer, data)
        for loader in [passed, combined, *(combined.flattened if combined is not None else [])]:
            yield loader
            yield getattr(loader, "dataset", None)


def drop_compiled_closures(module: nn.Module) -> None:
    """Make a copy of a `torch.compile`d LightningModule evaluate itself.

    Compiling leaves closures over the ORIGINAL module on the instance; a copy would evaluate the original and
    show a flat surface without any error.
    """
    for part in module.modules():
        if getattr(part, "_compiler_ctx", None) is not None:
            for name in ("forward", *STEPS.values(), "predict_step"):
                part.__dict__.pop(name, None)
            part._compiler_ctx = None  # type: ignore[assignment]


def is_lightning_module(module: nn.Module) -> bool:
    """True if a module is a LightningModule of either namespace."""
    return _has_class(module, "LightningModule")


@dataclass(eq=False)
class Lent:
    """The objects that a step may reach in place of the user's while it is measured.

    Args:
        stand_ins: for optimisers and schedulers.
        counters: the Trainer's, as they were at the last training step; None for those of now.
        twins: copies of callbacks and datamodule, each beside its original.
        silent: loggers and experiments that write nothing, each beside its original.
    """

    stand_ins: StandIns
    counters: Counters | None = None
    twins: list[tuple[Any, Any]] = field(default_factory=list)
    silent: list[tuple[Any, Any]] = field(default_factory=list)


class Counters:
    """The Trainer's counters (epoch, step, batch) as a training step reads them.

    Args:
        trainer: at the start of its training.
    """

    def __init__(self, trainer: Any) -> None:
        self._all = counters(trainer)
        epochs = [trainer.fit_loop.epoch_progress, *vars(trainer.fit_loop.epoch_progress).values()]
        self._of_epochs = {id(progress) for progress in epochs}
        self._recorded: list[dict[str, Any]] = []
        self._now: list[dict[str, Any]] = []

    def record(self) -> None:
        """Remember the counters of now; called before each training step."""
        self._recorded = [dict(vars(progress)) for progress in self._all]

    def begin(self) -> None:
        """Remember the counters of now as those after the steps; called before the first `show`."""
        self._now = [dict(vars(progress)) for progress in self._all]

    def show(self, data: str) -> None:
        """Set the counters to what the last step on "train", "val" or "test" has read; `muted` puts them back.

        A validation comes after the epoch's steps: it reads the epoch of the training, and steps as they are now.
        """
        for progress, recorded, now in zip(self._all, self._recorded, self._now, strict=False):
            vars(progress).update(recorded if data == "train" or id(progress) in self._of_epochs else now)


def counters(trainer: Any) -> list[Any]:
    """The objects in which the Trainer counts epochs, batches and steps."""
    return [o for o in owned_objects(trainer) if type(o).__module__.endswith("loops.progress")]


def owned_objects(trainer: Any) -> list[Any]:
    """The Trainer and Lightning's own objects behind it: loops, counters, connectors, strategy, precision.

    Not what signals write to, nor modules, callbacks, loggers and data modules.
    """
    result, seen, waiting = [], {id(trainer)}, [trainer]
    while waiting:
        owner = waiting.pop()
        result.append(owner)
        for value in vars(owner).values():
            items = value.values() if isinstance(value, dict) else value if type(value) in (list, tuple) else ()
            for item in (value, *items):
                if id(item) not in seen and _is_owned(item):
                    seen.add(id(item))
                    waiting.append(item)
    return result


_NOT_OWNED = ("Callback", "Logger", "LightningDataModule", "LightningOptimizer", "_SignalConnector")


def _is_owned(item: Any) -> bool:
    if type(item).__module__.split(".")[0] not in _ROOTS or isinstance(item, nn.Module | type):
        return False
    return hasattr(item, "__dict__") and not any(_has_class(item, name) for name in _NOT_OWNED)


@contextmanager
def attributes_kept(owners: Iterable[Any]) -> Iterator[None]:
    """On leaving, every owner has the attributes that it had, and its containers their items."""
    kept = [(vars(owner), dict(vars(owner))) for owner in owners]
    held = [v for _, attributes in kept for v in attributes.values() if type(v) in (list, dict, set)]
    containers = [(value, value.copy()) for value in held]
    try:
        yield
    finally:
        for attributes, before in kept:
            for name in [n for n in attributes if n not in before]:
                del attributes[name]
            attributes.update({n: v for n, v in before.items() if attributes.get(n, attributes) is not v})
        for container, items in containers:
            container.clear()
            container.extend(items) if isinstance(container, list) else container.update(items)


@contextmanager
def muted(trainer: Any, lent: Lent) -> Iterator[None]:
    """The Trainer validates, its loggers write nothing, and what a step could reach through it are copies.

    At the end all of Lightning's own objects have the attributes that they had.
    """
    stages = _part(trainer, "trainer.states").RunningStage
    dummy = _part(trainer, "loggers.logger").DummyLogger
    with attributes_kept(owned_objects(trainer)):
        twins = [(callback, _twin(callback)) for callback in trainer.callbacks]
        if trainer.datamodule is not None:
            twins.append((trainer.datamodule, datamodule_copy(trainer)))
            trainer.datamodule = twins[-1][1]
        trainer.callbacks = [twin for _, twin in twins[: len(trainer.callbacks)]]
        lent.twins = [(original, twin) for original, twin in twins if original is not twin]
        for logger in trainer.loggers:
            silent = dummy()
            lent.silent.append((logger, silent))
            if getattr(logger, "_experiment", None) is not None:
                lent.silent.append((logger._experiment, silent.experiment))
        trainer.loggers = [dummy() for _ in trainer.loggers]
        trainer.profiler = _part(trainer, "profilers").PassThroughProfiler()
        trainer.save_checkpoint = lambda *args, **options: None
        # Augmentation in transfer hooks is commonly gated on trainer.training.
        trainer.state.stage = stages.VALIDATING
        trainer._lent = lent
        if lent.counters is not None:
            lent.counters.begin()
        try:
            yield
        finally:
            lent.stand_ins.close()


def lent(trainer: Any) -> Lent:
    """Within `muted`: what stands for the user's objects; outside, nothing does."""
    return getattr(trainer, "_lent", None) or Lent(StandIns())


def lend(trainer: Any, probe: nn.Module) -> None:
    """Within `muted`: the Trainer's module is the probe, and its optimisers and schedulers are stand-ins."""
    stand_in, strategy = lent(trainer).stand_ins.of, trainer.strategy
    strategy._optimizers = [stand_in(optimizer) for optimizer in strategy._optimizers]
    strategy._lightning_optimizers = [stand_in(optimizer) for optimizer in strategy._lightning_optimizers]
    strategy.lr_scheduler_configs = [
        replace(config, scheduler=stand_in(config.scheduler)) for config in strategy.lr_scheduler_configs
    ]
    strategy._lightning_module = strategy._model = probe
    precision = trainer.precision_plugin
    if getattr(precision, "scaler", None) is not None:
        precision.scaler = copy.deepcopy(precision.scaler)


def optimizers_and_schedulers(trainer: Any, *, wrappers: bool = True) -> list[Any]:
    """The user's optimisers and schedulers, and Lightning's `wrappers` around the optimisers."""
    strategy = trainer.strategy
    wrapping = strategy._lightning_optimizers if wrappers else []
    return [*strategy._optimizers, *wrapping, *(config.scheduler for config in strategy.lr_scheduler_configs)]


def optimizer_classes() -> tuple[type, ...]:
    """The base classes of optimisers and schedulers: torch's, and Lightning's of each namespace that is imported."""
    wrappers = [sys.modules[f"{name}.core.optimizer"].LightningOptimizer for name in NAMESPACES if name in sys.modules]
    return (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, *wrappers)


def _twin(callback: Any) -> Any:
    """A callback with the same attributes, and lists and dictionaries of its own; progress bars are shared."""
    if _has_class(callback, "ProgressBar") or type(callback).__module__.startswith(__package__):
        return callback
    twin = object.__new__(type(callback))
    vars(twin).update({k: copy.copy(v) if type(v) in (list, dict, set) else v for k, v in vars(callback).items()})
    return twin


@contextmanager
def clocks_stopped(trainer: Any, now: Any) -> Iterator[None]:
    """The time spent inside does not count against ``max_time``, nor in a `Timer` that still runs."""
    start = now()
    try:
        yield
    finally:
        for callback in trainer.callbacks:
            if _has_class(callback, "Timer"):
                for stage, began in callback._start_time.items():
                    ended = callback._end_time.get(stage)
                    if began is not None and (ended is None or ended < began):
                        callback._start_time[stage] = began + (now() - start)


def is_spawned(trainer: Any) -> bool:
    """True if the Trainer works in a process that it started itself.

    Changes to the objects in a spawned process do not come back.
    """
    return _has_class(trainer.strategy.launcher, "_MultiProcessingLauncher")


@contextmanager
def on_its_device(trainer: Any, module: nn.Module) -> Iterator[None]:
    """A module where it was trained; at the end of a fit it is on the CPU, and is again when the block ends."""
    module.to(trainer.strategy.root_device)
    try:
        yield
    finally:
        module.cpu()


@contextmanager
def averaged(trainer: Any, module: nn.Module) -> Iterator[str | None]:
    """Inside, `module` has the weights that a WeightAveraging callback validates and saves; gives the callback's name.

    They are exchanged bit by bit, as the callback itself does for every validation; None where there are none yet.
    """
    for callback in trainer.callbacks if trainer.state.fn == "fit" else ():
        if _has_class(callback, "WeightAveraging"):
            model = callback._average_model
            if model is not None and model.n_averaged > 0:
                callback._swap_models(module)
                try:
                    yield type(callback).__name__
                finally:
                    callback._swap_models(module)
                return
    yield None


def updates_statistics_only(trainer: Any) -> bool:
    """True if this epoch trains nothing and only takes BatchNorm's statistics anew.

    After weight averaging, one epoch takes BatchNorm's statistics anew.
    """
    return bool(getattr(trainer.fit_loop, "_skip_backward", False))


def step_context(trainer: Any, data: str) -> Any:
    """The precision plugin's context around a step: autocast, default dtype."""
    name = {"train": "train_step_context", "val": "val_step_context", "test": "test_step_context"}[data]
    return getattr(trainer.precision_plugin, name)


def unsupported(trainer: Any) -> str | None:
    """Why the Trainer's strategy is not supported, or None."""
    name = type(trainer.strategy).__name__
    if any(word in name for word in ("FSDP", "DeepSpeed", "XLA")):
        return f"{name} keeps the parameters where they can't be moved; with ModelParallelStrategy (FSDP2) they can"
    if trainer.world_size > 1 and not name.startswith(("DDP", "ModelParallel")):
        return f"{name} runs {trainer.world_size} processes; with DDP they share the points"
    return None


def places(trainer: Any) -> Iterator[tuple[type, dict[str, Any]]]:
    """Classes that hold the strategy's place among processes, each with the attributes of a single process."""
    strategy = trainer.strategy
    if hasattr(strategy, "parallel_devices"):
        # The root device is the one of these with the local rank.
        alone = {"parallel_devices": [strategy.root_device], "num_nodes": 1}
        yield type(strategy), {name: value for name, value in alone.items() if hasattr(type(strategy), name)}
    environment = getattr(strategy, "cluster_environment", None)
    if environment is not None:
        yield type(environment), {"world_size": 1, "global_rank": 0, "local_rank": 0, "node_rank": 0}


def datamodule_copy(trainer: Any) -> Any:
    """A copy of the datamodule, so that hooks called for us change nothing in the user's; or None."""
    shared = [o for o in shared_objects(trainer) if o is not trainer.datamodule]
    return private_copy(trainer.datamodule, shared) if trainer.datamodule is not None else None


def reorder(trainer: Any, ours: type) -> None:
    """Put the callbacks of class `ours` after all others but before the checkpoints.

    Weight averaging copies its weights into the module in its own on_train_end: listed before it, we would
    see the raw weights. A new list, because the Trainer iterates over the old one while it calls us.
    """

    def place(callback: Any) -> int:
        return 2 if _has_class(callback, "Checkpoint") else 1 if isinstance(callback, ours) else 0

    trainer.callbacks = sorted(trainer.callbacks, key=place)  # keeps the order of equals


def version(trainer: Any) -> str:
    """The version of the Lightning that the Trainer is from."""
    root = next(name for name in NAMESPACES for c in type(trainer).__mro__ if c.__module__.startswith(name))
    return f"{root} {sys.modules[root].__version__}"
