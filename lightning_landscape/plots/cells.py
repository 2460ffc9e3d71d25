"""Places of tiles, their colour bars and their thumbnails within a pair of axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import NDArray

from .furniture import root


@dataclass(frozen=True)
class Cell:
    """One place in a grid of tiles inside the axes `frame`, measured when it is drawn.

    Cells are inset axes and no nested GridSpec. Titles keep their height in points at every size, and the
    frame stays the caller's axes. The layout engine sees one box: with ten subplots it takes most of the time.

    Args:
        frame: the axes to fill.
        row, column: the place, counted from the top left.
        rows, columns: the size of the grid.
        bar: points to leave free at the right for a colour bar.
        left, bottom: points to leave free for labels.
        gap: points between columns.
        caption: points above each tile for its title.
    """

    frame: Axes
    row: int
    column: int
    rows: int
    columns: int
    bar: float = 0
    left: float = 0
    bottom: float = 0
    gap: float = 9
    caption: float = 24

    def add_axes(self, gid: str) -> Axes:
        """New axes that fill the cell, below the room for a title."""
        return self._inset(gid, self._box)

    def add_bar(self, tile: Axes) -> Axes:
        """New axes for a colour bar, as high as the tile beside them."""

        def beside() -> Bbox:
            tile.apply_aspect(self._fraction(self._box()))
            box, point = tile.get_window_extent(), self._point()
            return Bbox.from_bounds(box.x1 + 3 * point, box.y0, 5 * point, box.height)

        return self._inset(f"{tile.get_gid()} bar", beside)

    def _inset(self, gid: str, box: Callable[[], Bbox]) -> Axes:
        axes = self.frame.inset_axes((0, 0, 1, 1), gid=gid)
        axes.set_axes_locator(lambda *_: self._fraction(box()))
        axes.set_in_layout(False)
        return axes

    def _point(self) -> float:
        """The number of pixels in a point."""
        return root(self.frame).dpi / 72

    def _fraction(self, box: Bbox) -> Bbox:
        """A box in pixels as fractions of the figure, in which axes are placed."""
        figure: Any = self.frame.figure
        return box.transformed(figure.transSubfigure.inverted())

    def _box(self) -> Bbox:
        """The tile in pixels."""
        outer, point = self.frame.bbox, self._point()
        # Small frames shrink the gaps too: no tile may vanish or turn inside out.
        gap = min(self.gap * point, 0.3 * outer.width / self.columns)
        caption = min(self.caption * point, 0.5 * outer.height / self.rows)
        bar = min(self.bar * point, 0.4 * outer.width / self.columns)
        width, height = (outer.width + gap) / self.columns, outer.height / self.rows
        left, top = outer.x0 + self.column * width, outer.y1 - self.row * height
        right, floor = left + width - gap - bar, top - height
        left += min(self.left * point, 0.3 * width)
        floor += min(self.bottom * point, 0.3 * height)
        return Bbox.from_extents(left, floor, right, top - caption)


def add_thumbnail(tile: Axes, thumbnail: NDArray[np.uint8], crowd: NDArray[np.float64], side: float = 0.29) -> None:
    """Draws the sample's picture where it hides least.

    Args:
        tile: the axes.
        thumbnail: uint8, shape (height, width, 3).
        crowd: the points to keep clear of, in data coordinates, shape (n, 2).
        side: the longer side of the thumbnail, in axes fractions.
    """
    left, bottom = _free_place((tile.transScale + tile.transLimits).transform(crowd), side)
    shape = 1.0 if tile.get_aspect() == "auto" else np.ptp(tile.get_ylim()) / np.ptp(tile.get_xlim())
    ratio = thumbnail.shape[0] / thumbnail.shape[1] / shape  # in axes fractions
    w, h = side * min(1, 1 / ratio), side * min(1, ratio)
    left, bottom = left + (side - w if left > 0.5 else 0), bottom + (side - h if bottom > 0.5 else 0)
    box = TransformedBbox(Bbox.from_bounds(left, bottom, w, h), tile.transAxes)
    look: Any = {"interpolation": "nearest" if max(thumbnail.shape[:2]) < 64 else "antialiased"}
    tile.add_artist(BboxImage(box, data=thumbnail, zorder=6, gid="thumbnail", **look))
    look = {"fill": False, "edgecolor": "white", "linewidth": 1.2, "zorder": 7}
    tile.add_patch(Rectangle((left, bottom), w, h, transform=tile.transAxes, **look))


def _free_place(crowd: NDArray[np.float64], side: float) -> tuple[float, float]:
    """The place that covers the fewest points of `crowd`: (left, bottom), in axes fractions."""
    # Corners are best, the middle is next; the upper edge comes before the lower one.
    places = [(x, y) for y in (0.98 - side, 0.02) for x in (0.98 - side, 0.02, 0.5 - side / 2)]
    reach = side + 0.06  # the star is not a point
    inside = [int((np.abs(crowd - np.add(place, side / 2)) < reach / 2).all(axis=1).sum()) for place in places]
    return places[int(np.argmin(inside))]
