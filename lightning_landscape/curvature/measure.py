"""The curvature at one set of weights: spectrum, eigenvectors, and the spectra of single layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from ..objectives.base import Batch, Objective
from ..spectrum import Spectrum
from .lanczos import Lanczos, LanczosSettings, lanczos
from .operator import SymmetricOperator
from .proof import Hessian, layer_of, proved_hessian
from .trace import Trace, TraceSettings, trace


@dataclass(frozen=True)
class CurvatureSettings:
    """The numbers that are computed of a Hessian.

    Args:
        top_k: the number of the largest eigenvalues.
        lowest: the smallest eigenvalue.
        trace: the trace, with its standard error.
        density: the density of all eigenvalues.
        probes: the random vectors of the density; their spread is its error. The run for the extremes is the first.
        steps: of each probe, hence the number of nodes.
        lanczos: settings of the run for the extremes.
        traces: settings of the trace.
    """

    top_k: int = 1
    lowest: bool = True
    trace: bool = True
    density: bool = False
    probes: int = 4
    steps: int = 60
    lanczos: LanczosSettings = field(default_factory=LanczosSettings)
    traces: TraceSettings = field(default_factory=TraceSettings)


@dataclass(frozen=True, eq=False)
class Curvature:
    """The spectrum of a Hessian, with eigenvectors.

    Args:
        spectrum: the numbers.
        top: the eigenvectors of the largest eigenvalues, of length 1 over all parameters; by parameter.
        lowest: that of λ_min.
    """

    spectrum: Spectrum
    top: tuple[dict[str, Tensor], ...]
    lowest: dict[str, Tensor]


def curvature(operator: SymmetricOperator, settings: CurvatureSettings = CurvatureSettings()) -> Curvature:
    """Eigenvalues, trace and density of an operator, which share their products.

    Args:
        operator: e.g. of `proved_hessian`; its symmetry is checked first.
        settings: which numbers.

    Raises:
        AsymmetryError: if the products are not those of a symmetric matrix.

    >>> import torch
    >>> from lightning_landscape.curvature.operator import MatrixOperator
    >>> found = curvature(MatrixOperator(torch.diag(torch.tensor([-1.0, 4.0, 2.0]))), CurvatureSettings(top_k=2))
    >>> found.spectrum.eigenvalues.round(6).tolist(), round(found.spectrum.trace, 6)
    ([4.0, 2.0], 5.0)
    >>> found.top[0][""].round(decimals=4).abs().tolist()
    [0.0, 1.0, 0.0]
    """
    proof = operator.check_symmetry()
    of_run = replace(settings.lanczos, least_steps=settings.steps if settings.density else 0)
    run = lanczos(operator, settings.top_k, lowest=settings.lowest, settings=of_run)
    count = min(settings.top_k, len(run.values))
    order = range(len(run.values) - 1, len(run.values) - 1 - count, -1)
    estimate = trace(operator, run, settings.traces) if settings.trace else Trace(np.nan, np.nan, 0)
    probes = [run, *density_probes(operator, settings.probes - 1, settings.steps)] if settings.density else []
    spectrum = Spectrum(
        size=operator.size,
        eigenvalues=run.values[::-1][:count].copy(),
        residuals=run.residuals[::-1][:count].copy(),
        lowest=float(run.values[0]) if settings.lowest else np.nan,
        lowest_residual=float(run.residuals[0]) if settings.lowest else np.nan,
        trace=estimate.value,
        trace_error=estimate.standard_error,
        nodes=tuple(probe.values for probe in probes),
        weights=tuple(probe.weights for probe in probes),
        asymmetry=proof.asymmetry,
        method=operator.method,
        products=operator.products,
        seed=operator.seed,
    )
    return Curvature(spectrum, tuple(operator.named(run.vector(i)) for i in order), operator.named(run.vector(0)))


def density_probes(operator: SymmetricOperator, probes: int, steps: int) -> list[Lanczos]:
    """Lanczos runs from independent random vectors, for the density (stochastic Lanczos quadrature)."""
    starts = [operator.random("density", i) for i in range(probes)]
    return [lanczos(operator, steps=steps, start=start) for start in starts]


def hessian_curvature(
    objective: Objective,
    module: nn.Module,
    batches: Sequence[Batch],
    settings: CurvatureSettings = CurvatureSettings(),
    *,
    seed: int = 42,
    blocks: bool = False,
    after_product: Callable[[], object] = lambda: None,
) -> Curvature:
    """The curvature of a mean loss over frozen batches at the module's weights; its Hessian proves itself first.

    Args:
        objective: what is measured.
        module: a copy that is ours, in its mode and on its device.
        batches: the frozen data.
        settings: which numbers.
        seed: of random vectors, and of the random numbers that all passes share.
        blocks: the spectrum of each layer, too: of the Hessian with respect to its parameters alone.
        after_product: is called after every product.

    Raises:
        AsymmetryError: if no way gives a symmetric Hessian; the message names the kinds of layers.
        CannotMeasureError: if the loss has no curvature that could be measured.
    """
    with proved_hessian(objective, module, batches, seed=seed) as hessian:
        hessian.after_product = after_product
        found = curvature(hessian, settings)
        spectrum, names = with_gradient(found.spectrum, hessian), list(hessian.params)
    spectrum = replace(spectrum, samples=sum(batch.size for batch in batches))
    if blocks:
        layers: dict[str, list[str]] = {}
        for name in names:
            layers.setdefault(layer_of(name) or name, []).append(name)
        spectra = {}
        for layer, members in layers.items():
            with proved_hessian(objective, module, batches, members, seed=seed) as hessian:
                hessian.after_product = after_product
                spectra[layer] = with_gradient(curvature(hessian, settings).spectrum, hessian)
        spectrum = replace(spectrum, blocks=spectra)
    return replace(found, spectrum=spectrum)


def with_gradient(spectrum: Spectrum, hessian: Hessian) -> Spectrum:
    """The spectrum with loss, ‖g‖ and gᵀHg / gᵀg, at the cost of one product."""
    gradient = hessian.gradient
    length = float(gradient.norm())
    along = float(gradient @ hessian.matvec(gradient / length)) / length if length else np.nan
    return replace(
        spectrum,
        loss=hessian.loss,
        gradient_norm=length,
        curvature_along_gradient=along,
        products=hessian.products,
    )
