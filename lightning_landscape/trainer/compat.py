"""Every private Lightning name that we touch, for both namespaces (`lightning.pytorch`, `pytorch_lightning`)."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn

from ..isolation.copying import private_copy

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.loops import _EvaluationLoop, _FitLoop
    from lightning.pytorch.utilities.combined_loader import CombinedLoader

log = logging.getLogger(__name__)
PACKAGE = __name__.partition(".")[0]  # ours
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


def _namespace(trainer: Trainer) -> str:
    """The name of the namespace that `trainer` is from."""
    return next(name for name in NAMESPACES for c in type(trainer).__mro__ if c.__module__.startswith(name))


def _submodule(trainer: Trainer, path: str) -> ModuleType:
    """A module of the namespace that `trainer` is from, e.g. ``utilities.exceptions``."""
    return importlib.import_module(f"{_namespace(trainer)}.{path}")


def version(trainer: Trainer) -> str:
    """The version of the Lightning that the Trainer is from."""
    namespace = _namespace(trainer)
    return f"{namespace} {sys.modules[namespace].__version__}"


def misconfiguration(trainer: Trainer, message: str) -> Exception:
    """Lightning's exception for a wrong set-up, of the Trainer's own namespace."""
    return _submodule(trainer, "utilities.exceptions").MisconfigurationException(message)


def is_overridden(name: str, instance: object) -> bool:
    """True if a LightningModule or LightningDataModule implements a hook itself."""
    if name in vars(instance):  # torch.compile puts its steps there
        return True
    hook = getattr(type(instance), name, None)
    return hook is not None and not any(hook.__module__.startswith(f"{root}.core") for root in NAMESPACES)


def takes_iterator(name: str, module: nn.Module) -> bool:
    """True if a step of a LightningModule draws its batches itself, from a loader's iterator."""
    return "dataloader_iter" in inspect.signature(getattr(module, name)).parameters


_ROOTS = {"lightning", "pytorch_lightning", "lightning_fabric"}  # the last is of pytorch_lightning


def _has_class(value: object, name: str) -> bool:
    """True if `value` is of Lightning's class `name`, in either namespace."""
    return any(c.__name__ == name and c.__module__.split(".")[0] in _ROOTS for c in type(value).__mro__)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The Trainer's callbacks."""
    return vars(trainer)["callbacks"]


def is_smoke_test(trainer: Trainer) -> bool:
    """True with fast_dev_run, which runs everything once."""
    return bool(vars(trainer)["fast_dev_run"])


def running_method(trainer: Trainer) -> str:
    """The name of the Trainer's method that runs: "fit", "validate", "test" or "predict"; "" for none."""
    return "" if trainer.state.fn is None else trainer.state.fn.value


def _callbacks_named(trainer: Trainer, name: str) -> list[Any]:
    """The Trainer's callbacks of Lightning's class `name`."""
    return [callback for callback in callbacks_of(trainer) if _has_class(callback, name)]


def info(trainer: Trainer, message: str) -> None:
    """Write a line to the log of the first process only."""
    _submodule(trainer, "utilities.rank_zero").rank_zero_info(message)


def warn(trainer: Trainer, message: str) -> None:
    """Warn from the first process only.

    Where warnings are errors, the message goes to the log: it must not end a training.
    """
    try:
        _submodule(trainer, "utilities.rank_zero").rank_zero_warn(message, stacklevel=2)
    except Warning:
        log.warning(message)


def training_step_count(trainer: Trainer) -> int:
    """The step that loggers are given, as by Lightning's LearningRateMonitor."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped) if trainer.fit_loop.epoch_loop else 0


def flags_before_evaluation(trainer: Trainer) -> dict[str, bool]:
    """The training flags of a module's parts, by name, before `Trainer.validate` or `test` put it into eval mode."""
    loop = trainer.validate_loop if trainer.state.fn == "validate" else trainer.test_loop
    return dict(loop._module_mode.mode)


