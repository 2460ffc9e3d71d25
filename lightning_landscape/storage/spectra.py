"""The spectrum of a Hessian as plain JSON values, which every format keeps in its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from ..spectrum import Spectrum
from .json_values import loose, plain, strict


def spectrum_to_json(spectrum: Spectrum) -> dict[str, Any]:
    """A spectrum in strict JSON; the numbers return bit by bit.

    >>> spectrum_to_json(Spectrum(3, np.array([5.0]), np.zeros(1)))["eigenvalues"]
    [5.0]
    """
    written: dict[str, Any] = strict(plain(_lists(asdict(spectrum)), "spectrum"))
    return written


def spectrum_from_json(written: Mapping[str, Any]) -> Spectrum:
    """The spectrum of which `spectrum_to_json` gave the values.

    Raises:
        ValueError: if its numbers do not fit together.
    """
    return msgspec.convert(loose(written), Spectrum, dec_hook=lambda _, numbers: np.array(numbers, dtype=np.float64))


def _lists(value: object) -> object:
    """Arrays as lists, at any depth."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_lists(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
