"""A figure before the user's eyes: where there is a screen or a notebook."""

import sys
import types

import matplotlib
import pytest
from matplotlib.figure import Figure

from lightning_landscape.plots import show, show_figure


def test_in_a_notebook_it_is_the_cells_output(monkeypatch):
    displayed = []
    home = types.ModuleType("IPython.display")
    home.display = lambda figure: displayed.append((figure, matplotlib.rcParams["font.size"]))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(version_info=(9, 0)))  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython.display", home)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    figure = Figure()
    with matplotlib.rc_context({"font.size": 30}):
        show_figure(figure)
    assert displayed == [(figure, 10)]  # it is drawn there, with matplotlib's own settings


@pytest.mark.parametrize("backend", ["agg", "Agg", "pdf", "template"])
def test_without_a_screen_it_is_said(monkeypatch, caplog, backend):
    monkeypatch.setattr(show, "get_backend", lambda: backend)
    show_figure(Figure())
    assert "There is no screen to show the figure on" in caplog.text


def test_on_a_screen_it_has_a_window(monkeypatch):
    from matplotlib import pyplot

    displayed = []
    monkeypatch.setattr(show, "get_backend", lambda: "a screen")
    monkeypatch.setattr(pyplot, "show", lambda: displayed.append(pyplot.gcf().canvas.manager.canvas.figure))
    figure = Figure()
    try:
        show_figure(figure)
    finally:
        pyplot.close("all")
    assert displayed == [figure]
