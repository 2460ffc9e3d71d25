"""The probe: a copy of the module that a pass may move; or the user's own, where that can't be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..distributed.one_process import forget_ranks, one_process
from ..distributed.ranks import from_first
from ..evaluators.modes import NO_FLAGS, Flags, put_in_mode, refuse_synchronised
from ..isolation.copying import UncopyablePartError
from ..isolation.effects import replace_writers
from ..isolation.module_copy import ModuleCopier, module_copy
from ..isolation.observers import without_global_observers
from ..isolation.tensor_state import ScriptState
from ..objectives.lightning_step import LoggedValues
from ..weights.parameters import Snapshot, canonical_name
from ..weights.sharding import FSDPState, fsdp_parts, is_part, is_sharded, local
from . import compat
from .saved import Saved
from .undisturbed import substitutes_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


@contextmanager
def probing(
    trainer: Trainer, module: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS, saved: Saved | None = None
) -> Iterator[tuple[nn.Module, LoggedValues, Snapshot]]:
    """The module to move, the recorder of what it logs, and a snapshot of the parameters that stay.

    Call it inside `undisturbed`. The module to move is a copy where `module` can be copied, else `module` itself. It
    is in `mode`, as `put_in_mode` says. It has the weights of a checkpoint, if one is given: so has the snapshot,
    whose tensors are not those that move.

    Raises:
        UncopyablePartError: if what the module holds can't be copied, or a part of it where there are more processes.
        ValueError: if no parameter may move.
    """
    sharded = is_sharded(module)
    with one_process(sharded, compat.places(trainer)), without_global_observers(module):
        if not sharded:
            try:
                probe, recorder = probe_copy(trainer, module, mode, flags)
            except UncopyablePartError:
                if trainer.world_size > 1:  # DDP's hooks hang on the parameters
                    raise
            else:
                forget_ranks(probe)
                yield probe, recorder, Snapshot.view(module) if saved is None else _loaded(saved, probe)  # type: ignore[arg-type]
                return
        with probe_in_place(trainer, module, mode, flags) as (recorder, snapshot):
            forget_ranks(module)
            yield module, recorder, snapshot if saved is None else _loaded(saved, module)  # type: ignore[arg-type]


def _loaded(saved: Saved, probe: LightningModule) -> Snapshot:
    """The snapshot of a probe that has got the weights of a checkpoint."""
    saved.load_into(probe)
    return Snapshot.of(probe)


def probe_copy(
    trainer: Trainer, module: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS
) -> tuple[nn.Module, LoggedValues]:
    """A copy of a LightningModule that is ours to move, and the recorder of what it logs.

    The copy shares the Trainer, the data and locks with the original, but no parameter, buffer or metric state. Other
    objects that can't be copied are not in it: a step that uses one gets an error with its name. `set_up_probe` makes
    the copy ready for a step.

    Raises:
        UncopyablePartError: if a part of the module can't be copied.
    """
    stand_ins = substitutes_of(trainer).stand_ins
    with stand_ins.met_by_copies(), replace_writers():
        probe = module_copy(module, _memo(trainer), stand_ins)
    compat.drop_compiled_closures(probe)
    if _addresses(probe) & _addresses(module):
        raise RuntimeError(
            f"A copy of {type(module).__name__} shares parameters with the original: give it a __deepcopy__ that "
            "copies them."
        )
    for originals, copies in ((module.parameters(), probe.parameters()), (module.modules(), probe.modules())):
        stand_ins.copies |= {id(a): b for a, b in zip(originals, copies, strict=True)}
    return probe, set_up_probe(trainer, probe, mode, flags)


def _memo(trainer: Trainer) -> dict[int, Any]:
    """The memo for copying the module: for each of the Trainer's objects itself, a copy or a stand-in, by its id."""
    memo: dict[int, Any] = {id(o): o for o in compat.shared_objects(trainer) if o is not None}
    substitutes = substitutes_of(trainer)
    memo |= {id(original): twin for original, twin in (*substitutes.copies, *substitutes.silent)}
    return memo | {id(o): substitutes.stand_ins.of(o) for o in compat.optimizers_and_schedulers(trainer)}


def _addresses(module: nn.Module) -> set[int]:
    """The addresses of the parameters' values, empty and meta parameters aside."""
    return {p.data_ptr() for p in module.parameters() if p.numel() and not p.is_meta}


