"""Lanczos: the ends of a spectrum, and the nodes of its density, from one run of products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .operator import SymmetricOperator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LanczosSettings:
    """Settings of a run.

    Args:
        tolerance: the largest ‖Hv − λv‖, as a share of |λ_max| for the largest eigenvalues, and of |λ_min| for λ_min.
            The error of an eigenvalue is about the square of that, divided by the distance to the next one.
        rounding: a residual below this share of the largest |λ| is rounding of the products, float32 being the worst.
        least_steps: the fewest products, where the run also serves as a probe of the density.
        most_steps: the most products.
        breakdown: a new direction shorter than this share of the largest |λ| is rounding of float64.
    """

    tolerance: float = 1e-4
    rounding: float = 1e-6
    least_steps: int = 0
    most_steps: int = 100
    breakdown: float = 1e-13


@dataclass(frozen=True, eq=False)
class Lanczos:
    """The result of a run of m steps: H Q = Q T + β q eᵀ, with the eigenpairs of T.

    Args:
        basis: Q, orthonormal rows, shape (m, P), float64.
        following: q, the unit vector that comes next, shape (P,); zeros where the basis spans all that there is.
        beta: β ≥ 0.
        tridiagonal: T, shape (m, m).
        values: the Ritz values θ, ascending, shape (m,).
        vectors: the eigenvectors of T in columns, shape (m, m).
    """

    basis: Tensor
    following: Tensor
    beta: float
    tridiagonal: Array
    values: Array
    vectors: Array

    @property
    def residuals(self) -> Array:
        """‖Hv − θv‖ of each Ritz pair, shape (m,)."""
        return self.beta * np.abs(self.vectors[-1])

    @property
    def weights(self) -> Array:
        """The weights of the Ritz values in the density: squared first components, whose sum is 1, shape (m,)."""
        return self.vectors[0] ** 2

    @property
    def trace(self) -> float:
        """tr QᵀHQ, the part of the trace in the basis."""
        return float(np.trace(self.tridiagonal))

    def vector(self, index: int) -> Tensor:
        """The unit Ritz vector of `values` at an index, shape (P,); its largest number is positive."""
        column = torch.from_numpy(np.ascontiguousarray(self.vectors[:, index])).to(self.basis.device)
        vector = column @ self.basis
        return vector * torch.sign(vector[vector.abs().argmax()]) / vector.norm()

    def project(self, vector: Tensor) -> Tensor:
        """Coordinates Qᵀv of a vector, shape (m,)."""
        return self.basis @ vector

    def product(self, coordinates: Tensor) -> Tensor:
        """HQc of coordinates c, shape (P,), without a product of H."""
        bent = torch.from_numpy(self.tridiagonal).to(coordinates.device) @ coordinates
        return bent @ self.basis + self.beta * coordinates[-1] * self.following


def lanczos(
    operator: SymmetricOperator,
    top: int = 1,
    *,
    lowest: bool = True,
    steps: int | None = None,
    start: Tensor | None = None,
    settings: LanczosSettings = LanczosSettings(),
) -> Lanczos:
    """A Lanczos run with full re-orthogonalisation in float64 (Golub and Van Loan 2013, section 10.3).

    The run ends when the `top` largest eigenvalues are within the tolerance, and λ_min on its own scale. Each
    eigenvalue comes once. One that occurs several times may be listed once; the weights count it in full.

    Args:
        operator: its symmetry is checked first, and that product begins the run.
        top: k, of the largest eigenvalues.
        lowest: wait for the smallest eigenvalue, too.
        steps: so many steps, whatever has converged; None for as many as it takes.
        start: the first vector, shape (P,); None for that of the proof.
        settings: tolerances and limits.

    Raises:
        AsymmetryError: if the products are not those of a symmetric matrix.
        ValueError: if `top` is less than 1.

    >>> from lightning_landscape.curvature.operator import MatrixOperator
    >>> run = lanczos(MatrixOperator(torch.diag(torch.tensor([5.0, 1.0, 0.5, -2.0]))), top=2)
    >>> run.values[::-1][:2].round(6).tolist(), run.values[0].round(6).item(), run.weights.sum().round(6).item()
    ([5.0, 1.0], -2.0, 1.0)
    """
    if top < 1:
        raise ValueError(f"top={top!r}: give the number of the largest eigenvalues, at least 1.")
    proof = operator.check_symmetry()
    limit = min(steps or max(settings.most_steps, settings.least_steps), operator.size)
    first = proof.vectors[0] if start is None else start.to(operator.device, torch.float64)
    basis = [first / first.norm()]
    known: Tensor | None = proof.products[0] if start is None else None  # the first product
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        product = operator.matvec(basis[-1]) if known is None else known.clone()
        known = None
        diagonal.append(float(product @ basis[-1]))
        stacked = torch.stack(basis)
        for _ in range(2):  # once leaves rounding errors of the first order
            product -= (stacked @ product) @ stacked
        beta = float(product.norm())
        tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        values, vectors = np.linalg.eigh(tridiagonal)
        scale = float(np.abs(values).max())
        is_broken = beta <= settings.breakdown * scale
        following = _fresh(operator, stacked, len(basis)) if is_broken else product / beta
        beta = 0.0 if is_broken else beta
        run = Lanczos(stacked, following, beta, tridiagonal, values, vectors)
        may_end = steps is None and len(basis) >= settings.least_steps
        if len(basis) >= limit or (may_end and _has_converged(run, min(top, operator.size), lowest, settings)):
            return run
        beside.append(beta)
        basis.append(following)


def _fresh(operator: SymmetricOperator, basis: Tensor, key: int) -> Tensor:
    """A random unit vector that is orthogonal to all rows of a basis; zeros where there is none."""
    if len(basis) >= operator.size:
        return torch.zeros_like(basis[0])
    vector = operator.random("fresh", key)
    for _ in range(2):
        vector -= (basis @ vector) @ basis
    return vector / vector.norm()


def _has_converged(run: Lanczos, top: int, lowest: bool, settings: LanczosSettings) -> bool:
    if len(run.values) < top:
        return False
    scale = float(np.abs(run.values).max())
    ends = np.maximum(settings.tolerance * np.abs(run.values[[0, -1]]), settings.rounding * scale)
    return bool((run.residuals[-top:] <= ends[1]).all()) and (not lowest or bool(run.residuals[0] <= ends[0]))
