"""The parts that every picture shares: figure, title, axis labels, footer and star."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from ..landscape import Landscape
from ..recipe import DataRecipe
from ..report import Interpolation
from .frames import Frame, frame_of, open_frame, wrap_text, write_around
from .levels import short
from .style import STYLE

GREEK = ("α", "β", "γ")
# What 1 stands for on an axis, by the normalisation of the directions, or by their kind.
UNITS = {
    "filter": "each filter's own norm",
    "layer": "each layer's own norm",
    "weight": "each weight's own size",
    "model": "norm of all weights",
    "dfilter": "norm 1 in each filter",
    "dlayer": "norm 1 in each layer",
    "between": "the other weights",
}
# A metric's name is the user's: its $ and _ are no mathematics.
NOTE = dict[str, Any](fontsize=STYLE.small_size, color=STYLE.faint, annotation_clip=False, parse_math=False)


def open_axes(ax: Axes | None, frame: Frame, projection: str | None = None) -> Axes:
    """`ax` itself, or the only axes of a new figure with that frame."""
    if ax is None:
        return open_frame(frame, projection)
    if projection is None or ax.name == projection:
        return ax
    # Matplotlib cannot change the projection of axes: put others in their place.
    place: Any = ax.get_subplotspec() or ax.get_position()
    parent: Any = ax.figure
    ax.remove()
    add = parent.add_axes if hasattr(place, "x0") else parent.add_subplot
    axes: Axes = add(place, projection=projection)
    return axes


def root(ax: Axes) -> Figure:
    """The figure that holds `ax`, also across subfigures."""
    parent: Any = ax.figure
    figure: Figure = parent.figure
    return figure


def require_ndim(landscape: Landscape, kind: str) -> None:
    """Raises ValueError unless this kind of plot draws landscapes of that dimension."""
    from . import PLOTS  # late: the table imports every kind

    ndim = landscape.grid.ndim
    if ndim in PLOTS[kind].ndims:
        return
    able = [name for name, plot in PLOTS.items() if ndim in plot.ndims]
    supported = " and ".join(f"{n}-D" for n in PLOTS[kind].ndims)
    advice = f"{ndim}-D landscapes are drawn by: {', '.join(able)}." if able else "no plot does so far."
    raise ValueError(f"{kind} draws {supported} landscapes, this one is {ndim}-D: {advice}")


def wrap(ax: Axes, text: str, size: float) -> str:
    """`text` in lines that fit the width of `ax`."""
    # The original position: the active one asks the aspect, which is not final before the layout.
    points = 72 * root(ax).get_figwidth() * ax.get_position(original=True).width
    points *= 1.25 if ax.name == "3d" else 1  # beside a colour bar that is not as high
    return "\n".join(wrap_text(text, max(points, 12 * size) / size))


def describe_landscape(ax: Axes, landscape: Landscape, metric: str, note: str, path: str = "") -> None:
    """Writes a title with the metric, epoch and step above `ax`, and below it where its numbers come from.

    Beside that are the note of the scale, the remarks on what is not exact, and the caption of a `path`.
    """
    note = join_parts(note, inexact(landscape, metric))
    note = "\n".join(text for text in (note, path) if text)
    source = provenance(landscape, metric)
    if ax.name == "3d":  # no room along slanted axes
        source = join_parts(axes_label(landscape), source)
    describe(ax, metric + moment(landscape), note, source)


def describe(ax: Axes, title: str, note: str, source: str) -> None:
    """Writes a title above `ax`, and below it notes and where its numbers come from."""
    frame = frame_of(ax)
    if frame is not None:
        write_around(ax, frame, title, "\n".join(text for text in (source, note) if text))
        return
    add_title(ax, title, note)
    add_footer(ax, source)


def inexact(landscape: Landscape, metric: str) -> str:
    """The remarks on what is not exact in a landscape; empty where all of it is exact.

    The remarks tell of collapsed directions, samples left out, interpolated points and bfloat16.
    """
    return join_parts(*(remark(landscape, metric) for remark in (collapsed, sampled, spared, rounded)))


def join_parts(*parts: str) -> str:
    """The parts that are not empty, on one line."""
    return " · ".join(part for part in parts if part)


def collapsed(landscape: Landscape, metric: str) -> str:
    """A remark that the directions span fewer dimensions than there are axes; empty where they do not.

    >>> from lightning_landscape.recipe import DirectionsRecipe, Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> plane = Grid.from_ranges((-1, 1, 3), (-1, 1, 3))
    >>> recipe = Recipe(directions=DirectionsRecipe("random", cosine=-0.9999, span=1))
    >>> collapsed(Landscape(plane, {"loss": np.zeros((3, 3))}, "loss", recipe=recipe), "loss")
    'both directions are parallel (cosine −1.000): this is a line'
    """
    recipe, ndim = landscape.recipe.directions, landscape.grid.ndim
    if recipe is None or recipe.span is None or recipe.span >= ndim:
        return ""
    which = "both directions are parallel" if ndim == 2 else f"the {ndim} directions span {recipe.span} dimensions only"
    shape = "a line" if recipe.span == 1 else "a plane"
    return f"{which} (cosine {recipe.cosine:.3f}): this is {shape}".replace("-", "−")


def rounded(landscape: Landscape, metric: str) -> str:
    """A remark on the error of points in bfloat16, rounded up; empty for points in float32.

    The error was measured at points that were evaluated in float32 too.

    >>> from lightning_landscape.report import Report, RoundingError
    >>> from lightning_landscape.landscape import Grid
    >>> line = Grid.from_ranges((-1, 1, 5))
    >>> report = Report(rounding_error=RoundingError(9, 2, share={"loss": 0.00123}))
    >>> rounded(Landscape(line, {"loss": line.axes[0]}, "loss", report=report), "loss")
    'in bfloat16; at 9 points checked in float32, off by ≤ 0.13 % of their range'
    """
    error = landscape.report.rounding_error
    if error is None:
        return ""
    share = error.share.get(metric, np.nan)
    if not np.isfinite(share):
        return "in bfloat16, how exact is not known"
    off = _percent(100 * share)
    return f"in bfloat16; at {error.points} points checked in float32, off by ≤ {off} of their range"


def sampled(landscape: Landscape, metric: str) -> str:
    """A remark on how many samples a time budget was enough for; empty where it was enough for all.

    The remark has the median standard error where that is known.

    >>> from lightning_landscape.recipe import Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> line = Grid.from_ranges((-1, 1, 3))
    >>> recipe = Recipe(data={"train": DataRecipe(256, available=1024)})
    >>> errors = {"loss": np.array([0.01, 0.02, 0.04])}
    >>> sampled(Landscape(line, {"loss": line.axes[0]}, "loss", errors, recipe=recipe), "loss")
    '256 of 1,024 samples, standard error 0.02'
    """
    data = _data_of(landscape, metric)
    if metric == "samples" or data is None or data.available is None or data.samples >= data.available:
        return ""
    errors = landscape.standard_errors.get(metric, np.full(landscape.grid.shape, np.nan))[landscape.done]
    known = errors[np.isfinite(errors)]
    error = f", standard error {short(float(np.median(known)), 2)}" if len(known) else ""
    return f"{data.samples:,} of {data.available:,} samples{error}"


def _data_of(landscape: Landscape, metric: str) -> DataRecipe | None:
    """The data that a metric was measured on; None where they are not known."""
    recipe = landscape.recipe
    name = recipe.data_name(metric)
    return None if name is None else recipe.data.get(name)


def spared(landscape: Landscape, metric: str) -> str:
    """A remark on interpolated points and their error, rounded up; empty where no point is interpolated.

    The error is that of the metric; for "samples" it is that of the worst sample.

    >>> from lightning_landscape.report import Report
    >>> from lightning_landscape.landscape import Grid
    >>> line, mask = Grid.from_ranges((-1, 1, 5)), np.array([False, True, False, True, False])
    >>> report = Report(interpolation=Interpolation(errors={"loss": 0.000771}))
    >>> spared(Landscape(line, {"loss": line.axes[0]}, "loss", interpolated=mask, report=report), "loss")
    '5 points, 3 evaluated, the rest interpolated to ≤ 0.078 % of the range'
    """
    if not landscape.interpolated.any():
        return ""
    report = landscape.report.interpolation or Interpolation()
    known = report.tiles if metric == "samples" else [report.errors.get(metric, np.nan)]
    error = 100 * float(np.max(known or [np.nan]))
    text = f"{landscape.grid.size:,} points, {landscape.evaluated.sum():,} evaluated, the rest interpolated"
    if not np.isfinite(error):
        return f"{text}, how well is not known"
    logs = 100 * report.log_errors.get(metric, 0.0)
    addition = "" if logs <= error else f", ≤ {_percent(logs)} of that of the logarithms"
    return f"{text} to ≤ {_percent(error)} of the range{addition}"


def _percent(value: float) -> str:
    """Two digits, rounded up: an estimate must not shrink on its way into a picture."""
    digit = 10.0 ** (np.floor(np.log10(max(value, 1e-10))) - 1)
    return f"{short(np.ceil(value / digit) * digit, 2)} %" if np.isfinite(value) else "any share"


def moment(landscape: Landscape) -> str:
    """The epoch and step at which the landscape was measured, as far as they are known.

    >>> from lightning_landscape.recipe import Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> line = Grid.from_ranges((-1, 1, 3))
    >>> moment(Landscape(line, {"loss": line.axes[0]}, "loss", recipe=Recipe(epoch=3, step=12000)))
    ' · epoch 3 · step 12,000'
    """
    known = {"epoch": landscape.recipe.epoch, "step": landscape.recipe.step}
    return "".join(f" · {name} {number:,}" for name, number in known.items() if number is not None)


def add_title(ax: Axes, title: str, note: str, lines: int = 0) -> None:
    """Writes a title with a small note above `ax`; the note takes the room of at least that many lines."""
    note = "\n".join(wrap(ax, line, STYLE.small_size) for line in note.split("\n"))
    count = note.count("\n") + 1 if note else 0
    lines = max(lines, count)
    look: Any = {"fontsize": STYLE.title_size, "fontweight": "bold", "color": STYLE.ink, "parse_math": False}
    # Without y, each drawing looks for ticks above, a fifth of the time of many tiles.
    pad = 7 + lines * 1.4 * STYLE.small_size
    ax.set_title(wrap(ax, title, STYLE.title_size), loc="left", y=1.0, pad=pad, **look)
    note += "\n" * (lines - count)
    ax.annotate(note, (0, 1), (0, 5), "axes fraction", "offset points", ha="left", va="bottom", **NOTE)


def add_footer(ax: Axes, text: str) -> None:
    """Writes small lines below the x label."""
    text = "\n".join(wrap(ax, line, STYLE.small_size) for line in text.split("\n"))
    below: Any = ("axes fraction", ax.xaxis.label) if ax.name != "3d" else "axes fraction"
    drop = 6 if ax.name != "3d" else 26  # below the slanted labels
    ax.annotate(text, (0, 0), (0, -drop), below, "offset points", ha="left", va="top", **NOTE)


def provenance(landscape: Landscape, metric: str) -> str:
    """One line with what is known of the recipe; empty for a bare landscape without a centre."""
    parts, recipe = [], landscape.recipe
    center = landscape.center.get(metric, np.nan)
    errors = landscape.standard_errors.get(metric, np.full(landscape.grid.shape, np.nan))
    errors = np.where(landscape.done & np.isfinite(errors), errors, np.nan)
    error = errors[landscape.grid.center_index] if landscape.grid.has_center else np.nan
    if np.isfinite(center):
        known = f" ± {short(error, 2)} (SE)" if np.isfinite(error) else ""
        parts.append(f"★ θ*: {short(center)}{known}")
    if not np.isfinite(error) and np.isfinite(errors).any():
        parts.append(f"SE ≤ {short(np.nanmax(errors), 2)}")
    data = _data_of(landscape, metric)
    if data is not None:
        parts.append(f"{data.samples:,} samples")
    if recipe.mode is not None:
        parts.append(f"{recipe.mode} mode")
    if recipe.seed is not None:
        parts.append(f"seed {recipe.seed}")
    if (directions := recipe.directions) is not None:
        axes, normalize = directions.axes, directions.normalize
        kind = f"axes {', '.join(axes)}" if axes else f"{directions.kind} directions"
        parts.append(f"{kind}, {normalize}-normalised" if normalize and normalize != "none" else kind)
    if bends := curvatures(landscape, metric):
        parts.append(bends)
    return " · ".join(parts)


def curvatures(landscape: Landscape, metric: str) -> str:
    """The curvature of each slice beside the lowest and the highest of all directions; empty where they are unknown.

    >>> from lightning_landscape.recipe import DirectionsRecipe, Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> from lightning_landscape.spectrum import Spectrum
    >>> spectrum = Spectrum(9, np.array([5.0]), np.zeros(1), lowest=-1.0)
    >>> recipe = Recipe(directions=DirectionsRecipe("random", lengths=[2.0]))
    >>> x = np.array([-1.0, 0.0, 1.0])
    >>> curvatures(Landscape(Grid((x,)), {"loss": 2 * x**2}, "loss", recipe=recipe, spectrum=spectrum), "loss")
    'curvature of the slice 1, of all directions −1 to 5'
    """
    spectrum = landscape.spectrum
    if spectrum is None or metric != landscape.main:
        return ""
    known = [short(bend, 3) for bend in landscape.curvature(of_weights=True) if np.isfinite(bend)]
    slices = f"curvature of the slice{'s' * (len(known) > 1)} {', '.join(known)}, of" if known else "curvature of"
    low = f"{short(spectrum.lowest, 3)} to " if np.isfinite(spectrum.lowest) else "at most "
    return f"{slices} all directions {low}{short(spectrum.largest, 3)}"


def axis_label(landscape: Landscape, direction: int) -> str:
    """The label of a grid axis: its letter, and what 1 stands for.

    >>> from lightning_landscape.recipe import DirectionsRecipe, Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> recipe = Recipe(directions=DirectionsRecipe("random", {"normalize": "filter"}))
    >>> axis_label(Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3)}, "loss", recipe=recipe), 0)
    "α   (1 = each filter's own norm)"

    Directions with words have them here, and their length:

    >>> recipe = Recipe(directions=DirectionsRecipe("gradient", lengths=[12.34], labels=["gradient"]))
    >>> axis_label(Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3)}, "loss", recipe=recipe), 0)
    'α   gradient, length 12.3'
    """
    recipe = landscape.recipe.directions
    known = UNITS.get(recipe.normalize or recipe.kind) if recipe is not None else None
    if recipe is not None and direction < len(recipe.labels):
        label = recipe.labels[direction]
        if recipe.kind != "between":
            length = f", length {short(recipe.lengths[direction], 3)}" if direction < len(recipe.lengths) else ""
            return f"{GREEK[direction]}   {label}{length}"
        known = label
    return f"{GREEK[direction]}   (1 = {known or f'length of direction {direction + 1}'})"


def axes_label(landscape: Landscape, *, is_short: bool = False) -> str:
    """The label of all grid axes together: their letters, and what 1 stands for; or their directions in words.

    Args:
        landscape: whose axes they are.
        is_short: without what the words have in parentheses.

    >>> from lightning_landscape.recipe import DirectionsRecipe, Recipe
    >>> from lightning_landscape.landscape import Grid
    >>> recipe = Recipe(directions=DirectionsRecipe("gradient", labels=["gradient", "random"]))
    >>> plane = Grid.from_ranges((-1, 1, 3), (-1, 1, 3))
    >>> axes_label(Landscape(plane, {"loss": np.zeros((3, 3))}, "loss", recipe=recipe))
    'α: gradient · β: random'
    """
    ndim, recipe = landscape.grid.ndim, landscape.recipe.directions
    if recipe is not None and len(recipe.labels) == ndim > 1:
        labels = [label.partition(" (")[0] if is_short else label for label in recipe.labels]
        return join_parts(*(f"{letter}: {label}" for letter, label in zip(GREEK, labels, strict=False)))
    return axis_label(landscape, 0).replace(GREEK[0], ", ".join(GREEK[:ndim]), 1)


def hide_frame(ax: Axes) -> None:
    """Hides the patch, ticks and frame of axes that only hold others; title, labels and footer stay possible."""
    ax.patch.set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def dress_axes(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Gives 2-D axes their labels, and a quiet frame and ticks."""
    ax.tick_params(labelsize=STYLE.tick_size, colors=STYLE.faint, length=3)
    for axis, label in ((ax.xaxis, xlabel), (ax.yaxis, ylabel)):
        axis.set_label_text(label, fontsize=STYLE.label_size, color=STYLE.ink, parse_math=False)
    for spine in ax.spines.values():
        spine.set(color=STYLE.rule, linewidth=0.8)
    place_ylabel(ax)


