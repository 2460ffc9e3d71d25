"""Names under which a step logs the very loss that it returns: they have one surface, and not several."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..landscape import Array, Landscape
from ..objectives.lightning_step import LOGGED_SUFFIX


def tidy(landscape: Landscape) -> None:
    """Leave out the surfaces that are a returned loss once more; ``recipe.same_as_loss`` has their names."""
    same = {}
    for data in landscape.recipe.data:
        loss = f"{data}_loss"
        for name in _of_the_same_data(landscape, data) - {loss, landscape.main}:
            if loss in landscape.values and is_same(landscape, name, loss):
                same[name] = loss
    for name in same:
        tables: list[dict[str, Any]] = [
            landscape.values,
            landscape.standard_errors,
            landscape.center,
            landscape.recipe.data_of,
        ]
        for table in (*tables, *_of_path(landscape)):
            table.pop(name, None)
        if landscape.report.interpolation is not None:
            landscape.report.interpolation.forget(name)
    landscape.name_same_loss(dict(sorted(same.items())))


def untidy(earlier: Landscape, landscape: Landscape) -> None:
    """Give an earlier part of a landscape the surfaces again that `tidy` has left out."""
    for name, loss in earlier.recipe.same_as_loss.items():
        if name in landscape.center and loss in earlier.values:
            earlier.values[name] = earlier.values[loss].copy()
            if loss in earlier.standard_errors:
                earlier.standard_errors[name] = earlier.standard_errors[loss].copy()
            for table in _of_path(earlier):
                if loss in table:
                    table[name] = table[loss].copy()


def _of_path(landscape: Landscape) -> list[dict[str, Array]]:
    """The losses along the path of a training, and those of the plane there; none without a path."""
    path = landscape.trajectory
    return [] if path is None else [path.losses, path.plane_losses]


def is_same(landscape: Landscape, name: str, loss: str, rtol: float = 1e-6) -> bool:
    """True if a metric is the loss itself, as far as the landscape can tell.

    It is equal at the centre and at every evaluated point. Few points may be equal by chance, an accuracy and a
    loss of 0 or 1 for instance: under a name of the user's, the points must hold three distinct values.

    Args:
        landscape: holds both.
        name: of the metric.
        loss: the name of the loss.
        rtol: the largest difference, as a share of the loss: that of sums in float32 in another order.
    """
    first, second = (landscape.values[which][landscape.evaluated] for which in (name, loss))
    return (
        bool(np.allclose(first, second, rtol=rtol, atol=0, equal_nan=True))
        and is_same_at_centre(landscape, name, loss, rtol)
        and (name == loss + LOGGED_SUFFIX or _distinct(second, rtol) >= 3)
    )


def is_same_at_centre(landscape: Landscape, name: str, loss: str, rtol: float = 1e-6) -> bool:
    """True if a metric is equal to the loss at the centre; arguments as `is_same`."""
    value, expected = (landscape.center.get(which, np.nan) for which in (name, loss))
    return bool(np.isclose(value, expected, rtol=rtol, atol=0, equal_nan=True))


def _distinct(values: Array, rtol: float) -> int:
    """The number of finite values that differ by more than rounding."""
    finite = np.sort(values[np.isfinite(values)])
    return int(len(finite) > 0) + int((np.diff(finite) > rtol * np.abs(finite[1:])).sum())


def _of_the_same_data(landscape: Landscape, data: str) -> set[str]:
    """The metrics that were measured on that data."""
    return {name for name in landscape.values if landscape.recipe.data_name(name) == data}
