"""The lines that a user reads of landscapes: what they will cost, what one has found, how Ctrl-C ended one."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..landscape import Landscape
from ..recipe import Recipe


def duration(seconds: float) -> str:
    """A time in words, as exact as one would say it.

    >>> [duration(s) for s in (0.04, 3.2, 21, 59.6, 179, 5400, 200_000)]
    ['0.04 s', '3.2 s', '21 s', '1 min', '3 min', '1.5 h', '56 h']
    """
    sizes = [("s", 1.0, 59.5), ("min", 60.0, 3570.0), ("h", 3600.0, math.inf)]
    unit, number = next((unit, seconds / size) for unit, size, longest in sizes if seconds < longest)
    digits = 2 if number < 0.095 else 1 if number < 9.95 else 0
    return f"{round(number, digits):g} {unit}"


def cost_line(
    shape: tuple[int, ...],
    samples: int | None,
    seconds: float | None,
    occasion: str,
    share: float | None = None,
    limit: str = "",
    path: tuple[int, ...] | None = None,
) -> str:
    """The line that says at the start what landscapes will cost.

    Args:
        shape: of the grid.
        samples: of all data sets together; None where only reading tells.
        seconds: of one landscape; None where that is unknown.
        occasion: when there is one, such as "every 5 epochs".
        share: the time of the landscapes as a share of that of the training; None where that is unknown.
        limit: what limits it, such as "limited to 10 % by budget='auto'".
        path: the shape of the grid along the path, at the end; None for none.

    >>> print(cost_line((51, 51), 1024, 180, "every 5 epochs", 0.4, "limited to 10 % by budget='auto'"))
    landscape: 51 × 51 points × 1,024 samples ≈ 3 min, every 5 epochs ≈ 40 % of the training; limited to 10 % by \
budget='auto'
    >>> print(cost_line((51, 51), 100, 26, "at the end", path=(25, 25)))
    landscape: 51 × 51 points × 100 samples ≈ 26 s, at the end; then 25 × 25 points along the path ≈ 6.2 s
    """
    size = _size(shape)
    size += "" if samples is None else f" × {samples:,} samples"
    time = "" if seconds is None else f" ≈ {duration(seconds)}"
    part = "" if share is None or seconds is None else f" ≈ {_of_training(share)}"
    last = ""
    if path is not None:
        time_of_path = "" if seconds is None else f" ≈ {duration(seconds * math.prod(path) / math.prod(shape))}"
        last = f"; {'then' if occasion == 'at the end' else 'at the end'} {_size(path)} along the path{time_of_path}"
    return f"landscape: {size}{time}, {occasion}{part}{last}" + (f"; {limit}" if limit else "")


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) + " points"


def _of_training(share: float) -> str:
    """A share of the time of a training, in words; several times of it as a multiple."""
    return f"{percent(share)} of the training" if share < 2 else f"{float(f'{share:.2g}'):,g} times the training"


def percent(share: float) -> str:
    """A share in percent, with two digits at most.

    >>> percent(0.0004), percent(0.013), percent(0.4)
    ('0.04 %', '1.3 %', '40 %')
    """
    return f"{float(f'{100 * share:.2g}'):g} %"


def closing_line(
    landscape: Landscape,
    step: int,
    folder: Path | None,
    seconds: float,
    drawing: float,
    notes: tuple[str, ...] = (),
) -> str:
    """The line at the end of a pass: where the landscape is, what its centre is, and what it took.

    Args:
        landscape: of the pass.
        step: of the training.
        folder: of the files; None where there are none.
        seconds: that the pass took in all.
        drawing: seconds of them for pictures and files.
        notes: further parts, such as the settings that repeat it.
    """
    first = f"landscape of step {step}" + ("" if folder is None else f": {_short(folder)}")
    count = int(landscape.done.sum())
    points = [] if count == landscape.grid.size else [f"{count:,} of {landscape.grid.size:,} points"]
    time = duration(seconds) + (f" ({duration(drawing)} drawing)" if drawing else "")
    return " · ".join([first, *points, _centre(landscape), *_curvature(landscape), *notes, time])


def _centre(landscape: Landscape, rounding: float = 1e-6) -> str:
    """The main loss at the centre, and where it is lower by more than the relative `rounding` of fast evaluators."""
    centre = landscape.center.get(landscape.main, math.nan)
    lowest, place = landscape.lowest()
    is_known = math.isfinite(centre) and math.isfinite(lowest)
    if not is_known or lowest >= centre - rounding * abs(centre):
        return f"{landscape.main} {centre:.3g} at the centre" + (", the lowest point" if is_known else "")
    digits = next(n for n in range(3, 18) if f"{centre:.{n}g}" != f"{lowest:.{n}g}")
    where = ", ".join(f"{number:.3g}" for number in place)
    where = f"({where})" if len(place) > 1 else where
    return f"{landscape.main} {centre:.{digits}g} at the centre, {lowest:.{digits}g} the lowest, at {where}"


def _curvature(landscape: Landscape) -> list[str]:
    """The curvatures along the axes at the centre, as one part; nothing where one is unknown."""
    numbers = landscape.curvature()
    return [f"curvature {', '.join(f'{n:.3g}' for n in numbers)}"] if all(map(math.isfinite, numbers)) else []


def repetition(recipe: Recipe) -> str:
    """The settings that measure the points of a landscape again; empty where they are the user's own.

    >>> repetition(Recipe(budget="auto", planned_samples=256, max_samples=1024))
    'again with budget=None, max_samples=256'
    """
    if recipe.budget is None:
        return ""
    return f"again with budget=None, max_samples={recipe.planned_samples or recipe.max_samples}"


def ended_line(step: int, done: int, total: int, goes_on: str = "the training") -> str:
    """The line that says that Ctrl-C ended a pass, and what goes on.

    >>> print(ended_line(480, 512, 2601))
    Ctrl-C ended the landscape of step 480: its 512 of 2,601 points are kept and drawn. The training goes on; press \
Ctrl-C twice within 3 s to stop it.
    """
    points = f"its {done:,} of {total:,} points are kept and drawn" if done else "it had no points yet"
    sentence = f"{goes_on[0].upper()}{goes_on[1:]} goes on; press Ctrl-C twice within 3 s to stop it."
    return f"Ctrl-C ended the landscape of step {step}: {points}. {sentence}"


def _short(folder: Path) -> str:
    """A path from the working directory, where it lies below it."""
    path = Path(os.path.abspath(folder))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
