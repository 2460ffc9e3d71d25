"""What a pass may move: a copy of the module, or the module itself where its parameters are sharded (FSDP2)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from . import compat
from .copying import rebind
from .one_process import forget_place, one_process
from .parameters import Snapshot, canonical_name
from .quiet import memo_of, probe_copy, silenced
from .sharding import AtRest, author_class, fsdp_parts, is_sharded, local
from .step import Recorder


@contextmanager
def probing(trainer: Any, module: nn.Module) -> Iterator[tuple[nn.Module, Recorder, Snapshot]]:
    """What is ours to move, the recorder of what it logs, and the parameters that stay.

    Call it inside `quiet.undisturbed`. The snapshot's tensors are not those that move.

    Raises:
        RuntimeError: if the module, or what a sharded one holds, can't be copied.
        ValueError: if no parameter may move.
    """
    sharded = is_sharded(module)
    with one_process(sharded, compat.places(trainer)):
        if sharded:
            with borrowed(trainer, module) as (recorder, snapshot):
                forget_place(module)
                yield module, recorder, snapshot
        else:
            probe, recorder = probe_copy(trainer, module)
            forget_place(probe)
            yield probe, recorder, Snapshot.of(module)


@contextmanager
def borrowed(trainer: Any, module: nn.Module) -> Iterator[tuple[Recorder, Snapshot]]:
    """A sharded module that is ours to move for a while: then it is as it was, bit by bit, also after an error.

    FSDP ties its notes to the very modules and parameters, so that these can't be copied. All else can: inside, the
    modules wear copies of their attributes (buffers, metric states, lists, hooks), and at the end their own again.
    The parameters that this process holds are moved and written back; their gradients are laid aside. Leaving needs
    no other process.
    """
    rest = AtRest(module)
    attributes = [(vars(part), dict(vars(part))) for part in module.modules()]
    parameters = dict(module.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    others = {name: (p.requires_grad, p.grad) for name, p in parameters.items()}
    try:
        snapshot = Snapshot.of(module)
        stays = {canonical_name(name): value for name, value in values.items()}
        recorder = _dressed(trainer, module)
        yield recorder, replace(snapshot, params={name: stays[name] for name in snapshot.params})
    finally:
        rest.restore()
        for worn, own in attributes:
            worn.clear()
            worn.update(own)
        with torch.no_grad():
            for name, parameter in parameters.items():
                local(parameter).copy_(local(values[name]))
                parameter.requires_grad, parameter.grad = others[name]


def _dressed(trainer: Any, module: nn.Module) -> Recorder:
    """Give every module of the tree copies of its attributes, and let it record instead of log.

    Raises:
        RuntimeError: if an attribute can't be copied.
    """
    parts = list(module.modules())
    fixed = [trainer, *parts, *module.parameters(), *(part._get_fsdp_state() for part in fsdp_parts(module))]
    memo = memo_of(trainer, module) | {id(thing): thing for thing in fixed}
    try:
        worn = [{k: v if k in _TREE else copy.deepcopy(v, memo) for k, v in vars(part).items()} for part in parts]
    except Exception as error:
        raise RuntimeError(
            f"What {author_class(module).__name__} holds can't be copied for the landscape "
            f"({type(error).__name__}: {error}). Give the attribute that can't be copied a __deepcopy__, or keep it "
            "outside of the module."
        ) from error
    for part, copies in zip(parts, worn, strict=True):
        vars(part).update(copies, **{name: copy.copy(vars(part)[name]) for name in _TREE})
    compat.drop_compiled_closures(module)
    rebind(module, memo)
    memo.clear()
    for parameter in module.parameters():
        parameter.grad = None
    return silenced(trainer, module, {id(p): p for p in module.parameters()})


_TREE = ("_modules", "_parameters")
