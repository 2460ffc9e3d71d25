"""Spectrum: eigenvalues, trace and density of a Hessian, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .plots import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The curvature of a mean loss at one set of weights: the spectrum of its Hessian H, of P × P numbers.

    Args:
        size: P, the number of parameters.
        eigenvalues: the k largest by algebraic value, descending, shape (k,).
        residuals: ‖Hv − λv‖ of each, with ‖v‖ = 1, shape (k,). An eigenvalue of H lies within this distance.
        lowest: λ_min, the smallest by algebraic value; NaN where it was not computed.
        lowest_residual: ‖Hv − λ_min v‖.
        trace: tr H, the sum of all eigenvalues; NaN where it was not computed.
        trace_error: the standard error of the trace; 0 where the trace is exact.
        nodes: θᵢ of each probe of the density, shape (m,) each; empty where no density was computed.
        weights: wᵢ of each node, whose sum is 1 for each probe.
        loss: the mean loss at these weights.
        gradient_norm: ‖g‖ there.
        curvature_along_gradient: gᵀHg / gᵀg; NaN where it was not computed.
        asymmetry: |uᵀHv − vᵀHu| / √(‖Hu‖ ‖Hv‖) of a random pair, which proves the products.
        method: the way of the products, in words.
        products: the number of Hessian-vector products behind these numbers.
        samples: the number of data behind the loss.
        seed: of the random vectors, and of the random numbers that all passes share.
        blocks: the spectra of the diagonal blocks, by layer.

    >>> spectrum = Spectrum(3, np.array([5.0, 1.0]), np.zeros(2), lowest=-1.0, trace=5.0, trace_error=0.0)
    >>> spectrum.largest, spectrum.ratio
    (5.0, 0.2)
    """

    size: int
    eigenvalues: Array
    residuals: Array
    lowest: float = np.nan
    lowest_residual: float = np.nan
    trace: float = np.nan
    trace_error: float = np.nan
    nodes: tuple[Array, ...] = ()
    weights: tuple[Array, ...] = ()
    loss: float = np.nan
    gradient_norm: float = np.nan
    curvature_along_gradient: float = np.nan
    asymmetry: float = np.nan
    method: str = ""
    products: int = 0
    samples: int = 0
    seed: int = 0
    blocks: Mapping[str, Spectrum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.eigenvalues.shape != self.residuals.shape:
            raise ValueError(
                f"eigenvalues has shape {self.eigenvalues.shape}, residuals {self.residuals.shape}: give one residual "
                "an eigenvalue."
            )
        if [len(nodes) for nodes in self.nodes] != [len(weights) for weights in self.weights]:
            raise ValueError("nodes and weights differ in length: give one weight a node.")

    @property
    def largest(self) -> float:
        """λ_max, the largest eigenvalue by algebraic value."""
        return float(self.eigenvalues[0])

    @property
    def ratio(self) -> float:
        """|λ_min / λ_max|, near 0 where the loss is nearly convex (Li et al. 2018, section 6)."""
        return abs(self.lowest) / abs(self.largest) if self.largest else np.nan

    @property
    def node_mean(self) -> tuple[float, float]:
        """The mean eigenvalue tr H / P by the density, Σ wᵢ θᵢ, and its standard error over the probes.

        >>> two = (np.array([1.0, 3.0]),) * 2
        >>> Spectrum(4, np.ones(1), np.zeros(1), nodes=two, weights=(np.array([0.5, 0.5]),) * 2).node_mean
        (2.0, 0.0)
        """
        means = np.array([w @ nodes for nodes, w in zip(self.nodes, self.weights, strict=True)])
        error = float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else np.nan
        return (float(means.mean()) if len(means) else np.nan), error

    def density(self, points: int = 512, width: float | None = None) -> tuple[Array, Array]:
        """The density of the eigenvalues, whose integral is 1, smoothed by a normal distribution.

        It is φ(t) = Σ wᵢ N(t; θᵢ, σ²), as a mean over the probes (stochastic Lanczos quadrature; Ghorbani et al.
        2019, section 2.1).

        Args:
            points: the number of values t.
            width: σ, in units of an eigenvalue; None for a hundredth of the range of the nodes.

        Returns:
            t and φ(t), each of shape (points,).

        Raises:
            ValueError: if no density was computed.

        >>> one = Spectrum(2, np.ones(1), np.zeros(1), nodes=(np.array([0.0, 4.0]),), weights=(np.array([0.75, 0.25]),))
        >>> t, density = one.density()
        >>> round(float(np.sum(density[t < 2]) * (t[1] - t[0])), 6)
        0.75
        """
        if not self.nodes:
            raise ValueError("This spectrum has no density: compute it with density=True.")
        low, high = min(nodes.min() for nodes in self.nodes), max(nodes.max() for nodes in self.nodes)
        sigma = ((high - low) or abs(high) or 1.0) / 100 if width is None else width
        t = np.linspace(low - 5 * sigma, high + 5 * sigma, points)
        curve = np.zeros(points)
        for nodes, weights in zip(self.nodes, self.weights, strict=True):
            bells = np.exp(-0.5 * ((t[:, None] - nodes) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
            curve += bells @ weights / len(self.nodes)
        return t, curve

    def plot(self) -> Figure:
        """The picture of the density, on a logarithmic axis, with extremes and bulk marked; a notebook shows it.

        Raises:
            ValueError: if no density was computed.
        """
        from .plots.spectrum import draw_spectrum

        return draw_spectrum(self)

    def sentence(self) -> str:
        """λ_max, λ_min and the trace on one line, as far as they are known.

        >>> Spectrum(3, np.array([5.0]), np.zeros(1), lowest=-1.0, samples=64).sentence()
        'λ_max 5, λ_min -1 (64 samples)'
        """
        parts = [f"λ_max {self.largest:.4g}"]
        parts += [f"λ_min {self.lowest:.4g}"] if np.isfinite(self.lowest) else []
        parts += [f"trace {self.trace:.4g} ± {self.trace_error:.2g}"] if np.isfinite(self.trace) else []
        return ", ".join(parts) + (f" ({self.samples:,} samples)" if self.samples else "")

    def __str__(self) -> str:
        values = ", ".join(f"{value:.4g}" for value in self.eigenvalues)
        lines = [f"largest eigenvalues of {self.size:,}: {values}"]
        if np.isfinite(self.lowest):
            lines.append(f"lowest: {self.lowest:.4g}")
        if np.isfinite(self.trace):
            lines.append(f"trace: {self.trace:.4g} ± {self.trace_error:.2g}")
        return "; ".join(lines)


def equal_spectra(a: Spectrum | None, b: Spectrum | None) -> bool:
    """True if both hold the same numbers, or both are None; NaN equals NaN."""
    if a is None or b is None:
        return a is b

    def facts(spectrum: Spectrum) -> list[str]:
        return [repr(_plain(getattr(spectrum, entry.name))) for entry in fields(spectrum) if entry.name != "blocks"]

    same_blocks = a.blocks.keys() == b.blocks.keys() and all(equal_spectra(a.blocks[k], b.blocks[k]) for k in a.blocks)
    return same_blocks and facts(a) == facts(b)


def _plain(value: object) -> object:
    """Arrays as lists."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
