"""The models, minima and passes on a plane between models."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from ..landscape import Landscape
from ..topology import Pass
from .levels import short
from .scales import Scale
from .style import STYLE


def draw_passes(ax: Axes, landscape: Landscape, metric: str, scale: Scale, share: float = 0.01, limit: int = 9) -> str:
    """Mark the other models, and the minima and passes of a plane between models; other planes stay as they are.

    Args:
        ax: the axes of the plane.
        landscape: 2-D.
        metric: the name of the values.
        scale: its colours.
        share: of the range of the colours; what rises less is too flat to see.
        limit: so many minima, the most persistent ones.

    Returns:
        A remark that explains the marks; empty without any.
    """
    models = other_models(landscape)
    if not models or scale.message is not None:
        return ""
    visible = share * (scale.high - scale.low)
    minima = [minimum for minimum in landscape.minima(metric) if minimum.persistence > visible]
    minima = sorted(minima, key=lambda minimum: -minimum.persistence)[:limit]
    passes = [minimum.exit for minimum in minima if minimum.exit is not None]
    rim: Any = {"markeredgecolor": STYLE.ink, "linestyle": "none", "clip_on": False}
    ax.plot(*zip(*models, strict=True), marker="*", color="white", markersize=8.5, zorder=10, gid="models", **rim)
    if not passes:
        return "☆ models"
    # The border cuts a ring off: beyond it the loss may go down further.
    ring: Any = {"color": "none", "markeredgecolor": "white", "markeredgewidth": 1.4}
    effects = [withStroke(linewidth=3.0, foreground=STYLE.ink)]
    places = [minimum.point for minimum in minima]
    ax.plot(*zip(*places, strict=True), "o", markersize=13, zorder=9, gid="minima", path_effects=effects, **ring)
    crossed = [leaving.point for leaving in passes]
    ax.plot(*zip(*crossed, strict=True), marker="X", color="white", markersize=6.5, zorder=9, gid="passes", **rim)
    border = sum(minimum.at_border for minimum in minima)
    beyond = f", {border} of them at the border" if border else ""
    return f"☆ models · ○ {len(minima)} minima{beyond} · ✕ {_list(passes)}"


def other_models(landscape: Landscape) -> list[tuple[float, float]]:
    """The places of the models that the directions of a plane lead to.

    >>> import numpy as np
    >>> from ..landscape import Grid
    >>> from ..recipe import DirectionsRecipe, Recipe
    >>> recipe = Recipe(directions=DirectionsRecipe("between", {"targets": 2}))
    >>> plane = Grid.from_ranges((-1, 1, 3), (-1, 2, 3))
    >>> other_models(Landscape(plane, {"loss": np.zeros((3, 3))}, "loss", recipe=recipe))
    [(1.0, 0.0), (0.0, 1.0)]
    """
    directions = landscape.recipe.directions
    if directions is None:
        return []
    kinds = {"between": ["between"] * 2, "bezier": ["between", ""]}.get(directions.kind, [])
    if directions.kind == "joined":
        kinds = [part.get("kind", "") for part in directions.settings.get("parts", [])]
    x, y = landscape.grid.axes
    ends = [end for end, kind in zip([(1.0, 0.0), (0.0, 1.0)], kinds, strict=False) if kind == "between"]
    return [(a, b) for a, b in ends if x[0] <= a <= x[-1] and y[0] <= b <= y[-1]]


def _list(passes: list[Pass]) -> str:
    values = sorted({short(leaving.value, 2) for leaving in passes}, key=lambda text: float(text.replace("−", "-")))
    return f"pass{'es' if len(passes) > 1 else ''} at {', '.join(values[:4])}"
