"""The precision of float32 matrix products, which torch stores for all backends at once, and for each backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def matmul_precision() -> str | None:
    """The precision "highest", "high" or "medium"; None if the settings of the backends (torch ≥ 2.9) match none.

    >>> matmul_precision()
    'highest'
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@contextmanager
def preserve_matmul_precision() -> Iterator[None]:
    """Restore the precision for all backends, and that of each backend, at the end."""
    precision, backends = matmul_precision(), _backends()
    before = [backend.fp32_precision for backend in backends]
    try:
        yield
    finally:
        if precision is not None and matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)
        for backend, value in zip(backends, before, strict=True):  # the line above has set them, too
            if backend.fp32_precision != value:
                backend.fp32_precision = value


def _backends() -> list[Any]:
    """The backends with a precision of their own; torch before 2.9 has the common one only."""
    backends = [getattr(module, "matmul", None) for module in (torch.backends.cuda, torch.backends.mkldnn)]
    return [backend for backend in backends if getattr(backend, "fp32_precision", None)]
