"""Measures of sharpness: one file and one row each. They compare states of one model, and promise no generalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .adaptive_sam import adaptive_sam
from .along_gradient import along_gradient
from .average_adaptive import average_adaptive
from .basin_width import basin_width, basin_width_of_one
from .critical import critical
from .epsilon import epsilon
from .lambda_max import lambda_max
from .lambda_min import lambda_min
from .neighbourhood import Neighbourhood
from .noise_scale import noise_scale
from .sam import sam
from .trace_of_hessian import trace_of_hessian


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Args:
        measure: gives the number.
        needs: "hessian", "gradient" or "forward": the most that it asks of the loss.
        unit: in words.
        passes: the cost, about, in forward passes over the data. A gradient is 3 of them, a product of H is 7.
    """

    measure: Callable[[Neighbourhood], float]
    needs: str
    unit: str
    passes: int


MEASURES = {
    "lambda_max": Measure(lambda_max, "hessian", "loss / weight²", 100),
    "lambda_min": Measure(lambda_min, "hessian", "loss / weight²", 250),
    "trace": Measure(trace_of_hessian, "hessian", "loss / weight²", 300),
    "along_gradient": Measure(along_gradient, "hessian", "loss / weight²", 30),
    "critical": Measure(critical, "forward", "1 / learning rate", 10),
    "sam": Measure(sam, "gradient", "loss", 4),
    "adaptive_sam": Measure(adaptive_sam, "gradient", "loss", 4),
    "average_adaptive": Measure(average_adaptive, "forward", "loss", 20),
    "epsilon": Measure(epsilon, "gradient", "1", 40),
    "basin_width": Measure(basin_width, "forward", "weights", 80),
    "basin_width_of_one": Measure(basin_width_of_one, "forward", "weights", 80),
    "noise_scale": Measure(noise_scale, "gradient", "samples", 3),
}

__all__ = ["MEASURES", "Measure", "Neighbourhood"]