def checkpoint_progress(checkpoint: dict[str, Any]) -> dict[str, int]:
    """The step and epoch of the training that a checkpoint is of, counted as `training_step_count` does."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_loop.state_dict", {})
    step = loop.get("_batches_that_stepped", checkpoint.get("global_step"))
    progress = {"step": step, "epoch": checkpoint.get("epoch")}
    return {name: int(value) for name, value in progress.items() if value is not None}


def batch_size(trainer: Trainer, data: object, fallback: int) -> int:
    """The number of samples in a batch, by Lightning's own rule.

    Lightning gives a batch this number as its weight in `self.log`. The rule looks into all that can be iterated, where
    a batch may raise anything. A batch that raises gets `fallback`.
    """
    utilities = _submodule(trainer, "utilities.data")
    try:
        return int(next(size for size in utilities._extract_batch_size(data) if size is not None))
    except Exception:  # noqa: BLE001  # Lightning would raise it as well, unless self.log is told the size
        return fallback


def _loops(trainer: Trainer, data: str) -> list[_FitLoop | _EvaluationLoop]:
    """The Trainer's loops over "train", "val" or "test"; that of a training comes first."""
    if data == "val":
        return [trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop]
    return [trainer.fit_loop if data == "train" else trainer.test_loop]


def combined_loader(trainer: Trainer, data: str) -> CombinedLoader | None:
    """The CombinedLoader that the Trainer already has for "train", "val" or "test"."""
    loops = _loops(trainer, data)
    return next((loop._combined_loader for loop in loops if loop._combined_loader is not None), None)


def combine(trainer: Trainer, loaders: Any, mode: str) -> CombinedLoader:
    """A new CombinedLoader over any structure of loaders; over those of another one, in the mode of that."""
    if hasattr(loaders, "flattened"):
        loaders, mode = loaders.iterables, loaders._mode
    return _submodule(trainer, "utilities.combined_loader").CombinedLoader(loaders, mode)


def is_sequential(combined: CombinedLoader) -> bool:
    """True if a CombinedLoader gives the batches of one loader after those of another."""
    return combined._mode == "sequential"


def users_sampler(sampler: Any) -> Any:
    """The sampler that the user gave, where Lightning has put it into one that shares it among processes."""
    return sampler.dataset._sampler if _has_class(sampler, "DistributedSamplerWrapper") else sampler


def passed_loaders(trainer: Trainer, data: str) -> Any:
    """The loaders handed to fit/validate/test themselves, or None where a hook gives them."""
    source = _loops(trainer, data)[-1 if trainer.state.fn == "validate" else 0]._data_source
    return None if source.instance is None or source.is_module() else source.instance


def shared_objects(trainer: Trainer) -> Iterator[object]:
    """The objects that a module and its copy must share: the Trainer and all that belongs to it."""
    yield from (trainer, _datamodule(trainer), trainer.strategy, *trainer.loggers, *callbacks_of(trainer))
    for data in DATA:
        combined = combined_loader(trainer, data)
        for loader in [passed_loaders(trainer, data), combined, *(combined.flattened if combined is not None else [])]:
            yield loader
            yield getattr(loader, "dataset", None)


def drop_compiled_closures(module: nn.Module) -> None:
    """Make a copy of a `torch.compile`d LightningModule evaluate itself.

    Compiling leaves closures over the ORIGINAL module on the instance. With them, a copy would evaluate the original
    and show a flat surface without any error.
    """
    for part in module.modules():
        if getattr(part, "_compiler_ctx", None) is not None:
            for name in ("forward", *STEPS.values(), "predict_step"):
                part.__dict__.pop(name, None)
            part._compiler_ctx = None  # type: ignore[assignment]


def is_lightning_module(module: nn.Module) -> TypeGuard[LightningModule]:
    """True if a module is a LightningModule of either namespace."""
    return _has_class(module, "LightningModule")


