"""Runs: what the pictures of several runs draw, with a colour for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..landscape import Landscape
from .bars import color_bar, round_ticks
from .frames import fit, fitting_size, text_width
from .scales import Scale
from .show import Picture
from .style import STYLE

Dashes = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Runs:
    """The landscapes of several runs.

    Args:
        landscapes: by the name of their run.
        share_axes: False if the axes of the runs are known to differ: no picture then has them on the same axes.
        one_surface: True if all lie on one measured surface.
        note: a sentence on the planes, for the footer.
    """

    landscapes: Mapping[str, Landscape]
    share_axes: bool = True
    one_surface: bool = False
    note: str = ""

    @property
    def first(self) -> Landscape:
        """The landscape of the first run."""
        return next(iter(self.landscapes.values()))

    @property
    def ndim(self) -> int:
        """The number of directions."""
        return self.first.grid.ndim


@dataclass(frozen=True)
class RunLooks:
    """The looks of runs, in their order.

    Args:
        colors: dark enough for lines on white, and unlike the bands of a contour with a white rim; they are told apart
            by most colour-blind people, too. None is the red of what is as good as the centre.
        dashes: of the first runs in all colours, then of the next.
    """

    colors: tuple[str, ...] = ("#e8641b", "#2359c4", "#a3129b", "#1a1a1a", "#0b8f6a", "#8a5a2b", "#5aa9e6", "#b8860b")
    dashes: tuple[Dashes, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))

    def of(self, place: int) -> dict[str, Any]:
        """Colour and dashes of the run at that place.

        >>> RunLooks(("red", "blue")).of(3)
        {'color': 'blue', 'linestyle': (0, (4, 1.5))}
        """
        turn, color = divmod(place, len(self.colors))
        return {"color": self.colors[color], "linestyle": self.dashes[turn % len(self.dashes)]}


LOOKS = RunLooks()


@dataclass(frozen=True)
class Sheet:
    """A picture with several axes at fixed places, and the rooms around them; lengths in inches.

    Args:
        width, height: of the picture.
        margin: from texts to the edges.
        title: the height of the title's room.
        footer: the height of the footer's room.
        dpi: pixels an inch.
    """

    width: float
    height: float
    margin: float = 0.07
    title: float = 0.3
    footer: float = 0.52
    dpi: float = 170

    def open(self) -> Figure:
        """A new picture."""
        return Picture(figsize=(self.width, self.height), dpi=self.dpi, facecolor="white")

    def add_axes(self, figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """New axes, so far from the left and the upper edge."""
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes: Axes = figure.add_axes(place, **options)
        return axes

    def fit_numbers(self, ax: Axes, left: float, label: float = 0.2, tick: float = 0.1) -> None:
        """Makes the numbers of the y axis as small as their room needs; the label is beside the left edge.

        Args:
            ax: the axes, with their final numbers.
            left: from the edge to the axes.
            label: the room of the label.
            tick: the length of a tick and the gap beside it.
        """
        texts = [text.get_text() for text in ax.get_yticklabels()]
        size = fitting_size(texts, 72 * (left - self.margin - label - tick), STYLE.tick_size)
        ax.tick_params(axis="y", labelsize=size)
        width = ax.get_position(original=True).width * self.width
        ax.yaxis.set_label_coords(-(left - self.margin - label / 2) / width, 0.5)

    def add_bar(self, figure: Figure, ax: Axes, scale: Scale, place: tuple[float, float, float], label: str) -> None:
        """Adds a colour bar whose numbers and label have room before the right edge.

        Args:
            figure: the picture.
            ax: axes with these colours.
            scale: the colours.
            place: from the left and the upper edge, and the height.
            label: of the bar; empty for none.
        """
        left, top, height = place
        width, tick, room = 0.11, 0.1, 0.2 if label else 0.0
        axes = self.add_axes(figure, left, top, width, height, label="<colorbar>")
        texts = round_ticks(scale)[1]
        size = fitting_size(texts, 72 * (self.width - left - width - tick - room - self.margin), STYLE.tick_size)
        color_bar(ax, scale, label=label, cax=axes, size=size)
        axes.yaxis.set_label_coords((self.width - left - self.margin - room / 2) / width, 0.5)

    def write(self, figure: Figure, title: str, footer: str) -> None:
        """Writes title and footer into their rooms, smaller where they are long."""
        width, left = 72 * (self.width - 2 * self.margin), self.margin / self.width
        look: dict[str, Any] = {"ha": "left", "parse_math": False, "linespacing": 1.15}
        size, text = fit(title, width, 72 * (self.title - self.margin), STYLE.title_size, bold=True)
        bold: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "color": STYLE.ink, "gid": "title"}
        figure.text(left, 1 - self.title / self.height, text, va="bottom", **bold, **look)
        size, text = fit(footer, width, 72 * (self.footer - self.margin), STYLE.small_size)
        small: dict[str, Any] = {"fontsize": size, "color": STYLE.faint, "gid": "footer"}
        figure.text(left, self.footer / self.height, text, va="top", **small, **look)


def add_legend(figure: Figure, sheet: Sheet, names: Sequence[str], top: float, **look: Any) -> float:
    """Adds a legend with a line a run, as wide as the sheet, below `top`; gives the height that it takes."""
    row, handle = 0.165, 2.9  # inches; text sizes that a line and its gaps take
    widest = max(text_width(name) for name in names) + handle + 1.2
    room = 72 * (sheet.width - 2 * sheet.margin)
    size = min(STYLE.tick_size, room / widest)
    columns = max(1, min(len(names), int(room / (widest * size))))
    handles = [Line2D([], [], linewidth=2, label=name, **LOOKS.of(i), **look) for i, name in enumerate(names)]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 1 - top / sheet.height)}
    figure.legend(
        handles=handles, ncols=columns, fontsize=size, frameon=False, borderpad=0.2, borderaxespad=0.1,
        handlelength=2.2, handletextpad=0.5, columnspacing=1.2, labelspacing=0.25, labelcolor=STYLE.ink, **place,
    )  # fmt: skip
    return row * -(-len(names) // columns)
