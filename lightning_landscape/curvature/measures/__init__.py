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
    """

    measure: Callable[[Neighbourhood], float]
    needs: str
    unit: str


MEASURES = {
    "lambda_max": Measure(lambda_max, "hessian", "loss / weight²"),
    "lambda_min": Measure(lambda_min, "hessian", "loss / weight²"),
    "trace": Measure(trace_of_hessian, "hessian", "loss / weight²"),
    "along_gradient": Measure(along_gradient, "hessian", "loss / weight²"),
    "critical": Measure(critical, "forward", "1 / learning rate"),
    "sam": Measure(sam, "gradient", "loss"),
    "adaptive_sam": Measure(adaptive_sam, "gradient", "loss"),
    "average_adaptive": Measure(average_adaptive, "forward", "loss"),
    "epsilon": Measure(epsilon, "gradient", "1"),
    "basin_width": Measure(basin_width, "forward", "weights"),
    "basin_width_of_one": Measure(basin_width_of_one, "forward", "weights"),
    "noise_scale": Measure(noise_scale, "gradient", "samples"),
}

__all__ = ["MEASURES", "Measure", "Neighbourhood"]
