"""The interface of a kind of logger, and the test that recognises one."""

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
        """True if the logger is of this kind.

        The test must not ask for the logger's experiment, since that would start one.
        """

    def log(self, logger: Any, images: Images, scalars: Scalars, step: int) -> None:
        """Writes the pictures and numbers of one pass; may raise whatever the logger raises."""


def has_class(logger: Any, name: str) -> bool:
    """True if a class of this name is among the logger's classes.

    Names are compared, since `lightning.pytorch` and `pytorch_lightning` have one class each. Often only one of
    these two packages is installed.

    >>> class TensorBoardLogger: ...
    >>> class Mine(TensorBoardLogger): ...
    >>> has_class(Mine(), "TensorBoardLogger"), has_class(Mine(), "CSVLogger")
    (True, False)
    """
    return any(parent.__name__ == name for parent in type(logger).__mro__)
