"""Landscapes and figures as the output of a notebook's cell."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Grid, Landscape, LossLandscape, LossLandscapeCallback
from lightning_landscape.plots import PLOTS, Figures, encode_picture, to_image
from lightning_landscape.plots.show import Picture

COUNTS = (6, 5, 4)
LETTERS = b"\x89PNG\r\n\x1a\n"


def bowl(ndim: int = 2, **fields: Any) -> Landscape:
    grid = Grid.from_ranges(*[(-1, 1, count) for count in COUNTS[:ndim]])
    values = 0.3125 + (grid.points**2).sum(axis=1).reshape(grid.shape)
    return Landscape(grid, {"loss": values, "val/acc": 100 - values}, "loss", **{"center": {"loss": 0.3125}, **fields})


def size_of(picture: bytes | None) -> tuple[int, int]:
    """Width and height of a PNG file, from its first chunk."""
    assert picture is not None
    assert picture.startswith(LETTERS)
    return struct.unpack(">II", picture[16:24])


@pytest.mark.parametrize("kind", [kind for kind in PLOTS if kind not in ("tiles", "path", "isosurfaces")])
def test_the_figure_of_a_kind_is_that_of_the_table(kind: str) -> None:
    landscape = bowl(PLOTS[kind].ndims[-1])
    for metric in (None, "val/acc"):
        figure = landscape.plot(kind, metric)
        assert isinstance(figure, Figure)
        np.testing.assert_array_equal(to_image(figure, 40), to_image(PLOTS[kind].draw(landscape, metric), 40))


def test_options_reach_the_picture() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert bowl().plot("heat", ax=ax, vmin=0.5, vmax=0.75) is figure
    assert [mesh.get_clim() for mesh in ax.collections] == [(0.5, 0.75)]


@pytest.mark.parametrize("ndim, usual", [(1, "slices"), (2, "contour"), (3, "sections")])
def test_a_notebook_shows_the_usual_picture_of_a_landscape(ndim: int, usual: str) -> None:
    landscape = bowl(ndim)
    picture = landscape._repr_png_()
    assert size_of(picture) == to_image(PLOTS[usual].draw(landscape)).shape[1::-1]
    assert picture == encode_picture(landscape.plot(), ".png") == encode_picture(landscape.plot(usual), ".png")


def test_a_landscape_that_no_kind_draws_has_its_line() -> None:
    grid = Grid.from_ranges(*[(0, 1, 2)] * 4)
    landscape = Landscape(grid, {"loss": np.zeros(grid.shape)}, "loss")
    assert landscape._repr_png_() is None
    page = Page(landscape._repr_html_())
    assert "img" not in page.attributes
    assert tuple(page.texts["li"]) == landscape.reading().sentences
    with pytest.raises(ValueError, match="4-D"):
        landscape.plot()


def test_a_landscape_in_the_making_is_shown() -> None:
    size_of(Landscape.empty(Grid.from_ranges((-1, 1, 3), (-1, 1, 3)), ["loss"], "loss")._repr_png_())


class Page(HTMLParser):
    """The items of a page, its texts in bold, and the attributes of its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: dict[str, list[dict[str, str | None]]] = {}
        self.texts: dict[str, list[str]] = {"li": [], "b": []}
        self.inside: list[str] = []
        self.feed(page)
        self.close()
        assert self.inside == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag != "img":
            self.inside.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside[-1]][-1] += data


def test_a_notebook_shows_the_picture_and_the_reading_on_one_page() -> None:
    landscape = bowl()
    page = Page(landscape._repr_html_())
    assert tuple(page.texts["li"]) == landscape.reading().sentences
    assert page.texts["b"] == [repr(landscape)]
    (image,) = page.attributes["img"]
    assert image["alt"] == landscape.reading().headline
    kind, _, data = (image["src"] or "").partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == landscape._repr_png_()


def test_a_page_takes_its_colours_from_the_notebook_and_needs_no_other_file() -> None:
    page = Page(bowl()._repr_html_())
    assert {"style", "link", "script"}.isdisjoint(page.attributes)
    every = [attributes for tags in page.attributes.values() for attributes in tags]
    assert not any("color" in (attributes.get("style") or "") for attributes in every)
    assert [a["src"][:5] for a in every if a.get("src")] == ["data:"]  # type: ignore[index]
    assert not any({"href", "class", "id"} & attributes.keys() for attributes in every)


