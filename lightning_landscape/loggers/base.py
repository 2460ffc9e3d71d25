"""What a kind of logger is to us, and how one is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = Mapping[str, NDArray[np.uint8]]
Scalars = Mapping[str, float]


class LoggerKind(Protocol):
    """One file of this folder: recognises its loggers and writes one pass to them."""

    def matches(self, logger: Any) -> bool:
        """Whether the logger is of this kind; must not ask for its experiment, since that would start one."""

    def log(self, logger: Any, images: Images, scalars: Scalars, step: int) -> None:
        """Writes the pictures and numbers of one pass; may raise whatever the logger raises."""


def has_class(logger: Any, name: str) -> bool:
    """Whether a class of this name is among the logger's classes.

    By name, since `lightning.pytorch` and `pytorch_lightning` have one class each, and often only one of the
    two is installed.

    >>> class TensorBoardLogger: ...
    >>> class Mine(TensorBoardLogger): ...
    >>> has_class(Mine(), "TensorBoardLogger"), has_class(Mine(), "CSVLogger")
    (True, False)
    """
    return any(parent.__name__ == name for parent in type(logger).__mro__)
