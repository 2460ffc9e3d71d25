"""The trace of a Hessian with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..evaluators.mean_and_error import coverage_factor
from .lanczos import Lanczos, lanczos
from .operator import SymmetricOperator


class Trace(NamedTuple):
    """An estimate of the sum of all eigenvalues.

    Args:
        value: tr H.
        standard_error: of the value; 0 where it is exact.
        samples: the number of random vectors behind it.
    """

    value: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class TraceSettings:
    """Settings of an estimate.

    Args:
        tolerance: the standard error at which it ends, as a share of the trace.
        basis: the steps of a Lanczos run, where none is given: so many products describe the largest eigenvalues.
        least_samples: the fewest random vectors, since few give no reliable standard error.
        most_samples: the most random vectors.
        at_once: random vectors on one graph.
    """

    tolerance: float = 0.02
    basis: int = 20
    least_samples: int = 8
    most_samples: int = 100
    at_once: int = 4


def trace(operator: SymmetricOperator, run: Lanczos | None = None, settings: TraceSettings = TraceSettings()) -> Trace:
    """The trace by Hutch++ (Meyer et al. 2021), with the basis of a Lanczos run (Chen and Hallman 2023).

    tr H = tr QᵀHQ + E zᵀ(I − QQᵀ) H (I − QQᵀ) z for random signs z. The first term is exact, and known from the run. It
    has the largest eigenvalues, so that the second varies little. Samples are added until their standard error is
    small enough.

    Args:
        operator: its symmetry is checked first.
        run: a Lanczos run on the same operator, whose products count here; None to make one.
        settings: tolerances and limits.

    Raises:
        AsymmetryError: if the products are not those of a symmetric matrix.

    >>> from lightning_landscape.curvature.operator import MatrixOperator
    >>> value, error, _ = trace(MatrixOperator(torch.diag(torch.tensor([3.0, 2.0, -1.0]))))
    >>> round(value, 9), round(error, 9)
    (4.0, 0.0)
    """
    run = lanczos(operator, steps=settings.basis) if run is None else run
    if len(run.basis) >= operator.size:
        return Trace(run.trace, 0.0, 0)
    samples: list[float] = []
    while True:
        vectors = [_outside(run, operator.signs("trace", len(samples) + i)) for i in range(settings.at_once)]
        products = operator.matmat(torch.stack(vectors))
        samples += [float(v @ p) for v, p in zip(vectors, products, strict=True)]
        mean, count = float(np.mean(samples)), len(samples)
        error = float(np.std(samples, ddof=1)) / count**0.5 * coverage_factor(count - 1)
        value = run.trace + mean
        is_enough = count >= settings.least_samples and error <= settings.tolerance * abs(value)
        if is_enough or count >= settings.most_samples:
            return Trace(value, error, count)


def _outside(run: Lanczos, vector: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to the basis of a run."""
    return vector - run.project(vector) @ run.basis