def test_names_on_a_page_stand_for_themselves() -> None:
    name = "<b>\"a\" & 'b'</li>"
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), {name: np.array([2.0, 1, 0])}, name)
    page = Page(landscape._repr_html_())
    assert tuple(page.texts["li"]) == landscape.reading().sentences
    assert page.texts["b"] == [repr(landscape)]
    assert page.attributes["img"][0]["alt"] == landscape.reading().headline
    nan = Landscape(Grid.from_ranges((-1, 1, 3)), {name: np.full(3, np.nan)}, name)
    assert name in nan.reading().headline
    assert Page(nan._repr_html_()).attributes["img"][0]["alt"] == nan.reading().headline
    assert tuple(Page(nan.reading()._repr_html_()).texts["li"]) == nan.reading().sentences


def test_an_unknown_kind_or_metric_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"kind='contours' is unknown; the choices .* are contour, heat"):
        bowl().plot("contours")
    with pytest.raises(ValueError, match="kind='x' is unknown; the choices for this landscape are slices, tiles"):
        bowl(1).plot("x")
    with pytest.raises(ValueError, match="metric='acc' is not in this landscape; it has: loss, val/acc"):
        bowl().plot(metric="acc")
    with pytest.raises(ValueError, match="contour draws 2-D landscapes, this one is 1-D"):
        bowl(1).plot("contour")


def test_a_landscape_is_written_on_one_line() -> None:
    grid = Grid.from_ranges((-1, 1, 51), (-1, 1, 51))
    values = (grid.points**2).sum(axis=1).reshape(grid.shape)
    done = np.ones(grid.shape, dtype=bool)
    landscape = Landscape(grid, {"train_loss": values}, "train_loss", done=done, center={"train_loss": 0.31249})
    assert repr(landscape) == "Landscape('train_loss', 51 × 51, 2,601 of 2,601 points, centre 0.312)"
    done[:2] = False
    landscape.interpolated[2:4] = True
    assert repr(landscape) == (
        "Landscape('train_loss', 51 × 51, 2,499 of 2,601 points (2,397 evaluated), centre 0.312)"
    )
    assert repr(bowl(1, center={"loss": float("nan")})) == "Landscape('loss', 6, 6 of 6 points, centre nan)"


def test_the_callback_draws_its_last_landscape() -> None:
    callback = LossLandscapeCallback(every_n_epochs=3, at_train_end=False)
    message = r"no landscape yet \(every_n_epochs=3, .*, at_train_end=False\): call trainer.fit\(\.\.\.\) with this"
    with pytest.raises(ValueError, match=message):
        callback.plot()
    callback._landscape = bowl()
    for arguments in ((), ("heat", "val/acc")):
        expected = to_image(bowl().plot(*arguments), 40)
        np.testing.assert_array_equal(to_image(callback.plot(*arguments), 40), expected)
    assert callback.plot("surface", vmax=1.0).axes


# figures


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What IPython was asked to display."""
    asked: list[Any] = []
    home = types.ModuleType("IPython.display")
    home.display = lambda *objects: asked.extend(objects)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(version_info=(9, 0)))  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython.display", home)
    return asked


def plain(folder: Path) -> LossLandscape:
    data = DataLoader(TensorDataset(torch.ones(4, 2), torch.ones(4, 1)))
    return LossLandscape(nn.Linear(2, 1), data, nn.MSELoss(), surf_file=folder / "surface.h5")


def test_a_figure_is_a_picture_where_pyplot_was_never_imported() -> None:
    code = (
        "import sys; from lightning_landscape import Grid, Landscape\n"
        "grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 4))\n"
        "landscape = Landscape(grid, {'loss': grid.points[:, 0].reshape(grid.shape)}, 'loss')\n"
        "for kind in ('contour', 'surface', 'slices'):\n"
        f"    assert landscape.plot(kind)._repr_png_().startswith({LETTERS!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_what_plot_methods_return_is_shown_as_pictures(tmp_path: Path, displayed: list[Any]) -> None:
    landscape = plain(tmp_path)
    landscape.compute_2d((-1, 1, 3), (-1, 1, 4), save=False)
    figures = landscape.plot_2d_contour()
    assert isinstance(figures, list)
    assert [type(figure) for figure in figures] == [Picture] * 2
    figures._ipython_display_()
    assert displayed == figures
    assert type(landscape.plot_2d_surface()) is Figures
    for figure in figures:
        assert size_of(figure._repr_png_()) == to_image(figure).shape[1::-1]


def test_figures_that_a_cell_has_shown_are_not_shown_twice(
    tmp_path: Path, displayed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    landscape = plain(tmp_path)
    landscape.compute_1d((-1, 1, 3), save=False)
    figures = landscape.plot_1d(show=True)
    figures._ipython_display_()  # the end of that cell
    assert displayed == figures
    figures._ipython_display_()  # a later one
    assert displayed == [*figures, *figures]
