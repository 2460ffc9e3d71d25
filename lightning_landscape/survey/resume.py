"""Whether points that are on disk are of a landscape in the making: what must be the same in both."""

from __future__ import annotations

from ..landscape import Landscape

FINGERPRINT = (
    "module", "data", "data_checksum", "weights_checksum", "objective", "mode", "seed", "precision", "rounding",
    "directions", "dir_type", "recalibrate",
)  # fmt: skip
HOW_MANY = ("tolerance", "budget")  # what decides at which points a function is evaluated


def differences(earlier: Landscape, landscape: Landscape) -> list[str]:
    """What tells that the points of `earlier` are not of this function on this grid; nothing if they are.

    The centre is measured anew and must be the same: two functions may have one name.
    """
    common = earlier.center.keys() & landscape.center.keys()
    same = {
        "grid": earlier.grid == landscape.grid,
        "loss": earlier.main == landscape.main,
        **{key.replace("_", " "): earlier.meta.get(key) == landscape.meta.get(key) for key in FINGERPRINT},
        "tiles": _tiles(earlier) == _tiles(landscape),
        "value at the centre": all(repr(earlier.center[name]) == repr(landscape.center[name]) for name in common),
    }
    return [name for name, is_same in same.items() if not is_same]


def is_same_pass(earlier: Landscape, landscape: Landscape) -> bool:
    """Whether `earlier`, whose points are of this function, is what this very pass makes, or a part of it."""
    return all(earlier.meta.get(key) == landscape.meta.get(key) for key in HOW_MANY)


def is_finished(earlier: Landscape | None, landscape: Landscape) -> bool:
    """Whether `earlier`, whose points are of this function, is all that this pass would make."""
    return earlier is not None and bool(earlier.done.all()) and is_same_pass(earlier, landscape)


def _tiles(landscape: Landscape) -> list[int]:
    """Which samples have one."""
    return [] if landscape.samples is None else [item.index for item in landscape.samples.items]