def place_ylabel(ax: Axes, inset: float = 2.0) -> None:
    """Puts the y label beside the left edge of a picture with a frame, not beside ticks, whose width varies.

    Args:
        ax: the axes.
        inset: from the edge to its middle, in margins.
    """
    if (frame := frame_of(ax)) is not None:
        place = blended_transform_factory(root(ax).transFigure, ax.transAxes)
        ax.yaxis.set_label_coords(inset * frame.margin / frame.width, 0.5, place)


def add_star(ax: Axes, x: float, y: float, size: float = 10) -> None:
    """Draws the ★ that marks the centre θ*, where the axes hold it."""
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    if left <= x <= right and low <= y <= high:
        look: Any = {"color": "white", "markeredgecolor": STYLE.ink, "markeredgewidth": 0.06 * size}
        ax.plot([x], [y], "*", markersize=size, zorder=10, clip_on=False, gid="center", **look)


def add_message(ax: Axes, text: str | None, size: float = STYLE.title_size, height: float = 0.72) -> None:
    """Writes a message, if there is one, into the picture itself, clear of the star in the middle."""
    if text is None:
        return
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": STYLE.rule}
    look: Any = {"ha": "center", "va": "center", "fontsize": size, "color": STYLE.ink, "zorder": 11, "bbox": box}
    ax.annotate(text, (0.5, height), xycoords="axes fraction", **look)  # text() means another thing in 3-D
