"""Curvature: Hessian-vector products that prove themselves, eigenvalues, trace and density."""

from __future__ import annotations

from .differences import GradientDifferences, in_float64
from .hessian import HessianOperator
from .lanczos import Lanczos, LanczosSettings, lanczos
from .measure import Curvature, CurvatureSettings, curvature, hessian_curvature
from .operator import AsymmetryError, MatrixOperator, Proof, SymmetricOperator
from .preconditioned import Preconditioned
from .proof import proved_hessian
from .trace import Trace, TraceSettings, trace

__all__ = [
    "AsymmetryError",
    "Curvature",
    "CurvatureSettings",
    "GradientDifferences",
    "HessianOperator",
    "Lanczos",
    "LanczosSettings",
    "MatrixOperator",
    "Preconditioned",
    "Proof",
    "SymmetricOperator",
    "Trace",
    "TraceSettings",
    "curvature",
    "hessian_curvature",
    "in_float64",
    "lanczos",
    "proved_hessian",
    "trace",
]
