"""The global random streams (torch, CUDA, MPS, numpy, python): kept for the training, fixed for a point."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_GLOBAL: tuple[Any, ...] = (torch.default_generator, random.random.__self__, np.random.rand.__self__)  # type: ignore[attr-defined]


def is_global_stream(value: Any) -> bool:
    """True for the generator behind a global random stream, to which ``from random import shuffle`` leads.

    >>> is_global_stream(torch.default_generator), is_global_stream(torch.Generator())
    (True, False)
    """
    return any(value is stream for stream in _GLOBAL)


@contextmanager
def preserved() -> Iterator[None]:
    """Put every global random stream back on leaving, also after an exception.

    >>> _ = torch.manual_seed(0)
    >>> with preserved():
    ...     _ = torch.rand(3)
    >>> torch.rand(1).item() == torch.rand(4, generator=torch.Generator().manual_seed(0))[0].item()
    True
    """
    cpu, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    # Asking would start CUDA on every device, which a training on the CPU may not want.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def seed_streams(seed: int) -> None:
    """Start every global random stream at `seed`; call it within `preserved` only."""
    # torch.manual_seed formats a stack trace for CUDA's lazy queue at every call: too slow for every point.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def keyed_seed(seed: int, *key: object) -> int:
    """A seed of its own for every key: 63 bits of BLAKE2b over the seed and the key.

    >>> keyed_seed(42, "layer.weight", 0) == keyed_seed(42, "layer.weight", 0)
    True
    >>> keyed_seed(42, "layer.weight", 0) == keyed_seed(42, "layer.weight", 1)
    False
    """
    text = "\x00".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
