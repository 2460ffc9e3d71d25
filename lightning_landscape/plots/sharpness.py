"""Sharpness along a training: curves with the line of stability, and the spectrum over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .furniture import dress_axes
from .settings import default_settings
from .style import STYLE

Array = NDArray[np.float64]
LABELS = {
    "lambda_max": "λ_max of H",
    "lambda_max_preconditioned": "λ_max, preconditioned",
    "lambda_min": "λ_min of H",
    "along_gradient": "gᵀHg / gᵀg",
    "critical": "critical sharpness",
    "trace": "tr H",
    "sam": "SAM sharpness (loss)",
    "adaptive_sam": "adaptive SAM (loss)",
    "average_adaptive": "average adaptive sharpness (loss)",
    "epsilon": "ε-sharpness",
    "basin_width": "basin width, + 10 % (weights)",
    "basin_width_of_one": "basin width, + 1 (weights)",
    "noise_scale": "gradient noise scale (samples)",
}
CURVATURES = ("lambda_max", "critical", "along_gradient", "lambda_min")  # in one panel, with the line 2/η


@default_settings()
def draw_curves(columns: Mapping[str, Array], facts: Mapping[str, str]) -> Figure:
    """One panel for curvatures and the line of stability, one for each other measure; the steps below.

    Args:
        columns: of a `SharpnessHistory`.
        facts: "formula" of the limit, "optimizer" and "data", where known.

    Raises:
        ValueError: if nothing was measured.
    """
    is_preconditioned = "lambda_max_preconditioned" in columns
    panels: list[list[str]] = []
    if shared := [name for name in (*CURVATURES, *_eigenvalues(columns)) if name in columns]:
        panels.append(shared)
    if is_preconditioned:
        panels.append(["lambda_max_preconditioned"])
    panels += [[name] for name in LABELS if name in columns and not any(name in panel for panel in panels)]
    if not panels:
        raise ValueError("There are no measures to draw yet: train longer, or give a larger budget.")
    heights = [1.9 if i == 0 or "preconditioned" in panel[0] else 1.2 for i, panel in enumerate(panels)]
    top, foot, gap = 0.62, 0.62, 0.16  # inches
    figure = Figure(figsize=(5.6, height := sum(heights) + gap * (len(panels) - 1) + top + foot), dpi=150)
    edge = height - top
    for panel, tall in zip(panels, heights, strict=True):
        ax = figure.add_axes((0.75 / 5.6, (edge - tall) / height, 4.6 / 5.6, tall / height), label=panel[0])
        _draw_panel(ax, columns, panel, _line(columns, facts, panel))
        is_last = panel is panels[-1]
        dress_axes(ax, "step of the optimiser" if is_last else "", "")
        ax.tick_params(labelbottom=is_last)
        edge -= tall + gap
    _write(figure, height, "Sharpness along the training", facts)
    return figure


def _eigenvalues(columns: Mapping[str, Array]) -> list[str]:
    """The names of the further eigenvalues, descending."""
    return [name for name in columns if name.startswith("eigenvalue_")]


def _line(columns: Mapping[str, Array], facts: Mapping[str, str], panel: Sequence[str]) -> list[tuple[Array, str]]:
    """The lines of stability of a panel, each with its words."""
    rates, limits = columns.get("learning_rate"), columns.get("limit")
    if panel[0] == "lambda_max_preconditioned":
        return [] if limits is None else [(limits, facts.get("formula", ""))]
    if rates is None or not {"lambda_max", "critical"} & set(panel):
        return []
    lines = [(2 / rates, "2/η")] if "critical" in panel or limits is None else []
    is_plain = "lambda_max_preconditioned" not in columns and "lambda_max" in panel
    if limits is not None and is_plain and not (lines and np.allclose(limits, 2 / rates, equal_nan=True)):
        lines.append((limits, facts.get("formula", "")))
    return lines


def _draw_panel(ax: Axes, columns: Mapping[str, Array], panel: Sequence[str], lines: list[tuple[Array, str]]) -> None:
    ax.margins(y=0.12)  # room for the line of stability below the frame
    steps, colors = columns["step"], (*STYLE.directions, "#8a5aa8", "#7a7a7a")
    for i, name in enumerate(panel):
        done = np.isfinite(columns[name])
        look = {"color": colors[min(i, len(colors) - 1)], "linewidth": 1.4, "markersize": 2.6}
        is_dense = done.sum() > 60
        label = LABELS.get(name, name.replace("eigenvalue_", "eigenvalue "))
        ax.plot(steps[done], columns[name][done], "-" if is_dense else ".-", label=label, zorder=3, **look)  # type: ignore[arg-type]
        if f"{name}_error" in columns:
            reach = 2 * columns[f"{name}_error"][done]
            low, high = columns[name][done] - reach, columns[name][done] + reach
            ax.fill_between(steps[done], low, high, color=look["color"], alpha=0.18, linewidth=0)
    for (values, words), dashes in zip(lines, ((0, (4, 2)), (0, (1, 1.5))), strict=False):
        ax.plot(steps, values, color=STYLE.alarm, linewidth=1.1, linestyle=dashes, label=f"stable below {words}")
    if _is_wide([columns[name] for name in panel], [values for values, _ in lines]):
        ax.set_yscale("log")
        ax.minorticks_off()
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
    if len(steps) > 1:
        ax.set_xlim(float(steps[0]), float(steps[-1]))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.legend(
        loc="best", fontsize=STYLE.small_size, frameon=True, framealpha=0.8, edgecolor="none", labelcolor=STYLE.ink
    )


def _is_wide(curves: Sequence[Array], lines: Sequence[Array], far: float = 4, decades: float = 1.5) -> bool:
    """True if an axis should be logarithmic, as far as all numbers are positive.

    Args:
        curves, lines: the values on it.
        far: up to so many times the line of stability, an axis from 0 shows where the curves cross it.
        decades: the largest range that is not logarithmic, where there is no line.
    """
    values = np.concatenate([*curves, *lines])
    values = values[np.isfinite(values)]
    if not values.size or values.min() <= 0:
        return False
    if lines:
        return bool(values.max() > far * np.nanmax(np.concatenate(lines)) or values.max() < np.nanmax(lines[0]) / far)
    return bool(values.max() > 10**decades * values.min())


@default_settings()
def draw_spectra(densities: Mapping[int, tuple[Array, Array]], columns: Mapping[str, Array]) -> Figure:
    """The density of the eigenvalues over the steps, in colours on a logarithmic scale.

    Args:
        densities: values t and their density φ(t), by step.
        columns: of a `SharpnessHistory`; λ_max is drawn where it is known.

    Raises:
        ValueError: if there is no density.
    """
    if not densities:
        raise ValueError("There is no spectrum to draw: give spectrum=True, and a budget that has time for it.")
    figure = Figure(figsize=(5.6, 3.6), dpi=150)
    ax = figure.add_axes((0.75 / 5.6, 0.62 / 3.6, 3.9 / 5.6, 2.36 / 3.6))
    steps = np.array(list(densities), dtype=np.float64)
    low, high = (
        min(float(t[0]) for t, _ in densities.values()),
        max(float(t[-1]) for t, _ in densities.values()),
    )
    values = np.linspace(low, high, 400)
    grid = np.array([np.interp(values, t, density, left=0, right=0) for t, density in densities.values()])
    edges = _edges(steps)
    peak = float(grid.max())
    mesh = ax.pcolormesh(
        edges,
        _edges(values),
        np.ma.masked_less(grid.T, 1e-5 * peak),
        cmap=STYLE.colormap,
        norm=LogNorm(1e-5 * peak, peak),
    )
    if "lambda_max" in columns:
        done = np.isfinite(columns["lambda_max"])
        ax.plot(
            columns["step"][done], columns["lambda_max"][done], color=STYLE.alarm, linewidth=1.1, label="λ_max of H"
        )
        ax.legend(loc="best", fontsize=STYLE.small_size, frameon=True, framealpha=0.8, edgecolor="none")
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    dress_axes(ax, "step of the optimiser", "eigenvalue of H")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar = figure.colorbar(mesh, cax=figure.add_axes((4.8 / 5.6, 0.62 / 3.6, 0.1 / 5.6, 2.36 / 3.6)))
    bar.set_label("density", fontsize=STYLE.label_size, color=STYLE.ink)
    bar.ax.tick_params(labelsize=STYLE.tick_size, colors=STYLE.faint)
    bar.outline.set_visible(False)
    _write(figure, 3.6, "Spectrum of the Hessian along the training", {})
    return figure


def _edges(steps: Array) -> Array:
    """The edges of cells around the steps."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middles = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middles[0]], middles, [2 * steps[-1] - middles[-1]]])


def _write(figure: Figure, height: float, title: str, facts: Mapping[str, str]) -> None:
    """Writes the title, and below it optimiser and data."""
    left = 0.75 / 5.6
    words = " · ".join(text for name in ("optimizer", "data") if (text := facts.get(name)))
    figure.text(left, 1 - 0.27 / height, title, fontsize=STYLE.title_size, color=STYLE.ink, weight="bold")
    figure.text(left, 1 - 0.47 / height, words, fontsize=STYLE.small_size, color=STYLE.faint, parse_math=False)
