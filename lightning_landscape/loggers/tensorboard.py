"""TensorBoard: pictures in the Images tab, numbers in the Scalars tab, sentences in the Text tab."""

from __future__ import annotations

import re
import struct
from typing import Any

from .base import Shown, has_class


def matches(logger: object) -> bool:
    """True if the logger is Lightning's TensorBoardLogger."""
    return has_class(logger, "TensorBoardLogger")


def log(logger: Any, shown: Shown, step: int) -> None:
    """One event a tag; all of them are on disk when this returns."""
    writer = logger.experiment
    for tag, image in shown.images.items():
        writer.add_image(tag, image, step, dataformats="HWC")
    for tag, value in shown.scalars.items():
        writer.add_scalar(tag, value, step)
    for tag, text in shown.text.items():
        writer.add_text(tag, as_markdown(text), step)
    for tag, film in shown.films.items():
        writer.file_writer.add_summary(film_summary(tag, film), step)
    writer.flush()  # else the writer may keep a finished picture back for two minutes


def film_summary(tag: str, film: bytes) -> Any:
    """A picture that moves, as TensorBoard keeps pictures: its Images tab sends the bytes as they are.

    Not the writer's ``add_video``: with most versions of moviepy it writes an empty event, and says nothing.

    Args:
        tag: the name of the picture.
        film: a GIF file.

    >>> film_summary("film", b"GIF89a" + bytes([44, 1, 200, 0])).value[0].image.width
    300
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = struct.unpack("<HH", film[6:10])
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=film)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def as_markdown(text: str) -> str:
    """Plain text in Markdown: its lists stay lists, and every other sign stands for itself.

    >>> print(as_markdown("- the loss a*b_c <i>"))
    - the loss a\\*b\\_c &lt;i>
    """
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
