"""The best checkpoint of a training, to be measured beside the final weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..distributed.ranks import from_first
from ..weights.parameters import same_bits
from ..weights.sharding import is_sharded
from . import compat

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True, eq=False)
class Saved:
    """A checkpoint whose weights and buffers are measured in place of the module's.

    Args:
        name: of its file.
        checkpoint: what Lightning has written there.
        step: of the training, as landscapes count.
        epoch: the number of finished epochs before it.
    """

    name: str
    checkpoint: dict[str, Any]
    step: int
    epoch: int

    def load_into(self, probe: LightningModule) -> None:
        """Give a copy of the module the saved weights, as Lightning does: its hook first, and as strictly."""
        checkpoint = {**self.checkpoint, "state_dict": dict(self.checkpoint["state_dict"])}
        probe.on_load_checkpoint(checkpoint)
        probe.load_state_dict(checkpoint["state_dict"], strict=getattr(probe, "strict_loading", True))


class NoBestError(Exception):
    """There is no best checkpoint to be measured, for the reason in the message.

    Args:
        message: the reason, and what to do.
        is_final: True if the final weights are the best ones.
    """

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def best_checkpoint(trainer: Trainer, module: LightningModule) -> Saved:
    """The checkpoint that ``ckpt_path="best"`` would load. Every rank must call this function equally often.

    Args:
        trainer: at the end of its training.
        module: its LightningModule, with its final weights.

    Raises:
        NoBestError: if there is none, or its weights are the module's.
        Exception: whatever reading the file raises.
    """
    callback = trainer.checkpoint_callback
    path = from_first(trainer, str(getattr(callback, "best_model_path", "") or ""))
    if is_sharded(module):
        raise NoBestError("With sharded parameters only the final weights are measured.")
    if callback is None:
        raise NoBestError('The Trainer has no checkpoint callback. Add ModelCheckpoint(monitor="val_loss").')
    if not path:
        raise NoBestError(f"{type(callback).__name__} has saved no checkpoint. Let it save one, e.g. after each epoch.")
    checkpoint = compat.load_checkpoint(trainer, path)
    saved = Saved(PurePath(path).name, checkpoint, *_progress(trainer, checkpoint))
    if from_first(trainer, _has_weights_of(module, checkpoint["state_dict"])):
        raise NoBestError(f"The best checkpoint ({saved.name}) has the final weights.", is_final=True)
    return saved


def _progress(trainer: Trainer, checkpoint: dict[str, Any]) -> tuple[int, int]:
    """The step and the finished epochs of a checkpoint, as landscapes count them."""
    progress = compat.checkpoint_progress(checkpoint)
    # The loggers' step is one behind in a checkpoint that was written right after a step.
    if trainer.global_step == compat.training_step_count(trainer):
        progress["step"] = int(checkpoint["global_step"])
    return progress["step"], progress["epoch"]


def _has_weights_of(module: nn.Module, state: dict[str, Any]) -> bool:
    """True if all tensors of a state dict are the module's, bit by bit."""
    now = module.state_dict()
    pairs = [(value, now.get(name)) for name, value in state.items() if isinstance(value, Tensor)]
    return now.keys() == state.keys() and all(
        isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and same_bits(a.cpu(), b.cpu())
        for a, b in pairs
    )
