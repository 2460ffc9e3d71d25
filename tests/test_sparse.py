"""Modules and batches that hold sparse tensors: the landscape of a graph net is that of the dense matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ._formula import callback, plain_surface, train
from ._training import differences

NODES, FEATURES, CLASSES = 14, 5, 3
pytestmark = pytest.mark.filterwarnings("ignore:Sparse (invariant checks|CSR tensor support)")


def halves(dense: Tensor) -> Tensor:
    """Each number as two: what torch calls not coalesced."""
    places, values = dense.nonzero().T, dense[dense != 0] / 2
    return torch.sparse_coo_tensor(places.repeat(1, 2), values.repeat(2), tuple(dense.shape))


FORMATS: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": Tensor.to_sparse, "not coalesced": halves, "csr": Tensor.to_sparse_csr
}  # fmt: skip


def graph() -> tuple[Tensor, Tensor, Tensor]:
    """The weighted edges, the features and the classes of a few nodes."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.rand(NODES, NODES, generator=generator)
    x = torch.randn(NODES, FEATURES, generator=generator)
    return edges * (edges > 0.7) + torch.eye(NODES), x, torch.arange(NODES) % CLASSES


class GraphNet(L.LightningModule):
    """Two layers of messages between neighbours."""

    def __init__(self, edges: Tensor, where: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)
        self.x = graph()[1]
        if where == "buffer":
            self.register_buffer("edges", edges, persistent=False)
        elif where == "attribute":
            self.edges = edges

    def loss(self, edges: Tensor, nodes: Tensor, labels: Tensor) -> Tensor:
        hidden = torch.tanh(edges @ self.first(self.x))
        return nn.functional.cross_entropy((edges @ self.last(hidden))[nodes], labels)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(*batch) if len(batch) == 3 else self.loss(self.edges, *batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


@pytest.mark.parametrize("where", ["attribute", "buffer", "batch"])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_landscape_of_a_graph_net_is_that_of_the_dense_matrix(tmp_path: Path, kind: str, where: str) -> None:
    edges, _, labels = graph()
    batches = list(zip(torch.arange(NODES).split(5), labels.split(5), strict=True))

    def run(callbacks: list[Any]) -> Any:
        sparse = FORMATS[kind](edges)
        loader: Any = DataLoader(TensorDataset(torch.arange(NODES), labels), 5)
        if where == "batch":
            loader = DataLoader([(sparse, *batch) for batch in batches], batch_size=None)
        module = GraphNet(sparse, where)
        return module, sparse, *train(module, [loader], callbacks, tmp_path)

    landscape = callback()
    (_, _, _, without), (module, sparse, _, with_it) = run([]), run([landscape])
    assert differences(without, with_it) == []
    assert torch.equal(sparse.to_dense(), edges)
    result = landscape.landscape
    assert result is not None
    weights = [5, 5, 4]  # a batch is weighed by its targets
    expected = plain_surface(
        module, result, 4, lambda: np.average([float(module.loss(edges, *batch)) for batch in batches], weights=weights)
    )
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    assert np.ptp(expected) > 1e-3
