"""Synchronisation of processes before each collective, so that none waits for one that has failed."""

from __future__ import annotations

import torch
import torch.distributed as dist


class OtherRankError(RuntimeError):
    """Failure of another process: this one gives up too, so that none waits for ever."""


def several_processes() -> bool:
    """True if this process is connected with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def synchronize_ranks(*, failed: bool = False, stop: bool = False) -> bool:
    """Wait for all processes before a collective. Every process must call this function equally often.

    A process that fails calls it once more with ``failed=True``, in place of the collectives that it misses. The
    other processes learn of the failure in their next call.

    Args:
        failed: this process has failed.
        stop: this process was asked to stop.

    Returns:
        True if any process was asked to stop.

    Raises:
        OtherRankError: if another process failed, and this one did not.

    >>> synchronize_ranks(), synchronize_ranks(stop=True)
    (False, True)
    """
    if not several_processes():
        return stop
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flags = torch.tensor([failed, stop], dtype=torch.int32, device=device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    any_failed, any_stop = flags.tolist()
    if any_failed and not failed:
        raise OtherRankError("Another process has failed: its error says why.")
    return bool(any_stop)
