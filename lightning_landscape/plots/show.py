"""A figure before the user's eyes: in the notebook, or in a window."""

from __future__ import annotations

import logging
import sys
from typing import Any

from matplotlib import get_backend
from matplotlib.figure import Figure

from .settings import default_settings

log = logging.getLogger(__name__)
WITHOUT_A_SCREEN = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def show_figure(figure: Figure) -> None:
    """Show a figure: as the output of a notebook's cell, else in a window, where matplotlib has a screen.

    Without one, it is only said in the log that nothing can be shown.
    """
    if "ipykernel" in sys.modules:
        from IPython.display import display

        with default_settings():
            display(figure)
        return
    if get_backend().lower() in WITHOUT_A_SCREEN:
        log.warning("There is no screen to show the figure on; it is written to its file all the same.")
        return
    from matplotlib import pyplot  # the only way to a window

    manager: Any = pyplot.figure().canvas.manager
    manager.canvas.figure = figure
    figure.set_canvas(manager.canvas)
    pyplot.show()
