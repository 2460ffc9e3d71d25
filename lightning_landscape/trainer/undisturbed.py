"""Probe a module and its Trainer without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..distributed.ranks import from_first
from ..evaluators.modes import NO_FLAGS, Flags, put_in_mode, refuse_synchronised
from ..isolation.effects import one_pass, replace_writers
from ..isolation.module_copy import module_copy
from ..isolation.precision import preserve_matmul_precision
from ..isolation.rng import preserved
from ..objectives.lightning_step import Recorder
from ..weights.sharding import is_part
from . import compat
from .stand_ins import StandIns


@contextmanager
def undisturbed(trainer: Any, counters: compat.Counters | None = None) -> Iterator[None]:
    """A frame in which a step may be measured: on leaving, also by an exception, all is as it was.

    Kept: the random streams, the Trainer's attributes (its stage and loggers among them), grad mode, cuDNN's and the
    matmul settings, and the globals that the user's code reaches. What is measured inside must be a probe (`probing`)
    on batches of its own.

    Args:
        trainer: in the middle of its work.
        counters: that a step reads; None for the Trainer's of now.
    """
    benchmark = torch.backends.cudnn.benchmark
    with (
        one_pass(restores=True),
        preserved(),
        preserve_matmul_precision(),
        compat.muted(trainer, compat.Lent(StandIns(compat.optimizer_classes()), counters)),
        # Trainer.validate runs in inference mode, whose tensors could never be moved outside of it.
        torch.inference_mode(False),
        torch.no_grad(),
    ):
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark


def probe_copy(
    trainer: Any, module: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS
) -> tuple[nn.Module, Recorder]:
    """A copy of a LightningModule that is ours to move, and the recorder of what it logs.

    The copy shares the Trainer, the data and locks with the original, but no open file, no parameter, buffer or
    metric state. Other things that can't be copied are not in it: a step that uses one is told its name. It is in
    `mode` (see `put_in_mode`), needs no gradients, logs to the recorder, prints nothing, and its optimisers and
    schedulers move nothing: a step of manual optimisation gives its loss.

    Raises:
        UncopyablePartError: if a part of the module can't be copied.
    """
    stand_ins = compat.lent(trainer).stand_ins
    with stand_ins.met_by_copies(), replace_writers():
        probe = module_copy(module, memo_of(trainer), stand_ins)
    compat.drop_compiled_closures(probe)
    if _addresses(probe) & _addresses(module):
        raise RuntimeError(f"A copy of {type(module).__name__} shares parameters with the original.")
    for originals, copies in ((module.parameters(), probe.parameters()), (module.modules(), probe.modules())):
        stand_ins.copies |= {id(a): b for a, b in zip(originals, copies, strict=True)}
    return probe, silenced(trainer, probe, mode, flags)


def _addresses(module: nn.Module) -> set[int]:
    """The addresses of the parameters' values, empty and meta parameters aside."""
    return {p.data_ptr() for p in module.parameters() if p.numel() and not p.is_meta}


def silenced(trainer: Any, probe: nn.Module, mode: str = "eval", flags: Flags = NO_FLAGS) -> Recorder:
    """Put a probe into its mode, tell it rank 0's buffers, and let it log to the recorder that comes back.

    Args:
        trainer: whose strategy connects the ranks.
        probe: what is ours to change.
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
    recorder = Recorder()
    compat.lend(trainer, probe)
    for part in probe.modules():
        if compat.is_lightning_module(part):
            _disarm(part, trainer, recorder)
        if hasattr(part, "_to_sync"):  # a torchmetrics object: the first flag alone still syncs, and hangs
            part.sync_on_compute = part._to_sync = False  # type: ignore[assignment]
    return recorder


def _disarm(module: nn.Module, trainer: Any, recorder: Recorder) -> None:
    module.trainer = trainer  # a LightningModule's own __getstate__ drops it
    module.__dict__.update(
        log=recorder.log,
        log_dict=recorder.log_dict,
        print=_nothing,
        manual_backward=_backward,
        toggle_optimizer=_nothing,
        untoggle_optimizer=_nothing,
        toggled_optimizer=lambda optimizer: nullcontext(),
        clip_gradients=_nothing,
    )


def _backward(loss: Tensor, *args: Any, **options: Any) -> None:
    """Fill the gradients of the probe's parameters, where a step that reads them is measured with autograd."""
    if torch.is_grad_enabled() and loss.requires_grad:
        loss.backward(*args, **options)


def _nothing(*args: Any, **options: Any) -> None:
    """Do nothing."""


def memo_of(trainer: Any) -> dict[int, Any]:
    """The Trainer's objects that a copy of the module gets, by the ids of the originals.

    Each object is given as itself, as a copy or as a stand-in.
    """
    memo: dict[int, Any] = {id(o): o for o in compat.shared_objects(trainer) if o is not None}
    lent = compat.lent(trainer)
    memo |= {id(original): copied for original, copied in (*lent.twins, *lent.silent)}
    return memo | {id(o): lent.stand_ins.of(o) for o in compat.optimizers_and_schedulers(trainer)}
