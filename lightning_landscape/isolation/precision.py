"""The precision of float32 matrix products, which torch keeps in two ways: one word for all, and one a backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


def matmul_precision() -> str | None:
    """ "highest", "high" or "medium"; None where backends were set one by one (torch ≥ 2.9) to what has no such word.

    >>> matmul_precision()
    'highest'
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@contextmanager
def matmul_precision_kept() -> Iterator[None]:
    """Whatever is set inside, the settings are afterwards as they were, each of them."""
    word, backends = matmul_precision(), _backends()
    before = [backend.fp32_precision for backend in backends]
    try:
        yield
    finally:
        if word is not None and matmul_precision() != word:
            torch.set_float32_matmul_precision(word)
        for backend, value in zip(backends, before, strict=True):  # the word has set them, too
            if backend.fp32_precision != value:
                backend.fp32_precision = value


def _backends() -> list[Any]:
    found: list[Any] = []
    for module in (torch.backends.cuda, torch.backends.mkldnn):
        with suppress(AttributeError):  # older versions know the word only
            backend: Any = module.matmul
            found += [backend] if backend.fp32_precision else []
    return found
