"""The directions in which the loss bends most: eigenvectors of the Hessian of the frozen data's mean loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_at_least, check_word
from ..curvature import Curvature, CurvatureSettings, curvature, proved_hessian
from ..curvature.measure import with_gradient
from ..curvature.proof import Hessian as Operator
from ..evaluators import Sequential
from ..isolation.rng import preserved
from ..objectives.base import Batch, CannotMeasureError
from ..spectrum import Spectrum
from ..weights.parameters import Params, Snapshot, canonical_name, working_dtype
from ..weights.sharding import is_sharded
from .random import completed
from .site import Site

Which = Literal["top and bottom", "top"]


@dataclass(frozen=True, eq=False)
class Hessian:
    """Eigenvectors of the Hessian, in which the loss bends most at the centre. Their length is 1.

    The plane of the first and the last holds the highest curvature and the lowest, often a negative one. 1 on an axis
    is a distance of 1 between weights. So the slice along an eigenvector has its eigenvalue as curvature. An
    eigenvector points to where the loss rises, to first order.

    The Hessian is that of all trained weights. It proves its symmetry first, and is refused in words where it can't.

    Args:
        which: "top and bottom": the largest eigenvalues, and λ_min last. "top": the largest ones alone.
        density: compute trace and density of all eigenvalues, too, with 250 products more.
        max_samples: the Hessian's most samples, whole batches that are spread evenly; None for all. A product takes
            the time of 2.4 gradients, and there are about 40.
        seed: of random vectors, and of the random numbers that all points share.

    Attributes:
        labels: after a call, the directions by their eigenvalues.
        spectrum: after a call, the numbers on the Hessian.

    Raises:
        ValueError: if `which` is unknown, or `max_samples` is less than 1.

    >>> from torch import nn
    >>> from ..objectives.base import LossFunction
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.fill_(1.0)
    >>> saddle = LossFunction(lambda module, batch: 2 * module.weight[0, 1] ** 2 - module.weight[0, 0] ** 2)
    >>> kind = Hessian()
    >>> d, e = kind(Site.at(Snapshot.of(net), net, saddle, [Batch(None, 1)]), 2)
    >>> kind.labels
    ('λ_max = 4', 'λ_min = −2')
    >>> [round(float(slope), 4) for slope in (d["weight"][0, 1], e["weight"][0, 0])]
    [1.0, -1.0]
    """

    which: Which = "top and bottom"
    density: bool = False
    max_samples: int | None = 256
    seed: int = 42
    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    spectrum: Spectrum | None = field(default=None, init=False, repr=False)
    _eigenvalues: tuple[float, ...] = field(default=(), init=False, repr=False)
    needs: ClassVar[tuple[str, ...]] = ("gradient",)

    def __post_init__(self) -> None:
        check_word("which", self.which, ("top and bottom", "top"))
        if self.max_samples is not None:
            check_at_least("max_samples", self.max_samples, 1, "the most samples of the Hessian, or None for all")

    def __call__(self, site: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions.

        Raises:
            CannotMeasureError: if the loss has no Hessian that could be proved, or fewer weights than k move.
        """
        found, slope = self._measure(site, k)
        spectrum = found.spectrum
        pairs = [*zip(found.top, spectrum.eigenvalues.tolist(), strict=True)]
        words = ["λ_max", *(f"λ{''.join(chr(ord('₀') + int(digit)) for digit in str(i))}" for i in range(2, k + 1))]
        if self.which == "top and bottom" and k > 1:
            pairs[-1], words[-1] = (found.lowest, spectrum.lowest), "λ_min"
        values = tuple(value for _, value in pairs)
        labels = tuple(f"{word} = {value:.3g}".replace("-", "−") for word, value in zip(words, values, strict=True))
        for name, fact in {"labels": labels, "spectrum": spectrum, "_eigenvalues": values}.items():
            object.__setattr__(self, name, fact)
        return tuple(_uphill(vector, slope, site) for vector, _ in pairs)

    def rehearse(self, site: Site) -> None:
        """Find out, with two products, whether the Hessian proves itself.

        Raises:
            CannotMeasureError: if not.
        """
        with _hessian_at(site, self.max_samples, self.seed):
            pass

    def recipe(self) -> dict[str, Any]:
        """The settings and, after a call, the eigenvalue of each direction, as plain JSON values."""
        settings = {"which": self.which, "density": self.density, "max_samples": self.max_samples, "seed": self.seed}
        return {"kind": "hessian", **settings, "eigenvalues": list(self._eigenvalues)}

    def _measure(self, site: Snapshot, k: int) -> tuple[Curvature, Params]:
        """The curvature and the gradient at a site."""
        settings = CurvatureSettings(top_k=k, trace=self.density, density=self.density)
        with _hessian_at(site, self.max_samples, self.seed) as hessian:
            if hessian.size < k:
                raise CannotMeasureError(
                    f"The Hessian of {hessian.size} weights has no {k} eigenvectors: give fewer directions."
                )
            found = curvature(hessian, settings)
            spectrum = replace(with_gradient(found.spectrum, hessian), samples=hessian.passes.samples)
            return replace(found, spectrum=spectrum), hessian.named(hessian.gradient)


@contextmanager
def _hessian_at(site: Snapshot, max_samples: int | None, seed: int) -> Iterator[Operator]:
    """A context with the proved Hessian of a site's loss; at the end its module is as it was, at the site's weights.

    Args:
        site: with module, objective and batches.
        max_samples: the most samples; None for all.
        seed: of the random numbers.

    Raises:
        CannotMeasureError: if the site has no loss, or none with a Hessian that could be proved.
    """
    if not isinstance(site, Site) or site.module is None or site.objective is None or not site.batches:
        raise CannotMeasureError(
            "A Hessian needs a loss and data: give a Site with module, objective and batches, or choose the kind by "
            "its name in LossLandscapeCallback or LossLandscape."
        )
    module = site.module
    if is_sharded(module):
        raise CannotMeasureError(
            "The Hessian of a module whose parameters are sharded (FSDP2) is not supported: choose directions that "
            "need none, such as 'random' or 'pca'."
        )
    state = Sequential(module, seed=seed)
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    with preserved(), torch.inference_mode(False), torch.enable_grad():
        try:
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    if canonical_name(name) in site.params:
                        parameter.copy_(site.params[canonical_name(name)])
            with proved_hessian(site.objective, module, spread(site.batches, max_samples), seed=seed) as hessian:
                yield hessian
        finally:
            state.put_back()
            site.objective.start()
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
                parameter.grad = None


def spread(batches: Sequence[Batch], max_samples: int | None) -> list[Batch]:
    """Whole batches of at most so many samples, spread evenly; one at least.

    >>> [batch.data for batch in spread([Batch(i, 10) for i in range(9)], 35)]
    [0, 4, 8]
    """
    sizes = sorted((batch.size for batch in batches), reverse=True)
    total = list(itertools.accumulate(sizes))
    count = len(batches) if max_samples is None else max(1, sum(size <= max_samples for size in total))
    return [batches[i] for i in np.linspace(0, len(batches) - 1, count).round().astype(int)]


def _uphill(vector: Params, slope: Params, site: Snapshot) -> Params:
    """An eigenvector as a direction over all parameters, with the sign of the slope along it."""
    along = sum(float((slope[name] * tensor).sum()) for name, tensor in vector.items())
    sign = -1.0 if along < 0 else 1.0
    direction: dict[str, Tensor] = {}
    for name, tensor in vector.items():
        weight = site.params[name]
        direction[name] = (sign * tensor).to(weight.device, working_dtype(weight.dtype)).contiguous()
    return completed(direction, site)
