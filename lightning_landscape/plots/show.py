"""Figures on the screen: in a notebook, or in a window."""

from __future__ import annotations

import logging
import sys
from typing import Any

from matplotlib import get_backend
from matplotlib.figure import Figure

from .settings import default_settings

log = logging.getLogger(__name__)


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
