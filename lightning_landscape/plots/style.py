"""The colours and text sizes of every picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

# From black over orange to white, at equal distances in CIELAB. Neither viridis nor the red of `good` is among them.
EMBERS = ["#120a05", "#361b07", "#5d2d0a", "#8a470f", "#b96c17", "#e2912a", "#ecb161", "#f5d097", "#fff1d0"]


@dataclass(frozen=True)
class Style:
    """Colours and text sizes that all pictures share.

    Args:
        colormap: the colours of values, from low to high.
        difference_colormap: the colours of differences; red is higher.
        path_colormap: the colours of a path, from its first step to its last. They are not those of values, and
            are light at the end, where the surface is dark.
        ink: the colour of titles, axis labels and outlines.
        faint: the colour of ticks, notes and footers.
        rule: the colour of frames and grid lines.
        alarm: the colour of misclassified samples.
        broken: the colour of points that are not finite.
        good: the colour of the lines around what is as good as the centre; no band has it.
        good_dashes: one line style for each of them.
        directions: one colour a direction.
        dashes: one line style a direction, so that equal curves stay both visible.
        title_size, label_size, tick_size, small_size, tile_size: text sizes in points.
    """

    colormap: Colormap = field(default_factory=lambda: colormaps["viridis"])
    difference_colormap: Colormap = field(default_factory=lambda: colormaps["RdBu_r"])
    path_colormap: Colormap = field(default_factory=lambda: LinearSegmentedColormap.from_list("path", EMBERS))
    ink: str = "#222222"
    faint: str = "#666666"
    rule: str = "#c9c9c9"
    alarm: str = "#c1272d"
    broken: str = "#b4b4b4"
    good: str = "#e6194b"
    good_dashes: tuple[str | tuple[float, tuple[float, ...]], ...] = ("-", (0, (3, 1.2)))
    directions: tuple[str, ...] = ("#2c6fbb", "#d9741f", "#3f8f4f")
    dashes: tuple[str | tuple[float, tuple[float, ...]], ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
    title_size: float = 10.5
    label_size: float = 8.5
    tick_size: float = 8.0
    small_size: float = 7.0
    tile_size: float = 6.5


STYLE = Style()