class Counters:
    """The Trainer's counters (epoch, step, batch) as a training step reads them.

    Args:
        trainer: at the start of its training.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._all = counters(trainer)
        epochs = [trainer.fit_loop.epoch_progress, *vars(trainer.fit_loop.epoch_progress).values()]
        self._of_epochs = {id(progress) for progress in epochs}
        self._recorded: list[dict[str, Any]] = []
        self._now: list[dict[str, Any]] = []

    def record(self) -> None:
        """Remember the present counters; called before each training step."""
        self._recorded = [dict(vars(progress)) for progress in self._all]

    def begin(self) -> None:
        """Remember the present counters as those after the steps; called before the first `show`."""
        self._now = [dict(vars(progress)) for progress in self._all]

    def show(self, data: str) -> None:
        """Set the counters to what the last step on "train", "val" or "test" has read; `undisturbed` puts them back.

        A validation comes after the epoch's steps. It reads the epoch of the training, and the steps as they are now.
        """
        for progress, recorded, now in zip(self._all, self._recorded, self._now, strict=False):
            vars(progress).update(recorded if data == "train" or id(progress) in self._of_epochs else now)


def counters(trainer: Trainer) -> list[object]:
    """The objects in which the Trainer counts epochs, batches and steps."""
    return [o for o in owned_objects(trainer) if type(o).__module__.endswith("loops.progress")]


def owned_objects(trainer: Trainer) -> list[object]:
    """The Trainer and Lightning's own objects behind it: loops, counters, connectors, strategy, precision.

    The objects that signals write to are left out, and so are modules, callbacks, loggers and data modules.
    """
    result, seen, waiting = list[object](), {id(trainer)}, list[object]([trainer])
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


def _is_owned(item: object) -> bool:
    if type(item).__module__.split(".")[0] not in _ROOTS or isinstance(item, nn.Module | type):
        return False
    return hasattr(item, "__dict__") and not any(_has_class(item, name) for name in _NOT_OWNED)


def replace_by_copies(trainer: Trainer) -> list[tuple[object, object]]:
    """Give the Trainer copies of its callbacks and its datamodule; each comes with its original."""
    callbacks = [(callback, _callback_copy(callback)) for callback in callbacks_of(trainer)]
    datamodule = (_datamodule(trainer), datamodule_copy(trainer))
    vars(trainer).update(callbacks=[twin for _, twin in callbacks], datamodule=datamodule[1])
    return [(original, twin) for original, twin in (*callbacks, datamodule) if original is not twin]


def _callback_copy(callback: Callback) -> Callback:
    """A callback with the same attributes, and lists and dictionaries of its own.

    Progress bars and callbacks of this package are given as themselves.
    """
    if _has_class(callback, "ProgressBar") or type(callback).__module__.startswith(f"{PACKAGE}."):
        return callback
    twin = object.__new__(type(callback))
    vars(twin).update({k: copy.copy(v) if type(v) in (list, dict, set) else v for k, v in vars(callback).items()})
    return twin


def _datamodule(trainer: Trainer) -> LightningDataModule | None:
    return vars(trainer)["datamodule"]


def datamodule_copy(trainer: Trainer) -> Any:
    """A copy of the datamodule, so that hooks called for us change nothing in the user's; None where there is none."""
    original = _datamodule(trainer)
    shared = [o for o in shared_objects(trainer) if o is not original]
    return private_copy(original, shared) if original is not None else None


def silence(trainer: Trainer) -> list[tuple[object, object]]:
    """Let the Trainer validate, log nothing, write no checkpoint and measure no times.

    Gives each logger and experiment with the silent one that stands for it.
    """
    make_silent = _submodule(trainer, "loggers.logger").DummyLogger
    silent = [(logger, make_silent()) for logger in trainer.loggers]
    experiments = [(getattr(logger, "_experiment", None), twin.experiment) for logger, twin in silent]
    trainer.loggers = [twin for _, twin in silent]
    profiler = _submodule(trainer, "profilers").PassThroughProfiler()
    vars(trainer).update(profiler=profiler, save_checkpoint=lambda *args, **options: None)
    # Augmentation in transfer hooks is commonly gated on trainer.training.
    trainer.state.stage = _submodule(trainer, "trainer.states").RunningStage.VALIDATING
    return [*silent, *((experiment, twin) for experiment, twin in experiments if experiment is not None)]


def substitute(trainer: Trainer, probe: nn.Module, stand_in: Callable[[Any], Any]) -> None:
    """Make the probe the Trainer's module, and put stand-ins for the optimisers and schedulers of its strategy."""
    strategy, precision = trainer.strategy, vars(trainer.precision_plugin)
    strategy._optimizers = [stand_in(optimizer) for optimizer in strategy._optimizers]
    strategy._lightning_optimizers = [stand_in(optimizer) for optimizer in strategy._lightning_optimizers]
    strategy.lr_scheduler_configs = [
        replace(config, scheduler=stand_in(config.scheduler)) for config in strategy.lr_scheduler_configs
    ]
    strategy._lightning_module = strategy._model = probe  # type: ignore[assignment]  # a copy of a LightningModule
    if precision.get("scaler") is not None:
        precision["scaler"] = copy.deepcopy(precision["scaler"])


def optimizers_and_schedulers(trainer: Trainer, *, wrappers: bool = True) -> list[object]:
    """The user's optimisers and schedulers, and Lightning's `wrappers` around the optimisers."""
    strategy = trainer.strategy
    wrapping = strategy._lightning_optimizers if wrappers else []
    return [*strategy._optimizers, *wrapping, *(config.scheduler for config in strategy.lr_scheduler_configs)]


def optimizers(trainer: Trainer) -> list[torch.optim.Optimizer]:
    """The optimisers of a training, not Lightning's wrappers around them; none in an evaluation."""
    return list(trainer.strategy._optimizers)


