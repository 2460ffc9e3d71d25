"""A network, a plane through it, data in uneven batches, and the naive loop that evaluators are compared with."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape.objectives.base import Batch
from lightning_landscape.weights.plane import Plane


class Net(nn.Module):
    """Convolution, batch norm with statistics of its own, dropout, a tied pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 4)
        self.back = nn.Linear(4, 4, bias=False)
        self.again = nn.Linear(4, 4, bias=False)
        self.again.weight = self.back.weight
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.1, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        return self.again(self.back(self.head(self.drop(x))))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Networks built in a test have fixed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def net(dtype) -> nn.Module:
    return Net().to(dtype)


@pytest.fixture
def points() -> np.ndarray:
    """11 scattered points of the plane of two directions, the origin among them."""
    scattered = np.random.default_rng(1).normal(size=(11, 2))
    scattered[4] = 0
    return scattered


@pytest.fixture
def plane(net) -> Plane:
    """Two directions over all but one parameter, which none of them moves."""
    generator = torch.Generator().manual_seed(2)
    origin = {n: p.detach().clone() for n, p in net.named_parameters()}
    directions = tuple(
        {n: 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for n, p in origin.items()}
        for _ in range(2)
    )
    for direction in directions:
        direction["head.bias"] = torch.zeros((), dtype=origin["head.bias"].dtype).expand(4)
    return Plane(origin, directions)


@pytest.fixture
def batches(dtype) -> list[Batch]:
    """17 images in batches of 5, 5, 5 and 2; the last two are far from the others."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(17, 1, 4, 5, generator=generator, dtype=torch.float64).to(dtype)
    x[15:] *= 8
    y = torch.randint(4, (17,), generator=generator)
    cuts = [(0, 5), (5, 10), (10, 15), (15, 17)]
    return [Batch((x[a:b], y[a:b]), b - a, i) for i, (a, b) in enumerate(cuts)]


@pytest.fixture
def cross_entropy() -> Callable:
    """A loss of single samples: the mean is the evaluator's business."""

    def losses(module: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return -module(x).log_softmax(dim=1)[torch.arange(len(y)), y]

    return losses


@pytest.fixture
def mean_cross_entropy(cross_entropy) -> Callable:
    return lambda module, data: cross_entropy(module, data).mean()


@pytest.fixture
def losses(net, plane, points, batches, cross_entropy) -> np.ndarray:
    """The loss of each sample at each point, shape (11, 17), by torch.func.functional_call on a dict."""
    import copy

    module = copy.deepcopy(net).eval()

    class Call:
        def __init__(self, params):
            self.params = params

        def __call__(self, x):
            return torch.func.functional_call(module, self.params, (x,))

    table = []
    for point in points:
        params = {}
        for name in plane.origin:
            moved = plane.origin[name]
            for c, direction in zip(point, plane.directions, strict=True):
                moved = moved + float(c) * direction[name]
            params[name] = moved
        with torch.no_grad():
            table.append(torch.cat([cross_entropy(Call(params), b.data) for b in batches]).double().numpy())
    return np.array(table)


@pytest.fixture
def streams() -> Callable[[], tuple]:
    """The states of the global random streams, comparable."""
    return lambda: (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: NPY002
