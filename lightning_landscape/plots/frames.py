"""Pictures whose axes lie at fixed places: a frame for each kind, and text that is fitted to its room."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from .show import Picture
from .style import STYLE


@dataclass(frozen=True)
class Frame:
    """The size of a picture and the rooms in it, in inches, so that nothing depends on what is written.

    A layout engine would move the axes with each longer number, from one step of a run to the next. The defaults are
    those of a plane. TensorBoard shows a picture 350 pixels wide: at 4.2 inches, 8 points are then 9 pixels.

    Args:
        width, height: of the picture.
        left, right, bottom, top: from its edges to the axes.
        bar: the colour bar, as its distance from the axes and its width.
        bar_height: its height as a share of that of the axes.
        title: the height of the title's room, below the upper edge.
        footer: the height of the footer's room, above the lower edge.
        key: the height of a room for a key, above that of the footer.
        margin: from text to the edges.
        dpi: pixels an inch; twice the width of a card, for sharp text.
    """

    width: float = 4.2
    height: float = 4.62
    left: float = 0.66
    right: float = 0.76
    bottom: float = 1.1
    top: float = 0.64
    bar: tuple[float, float] = (0.08, 0.11)
    bar_height: float = 1.0
    title: float = 0.36
    footer: float = 0.66
    key: float = 0.0
    margin: float = 0.07
    dpi: float = 170

    @property
    def axes(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the axes, as fractions of the picture."""
        width, height = self.width - self.left - self.right, self.height - self.bottom - self.top
        return self.left / self.width, self.bottom / self.height, width / self.width, height / self.height

    def with_key(self, key: float = 0.2, footer: float = 0.3) -> Frame:
        """The same axes in a higher picture: with a room for a key, and a footer higher by that much."""
        height = key + footer
        return replace(
            self, height=self.height + height, bottom=self.bottom + height, footer=self.footer + footer, key=key
        )

    @property
    def bar_axes(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the colour bar, as fractions of the picture."""
        _, bottom, _, height = self.axes
        gap, width = self.bar
        left = (self.width - self.right + gap) / self.width
        return left, bottom + 0.5 * (1 - self.bar_height) * height, width / self.width, self.bar_height * height


def open_frame(frame: Frame, projection: str | None = None) -> Axes:
    """The only axes of a new picture with that frame."""
    picture = Picture(figsize=(frame.width, frame.height), dpi=frame.dpi, facecolor="white")
    picture.frame = frame
    return picture.add_axes(frame.axes, projection=projection)


def frame_of(ax: Axes) -> Frame | None:
    """The frame of the picture that was made for `ax`; None for axes of the caller's."""
    return ax.figure.frame if isinstance(ax.figure, Picture) and ax is ax.figure.axes[0] else None


def write_around(ax: Axes, frame: Frame, title: str, footer: str) -> None:
    """Writes title and footer into their rooms, smaller where they are long."""
    picture: Any = ax.figure
    width = 72 * (frame.width - 2 * frame.margin)
    look: dict[str, Any] = {"ha": "left", "parse_math": False, "linespacing": 1.15}
    left = frame.margin / frame.width
    size, text = fit(title, width, 72 * (frame.title - frame.margin), STYLE.title_size, bold=True)
    bold: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "color": STYLE.ink}
    picture.text(left, 1 - frame.title / frame.height, text, va="bottom", gid="title", **bold, **look)
    size, text = fit(footer, width, 72 * (frame.footer - frame.margin), STYLE.small_size)
    picture.text(
        left, frame.footer / frame.height, text, va="top", gid="footer", fontsize=size, color=STYLE.faint, **look
    )


def fit(text: str, width: float, height: float, size: float, bold: bool = False) -> tuple[float, str]:
    """The largest text size of at most `size` at which `text` has room, and its lines.

    Args:
        text: paragraphs, one a line.
        width, height: the room in points.
        size: the size that is wanted.
        bold: for bold letters.

    >>> fit("one line", 100, 10, 7.0)
    (7.0, 'one line')
    >>> fit("too long for one line of a hundred points", 100, 30, 7.0)[1].count("\\n")
    1
    """
    while True:
        lines = [line for part in text.split("\n") for line in wrap_text(part, width / size, bold)]
        if 1.25 * size * len(lines) <= height or size < 2:
            return size, "\n".join(lines)
        size *= 0.95


def fitting_size(lines: Iterable[str], width: float, size: float) -> float:
    """The largest text size of at most `size` at which no line is wider than `width` points."""
    return min([size, *(width / text_width(line) for line in lines if line)])


def wrap_text(text: str, width: float, bold: bool = False) -> list[str]:
    """`text` in lines of at most that width, in text sizes; a word that is longer goes over several lines."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if text_width(joined, bold) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while text_width(word, bold) > width and len(word) > 1:
            count = max(1, int(len(word) * width / text_width(word, bold)) - 1)
            lines.append(word[:count])
            word = word[count:]
        line = word
    lines = [line.removesuffix(" ·").removeprefix("· ") for line in [*lines, line]]
    return lines if text else []


def text_width(text: str, bold: bool = False) -> float:
    """The width of one line, in text sizes, with a little more: letters are drawn at whole pixels."""
    return 1.03 * sum(_letter_width(letter, bold) for letter in text)


@lru_cache(maxsize=4096)
def _letter_width(letter: str, bold: bool) -> float:
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are boxes
        ends = [text_to_path.get_text_width_height_descent(text, font, False)[0] for text in (f"|{letter}|", "||")]
    return float(ends[0] - ends[1]) / 100
