"""The module that a pass may move: a copy, or the user's own where a part of it can't be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..distributed.one_process import forget_ranks, one_process
from ..evaluators.modes import NO_FLAGS, Flags
from ..isolation.copying import UncopyablePartError
from ..isolation.effects import replace_writers
from ..isolation.module_copy import ModuleCopier
from ..isolation.observers import without_global_observers
from ..isolation.tensor_state import ScriptState
from ..objectives.lightning_step import Recorder
from ..weights.parameters import Snapshot, canonical_name
from ..weights.sharding import FSDPState, fsdp_parts, is_sharded, local
from . import compat
from .undisturbed import memo_of, probe_copy, silenced


@contextmanager
def probing(
    trainer: Any, module: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS
) -> Iterator[tuple[nn.Module, Recorder, Snapshot]]:
    """The module to move, the recorder of what it logs, and a snapshot of the parameters that stay.

    Call it inside `quiet.undisturbed`. The snapshot's tensors are not those that move. The module is in `mode`, as
    `put_in_mode` says.

    Raises:
        UncopyablePartError: if what the module holds can't be copied, or a part of it where there are more processes.
        ValueError: if no parameter may move.
    """
    sharded = is_sharded(module)
    with one_process(sharded, compat.places(trainer)), without_global_observers(module):
        copied = None if sharded else _copied(trainer, module, mode, flags)
        if copied is not None:
            forget_ranks(copied[0])
            yield *copied, Snapshot.view(module)
        else:
            with borrowed(trainer, module, mode, flags) as (recorder, snapshot):
                forget_ranks(module)
                yield module, recorder, snapshot


def _copied(trainer: Any, module: nn.Module, mode: str, flags: Flags) -> tuple[nn.Module, Recorder] | None:
    """A copy of the module, and the recorder of what it logs; None if one of its parts can't be copied."""
    try:
        return probe_copy(trainer, module, mode, flags)
    except UncopyablePartError:
        if trainer.world_size > 1:  # DDP's hooks hang on the parameters
            raise
        return None


@contextmanager
def borrowed(
    trainer: Any, module: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS
) -> Iterator[tuple[Recorder, Snapshot]]:
    """A module that is ours to move for a while: then it is as it was, bit by bit, also after an error.

    FSDP ties its notes, and a CUDA graph its work, to the very modules and parameters, so that these can't be copied.
    All else can: inside, the modules wear copies of their attributes (buffers, metric states, lists, hooks), and at
    the end their own again. The parameters that this process holds are moved and written back; their gradients and
    hooks are laid aside. Leaving needs no other process.
    """
    rest, script = FSDPState(module), ScriptState(module)
    attributes = [(vars(part), dict(vars(part))) for part in module.modules()]
    parameters = dict(module.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    others = {name: {key: getattr(p, key) for key in _LAID_ASIDE} for name, p in parameters.items()}
    memories = {} if is_sharded(module) else {name: p.data for name, p in parameters.items()}
    try:
        snapshot = Snapshot.view(module)
        stays = {canonical_name(name): value for name, value in values.items()}
        recorder = _dressed(trainer, module, mode, flags)
        yield recorder, replace(snapshot, params={name: stays[name] for name in snapshot.params})
    finally:
        rest.restore()
        for worn, own in attributes:
            worn.clear()
            worn.update(own)
        script.restore()
        with torch.no_grad():
            for name, parameter in parameters.items():
                if name in memories:
                    parameter.data = memories[name]
                local(parameter).copy_(local(values[name]))
                for key, value in others[name].items():
                    setattr(parameter, key, value)


def _dressed(trainer: Any, module: nn.Module, mode: str, flags: Flags) -> Recorder:
    """Give every module of the tree copies of its attributes, and let it record instead of log.

    TorchScript holds its own outside of Python: they are used, and put back.

    Raises:
        UncopyablePartError: if a module or tensor among the attributes can't be copied.
    """
    parts = [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]
    notes = {id(note): note for note in (trainer, *(part._get_fsdp_state() for part in fsdp_parts(module)))}
    stand_ins = compat.lent(trainer).stand_ins
    stand_ins.copies |= {id(thing): thing for thing in (*module.modules(), *module.parameters())}
    copier = ModuleCopier(module, memo_of(trainer) | notes, stand_ins, in_place=True)
    names = {id(part): name for name, part in module.named_modules()}
    worn = []
    with stand_ins.met_by_copies(), replace_writers():
        for part in parts:
            own = {key: value for key, value in vars(part).items() if key not in _TREE}
            worn.append(copier.attributes(own, f"self.{names[id(part)]}".rstrip(".")))
    for part, copies in zip(parts, worn, strict=True):
        vars(part).update(copies, **{name: copy.copy(vars(part)[name]) for name in _TREE})
    compat.drop_compiled_closures(module)
    copier.memo.clear()
    parameters: Any = module.parameters()
    for parameter in parameters:
        parameter.grad = parameter._backward_hooks = parameter._post_accumulate_grad_hooks = None
    return silenced(trainer, module, mode, flags)


_TREE = ("_modules", "_parameters")
_LAID_ASIDE = ("requires_grad", "grad", "_backward_hooks", "_post_accumulate_grad_hooks")
