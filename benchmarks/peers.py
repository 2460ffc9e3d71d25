"""Other tools that pip installs, each called as its own documentation shows; one that is missing is left out."""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_landscape import Plane

from .contenders import Contender, OnThePlane, Tick
from .workloads import Workload


@dataclass
class LossLandscapes(OnThePlane):
    """loss-landscapes: `planar_interpolation` between three models, with its own `Loss` on all samples at once."""

    name: str = "loss-landscapes"
    note: str = "measures every other row one column further than the rows between, where it walks back"

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """See `Contender`."""
        import loss_landscapes
        from loss_landscapes.metrics import Loss

        class Ticking(Loss):
            done = 0

            def __call__(self, model_wrapper: Any) -> float:
                loss = super().__call__(model_wrapper)
                self.done += 1
                tick(self.done)
                return loss

        # point (i, j) of its grid is start + i/n (one − start) + j/n (two − start)
        reach = 2 * n / (n - 1)
        models = [_moved(workload, a, b) for a, b in ((-1, -1), (reach - 1, -1), (-1, reach - 1))]
        metric = Ticking(nn.CrossEntropyLoss(), workload.inputs, workload.labels)
        return loss_landscapes.planar_interpolation(*models, metric, steps=n)


@dataclass
class Landscaper:
    """Landscaper: `compute_loss_landscape` with a function that goes through the loader's batches."""

    name: str = "landscaper"
    note: str = (
        "adds random noise to the highest value; for n points an axis ends at (n − 1)/n of the distance that it says; "
        "scales the directions anew, so that its plane is another"
    )
    tolerance: float | None = None

    def prepare(self, workload: Workload) -> None:
        """See `Contender`."""

    def plane(self, workload: Workload) -> Plane:
        """Directions scaled tensor by tensor to √numel, then as long as all weights together; distance 1."""
        weights = [parameter.double() for parameter in workload.module.parameters()]
        length = torch.sqrt(sum(((w**2).sum() for w in weights), torch.zeros(())))
        directions = []
        for direction in workload.plane.directions:
            flat = {k: d.double() * d.numel() ** 0.5 / (d.double().norm() + 1e-10) for k, d in direction.items()}
            total = torch.sqrt(sum(((d**2).sum() for d in flat.values()), torch.zeros(())))
            directions.append({name: d * length / total for name, d in flat.items()})
        return Plane(workload.plane.origin, tuple(directions))

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """See `Contender`."""
        from landscaper.compute import compute_loss_landscape

        done = 0

        def mean_loss(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
            nonlocal done
            losses = [F.cross_entropy(model(inputs), labels, reduction="sum").item() for inputs, labels in batches]
            done += 1
            tick(done)
            return sum(losses) / workload.samples

        model, batches = copy.deepcopy(workload.module), workload.batches()
        with _silence():
            values, _ = compute_loss_landscape(
                model, batches, _as_lists(workload), mean_loss, steps=n, distance=1.0, dim=2, device="cpu"
            )
        return values


@dataclass
class Losscape(OnThePlane):
    """losscape: `create_3D_losscape` on a loader; its picture is not part of the cost of a point."""

    name: str = "losscape"
    note: str = "takes the mean over batches, also where the last one is smaller"

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """See `Contender`."""
        from losscape.create_landscape import create_3D_losscape

        class Loader:
            done = 0

            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                yield from workload.batches()
                self.done += 1
                tick(self.done)

        with tempfile.TemporaryDirectory() as folder, _silence():
            _, _, values = create_3D_losscape(
                copy.deepcopy(workload.module), Loader(), directions=_as_lists(workload), num_batches=10**9,
                save_only=True, output_path=folder, output_h5=False, num_points=n,
            )  # fmt: skip
        return values.T  # its rows are y


PEERS: dict[str, tuple[type, str]] = {
    "loss-landscapes": (LossLandscapes, "loss_landscapes"),
    "landscaper": (Landscaper, "landscaper.compute"),
    "losscape": (Losscape, "losscape.create_landscape"),
}


def installed() -> tuple[list[Contender], dict[str, str]]:
    """The peers that can be imported; and of all of them the version, or why it is missing."""
    found, what = [], {}
    for package, (contender, module) in PEERS.items():
        try:
            what[package] = version(package)
            importlib.import_module(module)
            found.append(contender())
        except PackageNotFoundError:
            what[package] = "not installed"
        except Exception as error:  # noqa: BLE001  # whatever a foreign package raises on its import
            what[package] = f"{what[package]}, can't be imported ({type(error).__name__}: {error})"
    return found, what


def _moved(workload: Workload, a: float, b: float) -> nn.Module:
    """The module at (a, b)."""
    module = copy.deepcopy(workload.module)
    with torch.no_grad():
        for name, value in workload.plane.at((a, b)).items():
            module.get_parameter(name).copy_(value)
    return module


def _as_lists(workload: Workload) -> list[list[Tensor]]:
    """The directions as lists in the order of the module's parameters; what rests has zeros."""
    return [
        [direction[name].clone() if name in direction else torch.zeros_like(p) for name, p in _parameters(workload)]
        for direction in workload.plane.directions
    ]


def _parameters(workload: Workload) -> list[tuple[str, Tensor]]:
    return [(name, parameter.detach()) for name, parameter in workload.module.named_parameters()]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what a tool prints at every point."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
