"""Figures that notebooks show, and figures on the screen: as the output of a cell, or in a window."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from matplotlib import get_backend
from matplotlib.figure import Figure

from .settings import default_settings

if TYPE_CHECKING:
    from .frames import Frame

log = logging.getLogger(__name__)


class Picture(Figure):
    """A figure that a notebook shows, also where pyplot was never imported.

    Attributes:
        frame: the rooms of its axes and texts, if it was made for one picture.
    """

    frame: Frame | None = None

    def _repr_png_(self) -> bytes:
        from . import encode_picture  # late: that imports every kind of picture

        return encode_picture(self, ".png")


class Figures(list[Figure]):
    """A list of figures that a notebook shows one below the other.

    Args:
        figures: the figures.
        displayed: whether the cell has shown them already; it then does not show them twice.
    """

    def __init__(self, figures: Iterable[Figure] = (), displayed: bool = False) -> None:
        super().__init__(figures)
        self.displayed = displayed

    def _ipython_display_(self) -> None:
        from IPython.display import display

        with default_settings():
            display(*(() if self.displayed else self))
        self.displayed = False  # a later cell may show them again


def show_figure(figure: Figure) -> None:
    """Shows a figure as the output of a notebook's cell, or else in a window.

    Where matplotlib has no screen, a warning in the log says so.
    """
    if "ipykernel" in sys.modules:
        from IPython.display import display

        with default_settings():
            display(figure)
        return
    if get_backend().lower() in ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template"):
        log.warning("There is no screen to show the figure on; it is written to its file all the same.")
        return
    from matplotlib import pyplot  # the only way to a window

    manager: Any = pyplot.figure().canvas.manager
    manager.canvas.figure = figure
    figure.set_canvas(manager.canvas)
    pyplot.show()
