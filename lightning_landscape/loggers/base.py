"""The interface of a kind of logger, and the test that recognises one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..landscape import Landscape


@dataclass(frozen=True, eq=False)
class Shown:
    """The pictures, numbers and texts of one landscape that the loggers show.

    Args:
        images: uint8 pictures by tag, shape (height, width, 3).
        scalars: numbers by tag; NaN and inf where the logger can show them.
        landscape: all of it, for loggers that show more than pixels; None for pictures of one that they had before.
        text: plain text by tag; lines that begin with "- " are a list.
        films: GIF files by tag, for loggers that can show them.

    Raises:
        ValueError: if a picture is not uint8 RGB.
    """

    images: dict[str, NDArray[np.uint8]]
    scalars: dict[str, float]
    landscape: Landscape | None = None
    text: dict[str, str] = field(default_factory=dict)
    films: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tag, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"images[{tag!r}] must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
                )


class LoggerKind(Protocol):
    """One file of this folder: recognises its loggers and writes one pass to them."""

    def matches(self, logger: object) -> bool:
        """True if the logger is of this kind.

        The test must not ask for the logger's experiment, since that would start one.
        """

    def log(self, logger: Any, shown: Shown, step: int) -> None:
        """Writes the pictures and numbers of one pass; may raise whatever the logger raises."""


def has_class(logger: object, name: str) -> bool:
    """True if a class of this name is among the logger's classes.

    Names are compared, since `lightning.pytorch` and `pytorch_lightning` have one class each. Often only one of
    these two packages is installed.

    >>> class TensorBoardLogger: ...
    >>> class Mine(TensorBoardLogger): ...
    >>> has_class(Mine(), "TensorBoardLogger"), has_class(Mine(), "CSVLogger")
    (True, False)
    """
    return any(parent.__name__ == name for parent in type(logger).__mro__)
