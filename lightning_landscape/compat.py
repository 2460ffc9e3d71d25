"""Every private Lightning name that we touch, for both namespaces (`lightning.pytorch`, `pytorch_lightning`)."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from .copying import private_copy

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
    """Whether a LightningModule or LightningDataModule implements a hook itself."""
    if name in vars(instance):  # torch.compile puts its steps there
        return True
    hook = getattr(type(instance), name, None)
    return hook is not None and not any(hook.__module__.startswith(f"{root}.core") for root in NAMESPACES)


def takes_iterator(name: str, module: Any) -> bool:
    """Whether a step of a LightningModule draws its batches itself, from a loader's iterator, as Lightning lets it."""
    return "dataloader_iter" in inspect.signature(getattr(module, name)).parameters


_ROOTS = {name.partition(".")[0] for name in NAMESPACES} | {"lightning_fabric"}  # of pytorch_lightning


def _has_class(thing: Any, name: str) -> bool:
    """Whether `thing` is of Lightning's class `name`, in either namespace."""
    return any(c.__name__ == name and c.__module__.split(".")[0] in _ROOTS for c in type(thing).__mro__)


def warn(trainer: Any, message: str) -> None:
    """A warning from the first process only."""
    _part(trainer, "utilities.rank_zero").rank_zero_warn(message, stacklevel=2)


def training_step_count(trainer: Any) -> int:
    """The step that loggers are given: as LearningRateMonitor does."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped) if trainer.fit_loop.epoch_loop else 0


def checkpoint_progress(checkpoint: dict[str, Any]) -> dict[str, int]:
    """The step and epoch of the training that a checkpoint is of, counted as `training_step_count` does."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_loop.state_dict", {})
    step = loop.get("_batches_that_stepped", checkpoint.get("global_step"))
    found = {"step": step, "epoch": checkpoint.get("epoch")}
    return {name: int(value) for name, value in found.items() if value is not None}


def batch_size(trainer: Any, data: Any, fallback: int) -> int:
    """How many samples a batch holds, by Lightning's own rule (the weight it gives the batch in `self.log`).

    It looks into all that can be iterated, and a batch may raise anything there.
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
    """How a CombinedLoader puts its loaders together, e.g. "sequential"."""
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
    """What a copy of the module must share with the original: the Trainer and all that belongs to it."""
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
    """Whether a module is a LightningModule of either namespace."""
    return _has_class(module, "LightningModule")


@contextmanager
def muted(trainer: Any) -> Iterator[None]:
    """The Trainer validates, its loggers write nothing, and what a step could reach through it are copies.

    At the end it has all its attributes back, and its optimisers their rates.
    """
    stages = _part(trainer, "trainer.states").RunningStage
    dummy = _part(trainer, "loggers.logger").DummyLogger
    kept, stage = dict(vars(trainer)), trainer.state.stage
    groups = [(group, dict(group)) for optimizer in trainer.optimizers for group in optimizer.param_groups]
    twins = [(callback, _twin(callback)) for callback in trainer.callbacks]
    if trainer.datamodule is not None:
        twins.append((trainer.datamodule, datamodule_copy(trainer)))
        trainer.datamodule = twins[-1][1]
    trainer.callbacks = [twin for _, twin in twins[: len(trainer.callbacks)]]
    trainer._twins = [(original, twin) for original, twin in twins if original is not twin]
    trainer._unmuted_loggers = trainer.loggers
    trainer.loggers = [dummy() for _ in trainer.loggers]
    # Augmentation in transfer hooks is commonly gated on trainer.training.
    trainer.state.stage = stages.VALIDATING
    try:
        yield
    finally:
        trainer.state.stage = stage
        vars(trainer).clear()  # a step may set trainer.should_stop, or anything
        vars(trainer).update(kept)
        for group, values in groups:
            group.clear()
            group.update(values)


def _twin(callback: Any) -> Any:
    """A callback with the same attributes, and lists and dictionaries of its own; progress bars are shared."""
    if _has_class(callback, "ProgressBar") or type(callback).__module__.startswith(__package__):
        return callback
    twin = object.__new__(type(callback))
    vars(twin).update({k: copy.copy(v) if type(v) in (list, dict, set) else v for k, v in vars(callback).items()})
    return twin


def twins(trainer: Any) -> list[Any]:
    """Within `muted`: the copies of callbacks and datamodule."""
    return [twin for _, twin in getattr(trainer, "_twins", ())]


def stand_ins(trainer: Any) -> Iterator[tuple[Any, Any]]:
    """Within `muted`: what a module may have kept of the Trainer's, and what its copy gets for it."""
    yield from getattr(trainer, "_twins", ())
    dummy = _part(trainer, "loggers.logger").DummyLogger
    for logger in getattr(trainer, "_unmuted_loggers", ()):
        silent = dummy()
        yield logger, silent
        if getattr(logger, "_experiment", None) is not None:
            yield logger._experiment, silent.experiment


@contextmanager
def clocks_stopped(trainer: Any, now: Any) -> Iterator[None]:
    """The time spent inside does not count against ``max_time``."""
    start = now()
    try:
        yield
    finally:
        for callback in trainer.callbacks:
            starts = getattr(callback, "_start_time", None)
            if _has_class(callback, "Timer") and isinstance(starts, dict):
                for stage, began in starts.items():
                    if began is not None:
                        starts[stage] = began + (now() - start)


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
    """Whether this epoch trains nothing: after weight averaging, BatchNorm's statistics are taken anew in one."""
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
