"""One moment of a sharpness monitor: the chosen measures at the weights of now, on the undisturbed probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..curvature import CurvatureSettings, Preconditioned, curvature, lanczos, proved_hessian
from ..curvature.measure import with_gradient
from ..curvature.measures import MEASURES, Neighbourhood
from ..curvature.stability import Stability
from ..directions import Site
from ..directions.update import next_update
from ..objectives.base import CannotMeasureError
from ..spectrum import Spectrum
from ..survey.budget import now
from ..weights.parameters import canonical_name
from ..weights.sharding import is_sharded
from . import compat
from .frozen import FrozenData, freeze
from .measure import chosen_objective
from .probe import probing

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

ENDS, BULK = "ends", "bulk"  # of the spectrum: its extremes; with them its trace and density
PRECONDITIONED = "lambda_max_preconditioned"


@dataclass(frozen=True)
class SharpnessSettings:
    """The settings of a monitor's moments.

    Args:
        measures: names of MEASURES.
        top_k: how many of the largest eigenvalues.
        spectrum: the density of all eigenvalues, too.
        data: "train", "val" or "test".
        max_samples: how many samples; None for all.
        seed: of the choice of data, of random vectors, and of the random numbers that all passes share.
    """

    measures: tuple[str, ...]
    top_k: int = 1
    spectrum: bool = False
    data: str = "train"
    max_samples: int | None = 256
    seed: int = 42

    @property
    def units(self) -> dict[str, tuple[str, ...]]:
        """The measures that are taken together, by the name under which they save time.

        >>> SharpnessSettings(("lambda_max", "trace", "sam")).units
        {'sam': ('sam',), 'ends': ('lambda_max',), 'bulk': ('lambda_max', 'trace')}
        """
        of_hessian = tuple(name for name in self.measures if MEASURES[name].needs == "hessian")
        units: dict[str, tuple[str, ...]] = {name: (name,) for name in self.measures if name not in of_hessian}
        if ends := tuple(name for name in of_hessian if name != "trace"):
            units[ENDS] = ends
        if "trace" in of_hessian or self.spectrum:
            units[BULK] = of_hessian
        return units

    @property
    def passes(self) -> dict[str, int]:
        """The approximate cost of each unit, in forward passes."""
        of_density = 240 * 7 if self.spectrum else 0  # 4 probes of 60 products
        result = {unit: sum(MEASURES[name].passes for name in names) for unit, names in self.units.items()}
        return result | ({BULK: result[BULK] + of_density} if BULK in result else {})


@dataclass
class Moment:
    """The outcome of one moment.

    Args:
        values: numbers by name.
        nodes, weights: of the density, one array a probe.
        seconds: of each unit that was measured.
        failures: what a unit raised.
    """

    values: dict[str, float] = field(default_factory=dict)
    nodes: tuple[NDArray[np.float64], ...] = ()
    weights: tuple[NDArray[np.float64], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)


@contextmanager
def neighbourhood(
    trainer: Trainer, module: nn.Module, settings: SharpnessSettings, frozen: FrozenData | None
) -> Iterator[tuple[Neighbourhood, FrozenData, Callable[[], None]]]:
    """A context with the loss around the weights of now, the data, and a function that finds the next update.

    Call it inside `undisturbed`. All processes call it, and measure the same afterwards without asking each other.

    Args:
        trainer: in the middle of its work.
        module: its LightningModule, which is only read.
        settings: of the monitor.
        frozen: the data of an earlier moment; None to read them.

    Raises:
        CannotMeasureError: if the parameters are sharded, or there are no data.
    """
    if is_sharded(module):
        raise CannotMeasureError(
            "The parameters are divided among processes (FSDP), where neither gradients of the frozen data nor second "
            "derivatives are computed. Train by DDP, or load the checkpoint into one process and call "
            "LossLandscape(...).hessian()"
        )
    optimizers = compat.optimizers(trainer)
    with probing(trainer, module) as (probe, recorder, snapshot):
        if frozen is None:
            count, seed = settings.max_samples, settings.seed
            frozen = freeze(trainer, probe, settings.data, max_samples=count, seed=seed)
        objective = chosen_objective(trainer, probe, recorder, settings.data, frozen.several_loaders)
        around = Neighbourhood(objective, probe, frozen.batches, seed=settings.seed)

        def find_update() -> None:
            site = Site.at(snapshot, probe, around.objective, around.batches, optimizers=optimizers, original=module)
            around.update = next_update(site, settings.seed)
            around.learning_rate = float(optimizers[0].param_groups[0]["lr"])

        yield around, frozen, find_update


def take(
    around: Neighbourhood,
    find_update: Callable[[], None],
    settings: SharpnessSettings,
    units: Sequence[str],
    edge: Stability | None,
) -> Moment:
    """The numbers of some units; a unit that fails is noted, and the others go on.

    Args:
        around, find_update: of `neighbourhood`.
        settings: of the monitor.
        units: names of `SharpnessSettings.units`, whose bulk includes the ends.
        edge: of the optimiser; None where it is unknown.
    """
    moment = Moment()
    for unit in [name for name in units if not (name == ENDS and BULK in units)]:
        began = now()
        try:
            if unit in (ENDS, BULK):
                _take_spectrum(around, settings, unit, edge, moment)
            else:
                if unit == "critical":
                    find_update()
                moment.values[unit] = MEASURES[unit].measure(around)
        except Exception as error:  # noqa: BLE001  # the user's own step may raise anything
            moment.failures[unit] = error
        moment.seconds[unit] = now() - began
    return moment


def seconds_of_a_pass(around: Neighbourhood) -> float:
    """The seconds that a forward pass over the data takes, by that of the first batch when all is warm."""
    first = Neighbourhood(around.objective, around.module, around.batches[:1], seed=around.seed)
    _ = first.loss
    began = now()
    del first.loss
    _ = first.loss
    return (now() - began) * sum(batch.size for batch in around.batches) / max(around.batches[0].size, 1)


def trained_parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that optimisers may hold, by canonical name."""
    return {canonical_name(name): parameter for name, parameter in module.named_parameters()}


