"""The global random streams (torch, CUDA, MPS, numpy, python): preserved for the training, seeded for a point."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

_GLOBAL: tuple[Any, ...] = (torch.default_generator, random.random.__self__, np.random.rand.__self__)  # type: ignore[attr-defined]


def is_global_stream(value: object) -> bool:
    """True for the generator behind a global random stream, such as the owner of `random.shuffle`.

    >>> is_global_stream(torch.default_generator), is_global_stream(torch.Generator())
    (True, False)
    """
    return any(value is stream for stream in _GLOBAL)


def restorer_of(generator: object) -> Callable[[], Any] | None:
    """The call that restores the present state of a generator; None if the object is no generator with a state.

    >>> generator = random.Random(0)
    >>> restore = restorer_of(generator)
    >>> first = generator.random()
    >>> restore(); generator.random() == first
    True
    """
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return partial(generator.setstate, generator.getstate())
    return None


@contextmanager
def preserved() -> Iterator[None]:
    """Restore every global random stream at the end, also after an exception.

    >>> _ = torch.manual_seed(0)
    >>> with preserved():
    ...     _ = torch.rand(3)
    >>> torch.rand(1).item() == torch.rand(4, generator=torch.Generator().manual_seed(0))[0].item()
    True
    """
    cpu, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    # To ask for them would start CUDA on every device, which a training on the CPU may not want.
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
    """Seed every global random stream; to be called within `preserved` only."""
    # torch.manual_seed formats a stack trace for CUDA's lazy queue at every call, which is too slow for every point.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def keyed_seed(seed: int, *key: object) -> int:
    """A separate seed for every key: 63 bits of BLAKE2b over the seed and the key.

    >>> keyed_seed(42, "layer.weight", 0) == keyed_seed(42, "layer.weight", 0)
    True
    >>> keyed_seed(42, "layer.weight", 0) == keyed_seed(42, "layer.weight", 1)
    False
    """
    text = "\x00".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
