"""A module with every kind of parameter, and the global random streams."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn


class Zoo(nn.Module):
    """Linear, convolutions of both kinds with and without groups, embedding, norm layers, a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.conv = nn.Conv2d(4, 6, 3)
        self.grouped = nn.Conv2d(6, 4, (3, 2), groups=2)
        self.up = nn.ConvTranspose2d(4, 3, (2, 3))
        self.up_grouped = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.layer_norm = nn.LayerNorm((5, 2))  # its weight has two dimensions
        self.head = nn.Linear(6, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))


@pytest.fixture
def zoo() -> nn.Module:
    net = Zoo().double()
    for parameter in net.parameters():  # norm layers start at 1 and 0
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


@pytest.fixture
def numpy_params() -> Callable[..., dict[str, np.ndarray]]:
    """Tensors as float64 numpy arrays."""
    return lambda params: {name: tensor.detach().double().numpy() for name, tensor in params.items()}


@pytest.fixture
def streams() -> Callable[[], tuple]:
    """The states of the global random streams, comparable."""
    return lambda: (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: NPY002


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Networks built in a test have fixed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
