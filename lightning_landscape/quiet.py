"""Probe a module and its Trainer without leaving a trace."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from . import compat
from .copying import generator_copy, rebind
from .effects import one_pass, stand_in, writers_apart
from .parameters import is_refused
from .precision import matmul_precision_kept
from .ranks import from_first
from .rng import preserved
from .sharding import is_part
from .step import Recorder


@contextmanager
def undisturbed(trainer: Any) -> Iterator[None]:
    """Whatever happens inside, the training goes on as if nothing had: also after an exception.

    Kept: the random streams, the Trainer's attributes (its stage and loggers among them), grad mode, cuDNN's and the
    matmul settings, and the globals that the user's code reaches. What is measured inside must be a probe (`probing`)
    on batches of its own.
    """
    benchmark = torch.backends.cudnn.benchmark
    with (
        one_pass(puts_back=True),
        preserved(),
        matmul_precision_kept(),
        compat.muted(trainer),
        # Trainer.validate runs in inference mode, whose tensors could never be moved outside of it.
        torch.inference_mode(False),
        torch.no_grad(),
    ):
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark


def probe_copy(trainer: Any, module: nn.Module) -> tuple[nn.Module, Recorder]:
    """A copy of a LightningModule that is ours to move, and the recorder of what it logs.

    The copy shares the Trainer, the data and what can't be copied (locks) with the original, but no open file,
    no parameter, buffer or metric state. It is in eval mode, needs no gradients, logs to the recorder, prints
    nothing, and its optimisers and schedulers move nothing: a step of manual optimisation gives its loss.

    Raises:
        RuntimeError: if the module can't be copied.
    """
    memo = memo_of(trainer, module)
    try:
        with writers_apart():
            probe = copy.deepcopy(module, memo)
    except Exception as error:
        culprit = _uncopyable(module, memo_of(trainer, module))
        raise RuntimeError(
            f"{type(module).__name__} can't be copied for the landscape ({type(error).__name__}: {error}). Give "
            f"{culprit or 'the attribute'} that can't be copied a __deepcopy__, or keep it outside of the module."
        ) from error
    compat.drop_compiled_closures(probe)
    rebind(probe, memo)
    memo.clear()  # it holds the copy, and a cycle holds it: the memory would stay until the next collection
    shared = {p.data_ptr() for p in probe.parameters() if p.numel()}
    if shared & {p.data_ptr() for p in module.parameters() if p.numel()}:
        raise RuntimeError(f"A copy of {type(module).__name__} shares parameters with the original.")
    own = {id(p): q for p, q in zip(module.parameters(), probe.parameters(), strict=True)}
    return probe, silenced(trainer, probe, own)


def silenced(trainer: Any, probe: nn.Module, own: dict[int, nn.Parameter]) -> Recorder:
    """Put a probe into eval mode, tell it rank 0's buffers, and let it log to the recorder that comes back.

    Args:
        trainer: whose strategy connects the ranks.
        probe: what is ours to change.
        own: its parameters by the ids of those that the user's optimisers hold.
    """
    probe.eval()
    if trainer.world_size > 1:
        # Each rank has its own BatchNorm statistics; rank 0's are those that checkpoints keep.
        buffers = [buffer for buffer in probe.buffers() if not is_part(buffer)]
        for buffer, first in zip(buffers, from_first(trainer, [b.cpu() for b in buffers]), strict=True):
            buffer.copy_(first)
    recorder = Recorder()
    for part in probe.modules():
        if compat.is_lightning_module(part):
            _disarm(part, trainer, recorder, own)
        if hasattr(part, "_to_sync"):  # a torchmetrics object: the first flag alone still syncs, and hangs
            part.sync_on_compute = part._to_sync = False  # type: ignore[assignment]
    return recorder


def _uncopyable(module: nn.Module, memo: dict[int, Any]) -> str | None:
    """The attribute for which `copy.deepcopy` of a module fails, e.g. "self.net.cache (Cache)"."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                with writers_apart():
                    copy.deepcopy(value, dict(memo))
            except Exception:  # noqa: BLE001  # this is the one
                return f"{'.'.join(filter(None, ('self', path, name)))} ({type(value).__name__})"
    return None


def _disarm(module: nn.Module, trainer: Any, recorder: Recorder, own: dict[int, nn.Parameter]) -> None:
    module.trainer = trainer  # a LightningModule's own __getstate__ drops it
    optimizers = [NullOptimizer(optimizer, own) for optimizer in getattr(trainer, "optimizers", None) or []]
    schedulers = [NullOptimizer(c.scheduler, own) for c in getattr(trainer, "lr_scheduler_configs", None) or []]
    module.__dict__.update(
        log=recorder.log,
        log_dict=recorder.log_dict,
        print=_nothing,
        optimizers=lambda use_pl_optimizer=True: optimizers[0] if len(optimizers) == 1 else optimizers,
        lr_schedulers=lambda: (schedulers[0] if len(schedulers) == 1 else schedulers) if schedulers else None,
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


MOVING = {"load_state_dict", "add_param_group"} | {f"register_step_{when}_hook" for when in ("pre", "post")}


class NullOptimizer:
    """An optimiser or scheduler that can be read but moves nothing; a closure given to `step` is run for its loss.

    Args:
        original: the user's.
        own: the probe's parameters by the ids of the user's.
    """

    def __init__(self, original: Any, own: dict[int, nn.Parameter]) -> None:
        self._original = original
        groups = getattr(original, "param_groups", [])
        self._own = [own[id(p)] for g in groups for p in g["params"] if id(p) in own]
        self.param_groups = [{**g, "params": [own.get(id(p), p) for p in g["params"]]} for g in groups]

    def step(self, closure: Any = None, *args: Any, **options: Any) -> Any:
        """Run the closure, if it is one."""
        return closure() if callable(closure) else None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the probe's own parameters."""
        for parameter in self._own:
            parameter.grad = None

    def toggle_model(self, sync_grad: bool = True) -> Any:
        """As LightningOptimizer's."""
        return nullcontext()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing if name in MOVING else getattr(self._original, name)


def memo_of(trainer: Any, module: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` must not copy, by id: shared objects, and detached clones of tensors that it refuses."""
    memo: dict[int, Any] = {id(o): o for o in compat.shared_objects(trainer) if o is not None}
    memo |= {id(original): stand_in for original, stand_in in compat.stand_ins(trainer)}

    def scan(value: Any, depth: int = 0) -> None:
        if isinstance(value, Tensor):
            if is_refused(value):
                memo[id(value)] = value.detach().clone()
        elif isinstance(value, torch.Generator):
            memo[id(value)] = generator_copy(value)
        elif isinstance(value, dict | list | tuple | set) and depth < 4:
            for item in value.values() if isinstance(value, dict) else value:
                scan(item, depth + 1)
        elif isinstance(value, io.IOBase) and not isinstance(value, io.StringIO | io.BytesIO):
            memo[id(value)] = stand_in(value)
        elif isinstance(value, threading.Thread) or _connects(value):
            memo[id(value)] = value

    for part in module.modules():
        for key, value in vars(part).items():
            if key not in ("_modules", "_parameters"):
                scan(value)
    return memo


def _connects(value: Any) -> bool:
    """Whether a value connects threads or processes: a lock, a process group, what FSDP notes."""
    home = type(value).__module__
    foreign = home.startswith(("torch.distributed", "torch._C._distributed")) and not isinstance(value, nn.Module)
    return foreign or home in ("_thread", "threading")