def optimizer_classes() -> tuple[type, ...]:
    """The base classes of optimisers and schedulers: torch's, and Lightning's of each namespace that is imported."""
    wrappers = [sys.modules[f"{name}.core.optimizer"].LightningOptimizer for name in NAMESPACES if name in sys.modules]
    return (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, *wrappers)


def time_left(trainer: Trainer) -> float | None:
    """Seconds until a `Timer` ends the training, such as that of ``max_time``; None without one."""
    left = [timer.time_remaining() for timer in _callbacks_named(trainer, "Timer")]
    return min((seconds for seconds in left if seconds is not None), default=None)


def load_checkpoint(trainer: Trainer, path: str) -> dict[str, Any]:
    """The content of a checkpoint that this training has written, on the CPU."""
    load = trainer.strategy.checkpoint_io.load_checkpoint
    trusted = {"weights_only": False} if "weights_only" in inspect.signature(load).parameters else {}
    return dict(load(path, **trusted))


def is_spawned(trainer: Trainer) -> bool:
    """True if the Trainer works in a process that it started itself.

    Changes to the objects in a spawned process do not come back.
    """
    return _has_class(trainer.strategy.launcher, "_MultiProcessingLauncher")


@contextmanager
def on_its_device(trainer: Trainer, module: nn.Module) -> Iterator[None]:
    """Put a module back to the device where it was trained, until the block ends.

    At the end of a fit it is on the CPU.
    """
    module.to(trainer.strategy.root_device)
    try:
        yield
    finally:
        module.cpu()


@contextmanager
def averaged(trainer: Trainer, module: nn.Module) -> Iterator[str | None]:
    """Give `module` the weights that a WeightAveraging callback validates and saves, until the block ends.

    They are exchanged bit by bit, as the callback itself does for every validation. The context gives the callback's
    name, or None where there are no such weights yet.
    """
    for callback in _callbacks_named(trainer, "WeightAveraging") if trainer.state.fn == "fit" else ():
        model = callback._average_model
        if model is not None and model.n_averaged > 0:
            callback._swap_models(module)
            try:
                yield type(callback).__name__
            finally:
                callback._swap_models(module)
            return
    yield None


def updates_statistics_only(trainer: Trainer) -> bool:
    """True in the epoch after weight averaging that trains nothing and only takes BatchNorm's statistics anew."""
    return bool(getattr(trainer.fit_loop, "_skip_backward", False))


def step_context(trainer: Trainer, data: str) -> Callable[[], AbstractContextManager[Any]]:
    """The precision plugin's context around a step: autocast, default dtype."""
    return getattr(trainer.precision_plugin, f"{data}_step_context")


def unsupported(trainer: Trainer) -> str | None:
    """The reason why the Trainer's strategy is not supported; None if it is."""
    name = type(trainer.strategy).__name__
    if any(word in name for word in ("FSDP", "DeepSpeed", "XLA")):
        return f"{name} keeps the parameters where they can't be moved. Use ModelParallelStrategy (FSDP2) or DDP"
    if trainer.world_size > 1 and not name.startswith(("DDP", "ModelParallel")):
        return f"{name} runs {trainer.world_size} processes. Use DDP, in which processes share the points"
    return None


def places(trainer: Trainer) -> Iterator[tuple[type, dict[str, Any]]]:
    """Classes that hold the strategy's place among processes, each with the attributes of a single process."""
    strategy = trainer.strategy
    if hasattr(strategy, "parallel_devices"):
        # The root device is the one of these with the local rank.
        alone = {"parallel_devices": [strategy.root_device], "num_nodes": 1}
        yield type(strategy), {name: value for name, value in alone.items() if hasattr(type(strategy), name)}
    environment = getattr(strategy, "cluster_environment", None)
    if environment is not None:
        yield type(environment), {"world_size": 1, "global_rank": 0, "local_rank": 0, "node_rank": 0}


def reorder(trainer: Trainer, ours: type) -> None:
    """Put the callbacks of class `ours` after all others but before the checkpoints.

    Weight averaging copies its weights into the module in its own on_train_end: before that, we would see the raw
    weights. The list is a new one, because the Trainer iterates over the old one while it calls us.
    """

    def place(callback: Callback) -> int:
        return 2 if _has_class(callback, "Checkpoint") else 1 if isinstance(callback, ours) else 0

    vars(trainer)["callbacks"] = sorted(callbacks_of(trainer), key=place)  # keeps the order of equals
