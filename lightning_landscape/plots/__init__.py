"""Pictures of a Landscape as matplotlib figures: one file a kind, one row each in PLOTS."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from ..landscape import Landscape
from .barriers import draw_barriers
from .compare import draw_comparison
from .contour import draw_contour
from .heat import draw_heat
from .isosurfaces import draw_isosurfaces
from .path import draw_path
from .scales import COLOR_SCALES
from .sections import draw_sections
from .settings import default_settings
from .show import Figures, show_figure
from .slices import draw_slices
from .surface import draw_surface
from .tiles import draw_tiles

__all__ = [
    "COLOR_SCALES", "PLOTS", "USUAL", "Figure", "Figures", "Plot", "draw", "draw_barriers", "draw_comparison",
    "encode_picture", "show_figure", "to_image",
]  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """One kind of picture.

    Args:
        draw: ``draw(landscape, metric=None, *, ax=None, color_scale="global", **options) -> Figure``, in
            `default_settings`.
        suffix: the end of the file name, as in ``train_loss_2dcontour.png``.
        ndims: the numbers of directions it can draw.
        per: one picture a "metric", or one a "landscape".
        needs: the part of a landscape that it draws, by its name there; None for the values that each has.
        grows: True if it takes ``until``, a step, and draws the path of the training up to it.
    """

    draw: Callable[..., Figure]
    suffix: str
    ndims: tuple[int, ...]
    per: Literal["metric", "landscape"] = "metric"
    needs: Literal["samples", "trajectory"] | None = None
    grows: bool = False

    def draws(self, landscape: Landscape) -> bool:
        """True if a landscape has a picture of this kind."""
        return landscape.grid.ndim in self.ndims and (self.needs is None or getattr(landscape, self.needs) is not None)


PLOTS: dict[str, Plot] = {
    "contour": Plot(draw_contour, "2dcontour", (2,), grows=True),
    "heat": Plot(draw_heat, "2dheat", (2,), grows=True),
    "surface": Plot(draw_surface, "3dsurface", (2,), grows=True),
    "slices": Plot(draw_slices, "1dslices", (1, 2, 3)),
    "tiles": Plot(draw_tiles, "samples", (1, 2), per="landscape", needs="samples"),
    "path": Plot(draw_path, "path", (1, 2, 3), per="landscape", needs="trajectory", grows=True),
    "sections": Plot(draw_sections, "3dslices", (3,)),
    "isosurfaces": Plot(draw_isosurfaces, "3disosurface", (3,)),
}
USUAL = {1: "slices", 2: "contour", 3: "sections"}  # the kind that is drawn of so many directions, where none is named


def draw(landscape: Landscape, kind: str | None = None, metric: str | None = None, **options: Any) -> Figure:
    """The figure of one kind.

    Args:
        landscape: what to draw.
        kind: one of PLOTS; None for the usual one of so many directions.
        metric: None for the main loss.
        options: of that kind.

    Raises:
        ValueError: if the kind or the metric is unknown, or the kind is not of so many directions.
    """
    name = USUAL.get(landscape.grid.ndim, "slices") if kind is None else kind
    if name not in PLOTS:
        able = [known for known, plot in PLOTS.items() if landscape.grid.ndim in plot.ndims]
        raise ValueError(f"kind={kind!r} is unknown; the choices for this landscape are {', '.join(able) or 'none'}.")
    return PLOTS[name].draw(landscape, metric, **options)


def to_image(figure: Figure, dpi: float | None = None) -> NDArray[np.uint8]:
    """The pixels of a figure, uint8, shape (height, width, 3). The figure stays as it is.

    Args:
        figure: any figure.
        dpi: pixels an inch; None for the resolution of the figure.

    >>> to_image(Figure(figsize=(2, 1)), dpi=50).shape
    (50, 100, 3)
    """
    canvas, resolution = figure.canvas, figure.dpi
    try:
        figure.set_dpi(resolution if dpi is None else dpi)
        agg = FigureCanvasAgg(figure)
        with _output_settings():
            agg.draw()
        return np.array(agg.buffer_rgba())[..., :3].copy()
    finally:
        figure.set_canvas(canvas)
        figure.set_dpi(resolution)


def encode_picture(figure: Figure, suffix: str, pixels: NDArray[np.uint8] | None = None) -> bytes:
    """The bytes of a file with a figure.

    Args:
        figure: any figure.
        suffix: ".png", ".pdf" or ".svg".
        pixels: the result of `to_image`, if it is there already; a .png is made of it.
    """
    file = io.BytesIO()
    with _output_settings():
        if suffix == ".png" and pixels is not None:
            imsave(file, pixels, dpi=figure.dpi, format="png")
        else:
            figure.savefig(file, format=suffix.removeprefix("."))
    return file.getvalue()


@contextmanager
def _output_settings() -> Iterator[None]:
    """Default settings, without warnings of letters in a metric's name that the font lacks: boxes are drawn."""
    with default_settings(), warnings.catch_warnings():
        for message in ("Glyph .* missing from", "Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield
