"""Processes that work side by side: before each collective they tell each other whether all are still there."""

from __future__ import annotations

import torch
import torch.distributed as dist


class OtherRankError(RuntimeError):
    """Another process failed: this one must give up too, so that none waits for ever."""


def together(*, failed: bool = False, stop: bool = False) -> bool:
    """Wait for all processes; every one of them must call it equally often, and before each collective.

    A process that fails calls it once more with ``failed=True`` in place of the collectives that it misses: the
    others, wherever they are, meet it in their next call.

    Args:
        failed: this process has failed.
        stop: this process was asked to stop.

    Returns:
        Whether any process was asked to stop.

    Raises:
        OtherRankError: if another process failed, and this one did not.

    >>> together(), together(stop=True)
    (False, True)
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return stop
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flags = torch.tensor([failed, stop], dtype=torch.int32, device=device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    any_failed, any_stop = flags.tolist()
    if any_failed and not failed:
        raise OtherRankError("Another process has failed.")
    return bool(any_stop)
