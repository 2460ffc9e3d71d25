"""The picture of a spectrum: the density of the eigenvalues, on a logarithmic axis, with extremes and bulk marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from ..spectrum import Spectrum
from .frames import Frame, text_width
from .furniture import describe, dress_axes, join_parts, open_axes, root
from .levels import short
from .settings import default_settings
from .style import STYLE


@dataclass(frozen=True)
class SpectrumSettings:
    """The limits of the picture of a spectrum.

    Args:
        bulk: the share of the eigenvalues in the bulk. The few outliers are a per cent or less of them.
        floor: the lowest density that is drawn, as a share of the peak of one eigenvalue alone.
        headroom: the highest, as a multiple of the highest density; room for the names of the extremes.
        margin: beside the extremes, as a share of their distance.
    """

    bulk: float = 0.9
    floor: float = 0.1
    headroom: float = 8.0
    margin: float = 0.06


SETTINGS = SpectrumSettings()


@default_settings()
def draw_spectrum(spectrum: Spectrum, *, ax: Axes | None = None) -> Figure:
    """The density of the eigenvalues, φ(λ), whose integral is 1; the largest eigenvalues and λ_min as ticks.

    Args:
        spectrum: with a density.
        ax: where to draw; None for a new figure.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if no density was computed.
    """
    t, density = spectrum.density(points=2048)
    width = (t[-1] - t[0]) / 110  # the nodes span 100 widths, and 5 more on each side
    alone = 1 / (spectrum.size * width * np.sqrt(2 * np.pi))  # the peak of one eigenvalue
    ax = open_axes(ax, Frame(height=4.0, left=0.78, right=0.16, top=0.66, bottom=1.06))
    low, high = _ends(spectrum)
    gap = SETTINGS.margin * (high - low or abs(high) or 1.0)
    floor, top = SETTINGS.floor * alone, SETTINGS.headroom * float(density.max())
    ax.set_yscale("log")
    ax.set_xlim(min(low, float(t[0])) - gap, max(high, float(t[-1])) + gap)
    ax.set_ylim(floor, max(top, 10 * floor))
    start, stop = bulk_of(spectrum, SETTINGS.bulk)
    label = f"{SETTINGS.bulk:.0%} of all: {short(start, 2)} to {short(stop, 2)}".replace("%", " %")
    ax.axvspan(start, stop, color=STYLE.directions[1], alpha=0.22, linewidth=0, zorder=1, label=label, gid="bulk")
    ax.fill_between(t, floor, np.maximum(density, floor), color=STYLE.directions[0], alpha=0.3, linewidth=0, zorder=2)
    ax.plot(
        t,
        np.where(density > floor, density, np.nan),
        color=STYLE.directions[0],
        linewidth=1.4,
        zorder=3,
        label="density",
    )
    ax.axhline(alone, color=STYLE.faint, linewidth=0.8, linestyle=":", zorder=2, label="one eigenvalue")
    _mark_extremes(ax, spectrum)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.minorticks_off()
    ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
    dress_axes(ax, "eigenvalue λ of the Hessian", "density")
    _add_legend(ax)
    describe(ax, f"spectrum of {spectrum.size:,} eigenvalues", "", _source(spectrum))
    return root(ax)


def bulk_of(spectrum: Spectrum, share: float) -> tuple[float, float]:
    """The ends of the middle `share` of the eigenvalues, by their density.

    >>> nodes, weights = (np.array([-1.0, 0.0, 9.0]),), (np.array([0.04, 0.92, 0.04]),)
    >>> bulk_of(Spectrum(100, np.array([9.0]), np.zeros(1), nodes=nodes, weights=weights), 0.9)
    (0.0, 0.0)
    """
    nodes, weights = np.concatenate(spectrum.nodes), np.concatenate(spectrum.weights)
    order = np.argsort(nodes, kind="stable")
    total = np.cumsum(weights[order]) / weights.sum()
    ends = [int(np.searchsorted(total, at)) for at in ((1 - share) / 2, (1 + share) / 2)]
    return float(nodes[order][ends[0]]), float(nodes[order][min(ends[1], len(nodes) - 1)])


def _ends(spectrum: Spectrum) -> tuple[float, float]:
    """The lowest and the highest eigenvalue that is known."""
    known = [*spectrum.eigenvalues, *([spectrum.lowest] if np.isfinite(spectrum.lowest) else [])]
    return float(min(known)), float(max(known))


def _mark_extremes(ax: Axes, spectrum: Spectrum) -> None:
    """Marks the eigenvalues that are known at the lower edge, and names the extremes at the upper one."""
    ticks = [*spectrum.eigenvalues.tolist(), *([spectrum.lowest] if np.isfinite(spectrum.lowest) else [])]
    look: Any = {"linestyle": "", "color": STYLE.good, "zorder": 5, "clip_on": False}
    place = ax.get_xaxis_transform()
    ax.plot(ticks, [0.03] * len(ticks), "|", markersize=9, markeredgewidth=1.4, transform=place, gid="known", **look)
    names = {"λ_max": spectrum.largest, **({"λ_min": spectrum.lowest} if np.isfinite(spectrum.lowest) else {})}
    middle = sum(ax.get_xlim()) / 2
    for row, (name, value) in enumerate(names.items()):
        ax.axvline(value, color=STYLE.good, linewidth=0.8, zorder=2)
        side = "right" if value > middle else "left"
        gap = -3 if side == "right" else 3
        ax.annotate(
            f"{name} {short(value, 3)}", (value, 1), (gap, -5 - 11 * row), place, "offset points", ha=side, va="top",
            fontsize=STYLE.tick_size, color=STYLE.ink, parse_math=False, zorder=6,
        )  # fmt: skip


def _add_legend(ax: Axes) -> None:
    texts = ax.get_legend_handles_labels()[1]
    frame_width = 72 * root(ax).get_figwidth() * 0.97
    size = min(STYLE.tick_size, frame_width / sum(text_width(text) + 4.2 for text in texts))
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.2, 1.0), ncols=len(texts), fontsize=size, frameon=False, borderpad=0.2,
        labelcolor=STYLE.faint, columnspacing=1.2, handlelength=1.8, handletextpad=0.5, borderaxespad=0.1,
    )  # fmt: skip


def _source(spectrum: Spectrum) -> str:
    """The line on where the numbers come from."""
    trace = f"trace {short(spectrum.trace)} ± {short(spectrum.trace_error, 2)} (SE)"
    return join_parts(
        trace if np.isfinite(spectrum.trace) else "",
        f"loss {short(spectrum.loss)}" if np.isfinite(spectrum.loss) else "",
        f"{spectrum.samples:,} samples" if spectrum.samples else "",
        f"{len(spectrum.nodes)} probes",
        f"{spectrum.method}, asymmetry {spectrum.asymmetry:.0e}" if np.isfinite(spectrum.asymmetry) else "",
        f"seed {spectrum.seed}",
    )
