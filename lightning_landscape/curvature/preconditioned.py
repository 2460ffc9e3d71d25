"""The Hessian as an adaptive optimiser sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import SymmetricOperator


class Preconditioned(SymmetricOperator):
    """√p H √p, for an optimiser whose update is −η p ⊙ g with a positive p. Its eigenvalues are those of diag(p) H.

    Its λ_max, and not that of H, is what such a training compares with 2/η (Cohen et al. 2022). For Adam p is
    1 / (√v̂ + ε), with v̂ the corrected second moment.

    Args:
        operator: H, of which each product takes one.
        scale: p, shape (P,).

    Raises:
        ValueError: if p has another shape, or is not positive.

    >>> from lightning_landscape.curvature.operator import MatrixOperator
    >>> hessian = MatrixOperator(torch.diag(torch.tensor([4.0, 1.0])))
    >>> Preconditioned(hessian, torch.tensor([0.25, 4.0])).matvec(torch.ones(2)).tolist()
    [1.0, 4.0]
    """

    def __init__(self, operator: SymmetricOperator, scale: Tensor) -> None:
        if scale.shape != (operator.size,) or not bool((scale > 0).all()):
            raise ValueError(
                f"scale has shape {tuple(scale.shape)}, its least number is {float(scale.min()):g}: give a positive "
                f"number for each of {operator.size} parameters."
            )
        template = {name: torch.empty(shape, device=operator.device) for name, shape in operator.shapes.items()}
        super().__init__(template, operator.seed)
        self.operator, self.method = operator, f"{operator.method}, preconditioned"
        self.root = scale.to(self.device, torch.float64).sqrt()

    def multiply(self, vectors: Tensor) -> Tensor:
        """See `SymmetricOperator`."""
        return self.root * self.operator.matmat(self.root * vectors)
