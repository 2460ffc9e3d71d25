"""The sentences on the curvature of all directions, where the Hessian's eigenvalues are known."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..spectrum import Spectrum
from .settings import ReadingSettings
from .surface import Surface
from .text import axis_name, number, percent


def curvature_sentences(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """A sentence each on the slices beside λ_max and λ_min, the kind of the point, the learning rate and the trace."""
    spectrum = surface.spectrum
    if spectrum is None or not surface.is_main:
        return
    beside = f"{_slices(surface)}{_range(spectrum)}{_convexity(surface, spectrum, settings)}"
    yield beside[0].upper() + beside[1:]
    yield from _kind(surface, spectrum, settings)
    yield from _edge(surface, spectrum, settings)
    if spectrum.trace > 0 and spectrum.largest > 0:
        times = f"{spectrum.trace / spectrum.largest:.3g}"
        yield (
            f"The trace of {number(spectrum.trace)} is {times} λ_max: all directions together bend as much as {times} "
            "of the sharpest."
        )


def _slices(surface: Surface) -> str:
    """The curvatures of the slices, which go on in a half sentence; empty where they are unknown."""
    known = {axis_name(i): c for i, c in enumerate(surface.curvatures) if math.isfinite(c)}
    if not known:
        return ""
    values = ", ".join(f"{number(curvature)} along {name}" for name, curvature in known.items())
    return f"over a step of the grid the slice{'s bend' if len(known) > 1 else ' bends'} by {values}; "


def _range(spectrum: Spectrum) -> str:
    """The range of the eigenvalues."""
    low = f"from {number(spectrum.lowest)} (λ_min) " if math.isfinite(spectrum.lowest) else "at most "
    of = f", on {spectrum.samples:,} samples" if spectrum.samples else ""
    to = "to " if math.isfinite(spectrum.lowest) else ""
    return f"the curvature of all directions is {low}{to}{number(spectrum.largest)} (λ_max){of}."


def _convexity(surface: Surface, spectrum: Spectrum, settings: ReadingSettings) -> str:
    """The warning that convex slices are of a loss that is not; empty where they are not, or it may be."""
    is_convex = bool(surface.curvatures) and all(c > 0 for c in surface.curvatures)
    if not is_convex or not spectrum.lowest < -_least(spectrum, settings):
        return ""
    is_one = len(surface.curvatures) == 1
    return f" The slice{' is' if is_one else 's are'} convex at the centre, and the loss is not."


def _least(spectrum: Spectrum, settings: ReadingSettings) -> float:
    """The size below which an eigenvalue may be zero."""
    residual = spectrum.lowest_residual if math.isfinite(spectrum.lowest_residual) else 0.0
    return max(residual, settings.zero_share * abs(spectrum.largest))


def _kind(surface: Surface, spectrum: Spectrum, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on the point: a minimum, a saddle, a maximum or a slope."""
    low, least = spectrum.lowest, _least(spectrum, settings)
    if math.isnan(low):
        return
    fall = fall_along_gradient(spectrum)
    is_still = fall <= settings.still_share * abs(surface.origin)  # False where it is unknown
    if low < -least:
        share = f", {percent(abs(low / spectrum.largest))} of λ_max in size" if spectrum.largest > 0 else ""
        stationary = "a saddle" if spectrum.largest > least else "a maximum"
        yield f"The centre is {stationary if is_still else 'no minimum'}: λ_min is negative{share}.{_fall(fall)}"
        return
    bottom = "all eigenvalues are positive" if low > least else "no eigenvalue is clearly negative"
    if math.isnan(fall):
        yield f"Where the gradient is zero, the centre is a minimum: {bottom}."
    elif is_still:
        yield f"The centre is a minimum: {bottom}.{_fall(fall)}"
    else:
        yield f"The centre is on a slope, no minimum yet, though {bottom}.{_fall(fall)}"


def _fall(fall: float) -> str:
    """The sentence on the fall along the gradient; empty without one."""
    if math.isnan(fall) or fall == 0:
        return ""
    text = f"a parabola would fall by {number(fall)}" if math.isfinite(fall) else "the loss bends down"
    return f" Along the gradient {text}."


def fall_along_gradient(spectrum: Spectrum) -> float:
    """The fall to the bottom of the parabola along the gradient, ‖g‖² / 2c; NaN where unknown, inf without a bottom.

    >>> import numpy as np
    >>> fall_along_gradient(Spectrum(2, np.ones(1), np.zeros(1), gradient_norm=2.0, curvature_along_gradient=4.0))
    0.5
    """
    length, bend = spectrum.gradient_norm, spectrum.curvature_along_gradient
    if length == 0:
        return 0.0
    if not math.isfinite(length + bend):
        return math.nan
    return length**2 / (2 * bend) if bend > 0 else math.inf


def _edge(surface: Surface, spectrum: Spectrum, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on λ_max against 2/η."""
    rate = surface.learning_rate
    if rate is None or not rate > 0 or not spectrum.largest > 0:
        return
    edge = 2 / rate
    ratio = spectrum.largest / edge
    where = "at"
    if abs(ratio - 1) > settings.edge_share:
        where = "over" if ratio > 1 else "below"
    yield (
        f"λ_max is {ratio:.2g} times 2/η = {number(edge)}, for the learning rate η = {number(rate)}: {where} the edge "
        "of stability of plain gradient descent. Momentum and Adam have other edges."
    )