def _take_spectrum(
    around: Neighbourhood, settings: SharpnessSettings, unit: str, edge: Stability | None, moment: Moment
) -> None:
    """Eigenvalues, and for the bulk trace and density, from one Hessian that has proved itself."""
    measures = settings.units[unit]
    numbers = CurvatureSettings(
        top_k=settings.top_k,
        lowest="lambda_min" in measures,
        trace="trace" in measures,
        density=settings.spectrum and unit == BULK,
    )
    with proved_hessian(around.objective, around.module, around.batches, seed=around.seed) as hessian:
        spectrum: Spectrum = curvature(hessian, numbers).spectrum
        if "along_gradient" in measures:
            spectrum = with_gradient(spectrum, hessian)
        if edge is not None and edge.scale is not None and "lambda_max" in measures:
            scale = torch.cat([edge.scale[name].reshape(-1) for name in hessian.params])
            run = lanczos(Preconditioned(hessian, scale.to(hessian.device)), lowest=False)
            moment.values[PRECONDITIONED] = float(run.values[-1])
        moment.values["loss"] = hessian.loss
    around.spectrum = replace(spectrum, samples=sum(batch.size for batch in around.batches))
    moment.values |= {name: MEASURES[name].measure(around) for name in measures}
    if "trace" in measures:
        moment.values["trace_error"] = spectrum.trace_error
    if "lambda_max" in measures:
        further = enumerate(spectrum.eigenvalues[1:], start=2)
        moment.values |= {f"eigenvalue_{i}": float(value) for i, value in further}
    moment.nodes, moment.weights = spectrum.nodes, spectrum.weights