@contextmanager
def probe_in_place(
    trainer: Trainer, module: nn.Module, mode: str, flags: Flags
) -> Iterator[tuple[LoggedValues, Snapshot]]:
    """The user's module as a probe: at the end it is as it was, bit by bit, also after an error.

    Modules and parameters can't be copied where FSDP keeps notes on them, or a CUDA graph works on them. All else
    can. Inside, the modules have copies of their attributes (buffers, metric states, lists, hooks). The parameters that
    this process holds are moved and written back; their gradients and hooks are laid aside. Leaving needs no other
    process.
    """
    at_rest, script = FSDPState(module), ScriptState(module)
    attributes = [(vars(part), dict(vars(part))) for part in module.modules()]
    parameters = dict(module.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    laid_aside = {name: {key: getattr(p, key) for key in _LAID_ASIDE} for name, p in parameters.items()}
    memories = {} if is_sharded(module) else {name: p.data for name, p in parameters.items()}
    try:
        snapshot = Snapshot.view(module)
        originals = {canonical_name(name): value for name, value in values.items()}
        _replace_attributes(trainer, module)
        recorder = set_up_probe(trainer, module, mode, flags)
        yield recorder, replace(snapshot, params={name: originals[name] for name in snapshot.params})
    finally:
        at_rest.restore()
        for current, original in attributes:
            current.clear()
            current.update(original)
        script.restore()
        with torch.no_grad():
            for name, parameter in parameters.items():
                if name in memories:
                    parameter.data = memories[name]
                local(parameter).copy_(local(values[name]))
                for key, value in laid_aside[name].items():
                    setattr(parameter, key, value)


_TREE = ("_modules", "_parameters")
_LAID_ASIDE = ("requires_grad", "grad", "_backward_hooks", "_post_accumulate_grad_hooks")


def _replace_attributes(trainer: Trainer, module: nn.Module) -> None:
    """Give every module of the tree copies of its attributes, and lay the gradients and hooks of parameters aside.

    TorchScript modules hold their attributes outside of Python: `ScriptState` puts these back.

    Raises:
        UncopyablePartError: if a module or tensor among the attributes can't be copied.
    """
    parts = {name: part for name, part in module.named_modules() if not isinstance(part, torch.jit.ScriptModule)}
    shared = {id(o): o for o in (trainer, *(part._get_fsdp_state() for part in fsdp_parts(module)))}
    stand_ins = substitutes_of(trainer).stand_ins
    stand_ins.copies |= {id(o): o for o in (*module.modules(), *module.parameters())}
    copier = ModuleCopier(module, _memo(trainer) | shared, stand_ins, in_place=True)
    copies = []
    with stand_ins.met_by_copies(), replace_writers():
        for name, part in parts.items():
            originals = {key: value for key, value in vars(part).items() if key not in _TREE}
            copies.append(copier.attributes(originals, f"self.{name}".rstrip(".")))
    for part, attributes in zip(parts.values(), copies, strict=True):
        vars(part).update(attributes, **{name: copy.copy(vars(part)[name]) for name in _TREE})
    compat.drop_compiled_closures(module)
    copier.memo.clear()
    parameters: Any = module.parameters()
    for parameter in parameters:
        parameter.grad = parameter._backward_hooks = parameter._post_accumulate_grad_hooks = None


def set_up_probe(trainer: Trainer, probe: nn.Module, mode: str, flags: Flags) -> LoggedValues:
    """Make a probe the Trainer's module, in its mode and with rank 0's buffers; gives the recorder that it logs to.

    The probe prints nothing. Its optimisers and schedulers move nothing: a step of manual optimisation gives its loss.

    Args:
        trainer: whose strategy connects the ranks.
        probe: the module to move.
        mode, flags: as in `put_in_mode`.

    Raises:
        CannotMeasureError: if it could only be measured in step with other processes.
    """
    put_in_mode(probe, mode, flags)
    if trainer.world_size > 1:
        refuse_synchronised(probe)
        # Each rank has its own BatchNorm statistics; rank 0's are those that checkpoints keep.
        buffers = [buffer for buffer in probe.buffers() if not (is_part(buffer) or buffer.is_meta)]
        for buffer, first in zip(buffers, from_first(trainer, [b.cpu() for b in buffers]), strict=True):
            buffer.copy_(first)
    recorder = LoggedValues()
    compat.substitute(trainer, probe, substitutes_of(trainer).stand_ins.of)
    for part in probe.modules():
        if compat.is_lightning_module(part):
            _redirect_calls(part, trainer, recorder)
        if hasattr(part, "_to_sync"):  # a torchmetrics object: the first flag alone still syncs, and hangs
            part.sync_on_compute = part._to_sync = False  # type: ignore[assignment]
    return recorder


def _redirect_calls(module: LightningModule, trainer: Trainer, recorder: LoggedValues) -> None:
    """Let a LightningModule log to the recorder; its calls that write or train do nothing."""
    module.trainer = trainer  # a LightningModule's own __getstate__ drops it
    vars(module).update(dict.fromkeys(("print", "toggle_optimizer", "untoggle_optimizer", "clip_gradients"), _nothing))
    vars(module).update(log=recorder.log, log_dict=recorder.log_dict, manual_backward=_backward)
    vars(module).update(toggled_optimizer=lambda optimizer: nullcontext())


def _backward(loss: Tensor, *args: Any, **options: Any) -> None:
    """Fill the gradients of the probe's parameters, where a step that reads them is measured with autograd."""
    if torch.is_grad_enabled() and loss.requires_grad:
        loss.backward(*args, **options)


def _nothing(*args: Any, **options: Any) -> None:
    """Do nothing."""
