"""Symmetric operators, which are known by their products with vectors, and the proof of their symmetry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..isolation.rng import keyed_seed
from ..objectives.base import CannotMeasureError


@dataclass(frozen=True, eq=False)
class Proof:
    """The proof of one operator: the products of a random pair of vectors u and v.

    Args:
        asymmetry: |uᵀHv − vᵀHu| / √(‖Hu‖ ‖Hv‖), which is 0 for a symmetric H but for rounding.
        vectors: u and v of length 1, shape (2, P), float64.
        products: Hu and Hv, shape (2, P), float64.
    """

    asymmetry: float
    vectors: Tensor
    products: Tensor


class AsymmetryError(CannotMeasureError):
    """An error for products that are not those of a Hessian, which is symmetric."""


class SymmetricOperator:
    """A symmetric matrix H, known by its products. A subclass has `multiply`.

    Args:
        params: the tensors behind the P numbers, by name and in their order.
        seed: of random vectors.

    Attributes:
        size: P.
        products: the number of products until now.
        method: the way of the products, in words.
        tolerance: the largest asymmetry of a proof. Right products had 3e-8 in float32, wrong ones 1e-3 and more.
        after_product: is called after every product, for those who show the progress.

    >>> import numpy as np
    >>> diagonal = MatrixOperator(torch.diag(torch.tensor([3.0, 1.0])))
    >>> diagonal.matvec(torch.tensor([1.0, 2.0])).tolist(), diagonal.check_symmetry().asymmetry < 1e-12
    ([3.0, 2.0], True)
    """

    method = "given"
    tolerance = 1e-6

    def __init__(self, params: Mapping[str, Tensor], seed: int = 42) -> None:
        self.shapes = {name: tensor.shape for name, tensor in params.items()}
        self.counts = [tensor.numel() for tensor in params.values()]
        self.size, self.seed, self.products = sum(self.counts), seed, 0
        device = next(iter(params.values())).device
        self.device = torch.device("cpu") if device.type == "mps" else device  # which lacks float64
        self.after_product: Callable[[], object] = lambda: None
        self._proof: Proof | None = None

    def multiply(self, vectors: Tensor) -> Tensor:
        """H times each row, shape (m, P), float64 on `device`."""
        raise NotImplementedError

    def matmat(self, vectors: Tensor) -> Tensor:
        """H times each row of `vectors`, shape (m, P), in float64.

        Raises:
            ValueError: if a row has another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"vectors has shape {tuple(vectors.shape)}: give one row of {self.size} numbers a vector.")
        result = self.multiply(vectors.to(self.device, torch.float64))
        self.products += len(vectors)
        for _ in vectors:
            self.after_product()
        return result

    def matvec(self, vector: Tensor) -> Tensor:
        """H times a vector of shape (P,), in float64."""
        return self.matmat(vector[None])[0]

    def random(self, *key: object) -> Tensor:
        """A vector of independent normal numbers, shape (P,): the same for the same key, on every device."""
        generator = torch.Generator().manual_seed(keyed_seed(self.seed, *key))
        return torch.randn(self.size, generator=generator, dtype=torch.float64).to(self.device)

    def signs(self, *key: object) -> Tensor:
        """A vector of independent random signs, shape (P,)."""
        return torch.where(self.random(*key) < 0, -1.0, 1.0).to(torch.float64)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector of shape (P,) as tensors in the shapes of the parameters."""
        pieces = vector.split(self.counts)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def check_symmetry(self) -> Proof:
        """The proof uᵀHv = vᵀHu for a random pair, once for an operator.

        Raises:
            AsymmetryError: if they differ by more than `tolerance`.
        """
        if self._proof is None:
            self._proof = self.prove(torch.stack([self.random("proof", 0), self.random("proof", 1)]))
        if not self._proof.asymmetry <= self.tolerance:
            raise AsymmetryError(
                f"The products of {self.method} are not those of a Hessian: uᵀHv and vᵀHu differ by "
                f"{self._proof.asymmetry:.1e} of their size, {self.tolerance:.0e} is allowed."
            )
        return self._proof

    def prove(self, pair: Tensor) -> Proof:
        """The proof with a given pair, shape (2, P)."""
        vectors = pair / torch.linalg.vector_norm(pair, dim=1, keepdim=True)
        products = self.matmat(vectors)
        off = abs(float(vectors[0] @ products[1] - vectors[1] @ products[0]))
        size = math.sqrt(float(products[0].norm()) * float(products[1].norm()))
        return Proof(off / size if size else off and math.inf, vectors, products)

    def release(self) -> None:
        """Free what is kept between products."""


class MatrixOperator(SymmetricOperator):
    """A matrix that is given in full, shape (P, P): for small problems, and to try the methods on."""

    def __init__(self, matrix: Tensor, seed: int = 42) -> None:
        super().__init__({"": matrix[0]}, seed)
        self.matrix = matrix.to(self.device, torch.float64)

    def multiply(self, vectors: Tensor) -> Tensor:
        """See `SymmetricOperator`."""
        return vectors @ self.matrix.T


def flat(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Tensors as one vector of float64."""
    return torch.cat([tensor.detach().reshape(-1).to(device, torch.float64) for tensor in tensors])
