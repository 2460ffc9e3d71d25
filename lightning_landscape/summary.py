"""The page that says in words what was measured, how, and what came out: log.txt, and `lightning-landscape view`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np

from .landscape import Landscape
from .recipe import DirectionsRecipe, Recipe
from .report import RoundingError, TrainModeLoss


def summary(landscape: Landscape) -> str:
    """A page for people: the reading of the main loss, then the facts."""
    return f"{landscape.reading()}\n\n{facts(landscape)}"


def about(landscape: Landscape, file: Path | None = None) -> str:
    """A text on a landscape: the legend of its pictures, its recipe, and the command that opens its file.

    Args:
        landscape: that the pictures show.
        file: that holds all of it; None for none.
    """
    opened = f"\nOpen the file\n\n- lightning-landscape view {shlex.quote(str(file))}\n" if file else ""
    rows = re.sub(r"(?m)^(.{17}) (.*)$", lambda row: f"- {row[1].strip()}: {row[2]}", facts(landscape))
    return f"How to read the pictures\n\n{_legend(landscape)}\n\nRecipe\n\n{rows}{opened}"


def _legend(landscape: Landscape) -> str:
    """The meaning of star, axes, colours and lines of the pictures, as a list."""
    from .plots.furniture import axis_label  # late: `view` needs no matplotlib

    axes = ", ".join(axis_label(landscape, i) for i in range(landscape.grid.ndim))
    return "\n".join(
        f"- {line}"
        for line in (
            "★ marks the weights that the training has reached.",
            f"The axes are directions from there: {' '.join(axes.split())}.",
            "Lines and bands join points of equal loss. Where lines are close, the loss is steep.",
            "Inside the solid red line the loss is at most 10 % above that of ★: as good as here.",
            "A wide region there is flat along these directions; nothing is shown of others.",
            "Grey points are not finite, hatched ones were not evaluated.",
            "Colours and y axes are logarithmic where the highest loss is more than 100 times the lowest.",
        )
    )


def facts(landscape: Landscape) -> str:
    """A line for each fact: what was measured, how, on what, and what came out; its name first, to column 18."""
    recipe, report, grid = landscape.recipe, landscape.report, landscape.grid
    finite = landscape.loss[landscape.done & np.isfinite(landscape.loss)]
    rows: list[tuple[str, object]] = [
        (
            "loss",
            f"{landscape.main} of {_known(recipe.module)} ({_known(recipe.objective)}, {_known(recipe.mode)} mode)",
        ),
        ("step, epoch", f"{_known(recipe.step)}, {_known(recipe.epoch)}"),
        ("grid", " × ".join(f"{len(a)} points in [{a[0]:g}, {a[-1]:g}]" for a in grid.axes)),
        *_ranges(recipe),
        ("done", f"{int(landscape.done.sum())} of {grid.size} points ({landscape.done.mean():.0%})"),
        ("evaluated", f"{int(landscape.evaluated.sum())} of these points{_interpolation(landscape)}"),
        ("first failure", report.failure or "none"),
        *_same_as_loss(recipe),
        ("centre", ", ".join(f"{name} {value:.6g}" for name, value in landscape.center.items())),
        *_train_mode(report.train_mode_loss),
        ("range", f"{finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite value"),
        ("not finite", int((~np.isfinite(landscape.loss) & landscape.done).sum())),
        ("standard error", _largest_error(landscape)),
        ("curvature", ", ".join(f"{c:.4g}" for c in landscape.curvature()) + "  (slices through the centre)"),
        *_spectrum(landscape),
        *_path(landscape),
        ("data", "; ".join(f"{name}: {data.samples} samples" for name, data in recipe.data.items())),
        ("budget", _budget(recipe)),
        ("choice", "; ".join(f"{name}: {data.choice}" for name, data in recipe.data.items() if data.choice)),
        ("data checksum", "; ".join(f"{name}: {data.checksum}" for name, data in recipe.data.items())),
        ("weights", _known(recipe.weights)),
        ("weights checksum", _known(recipe.weights_checksum)),
        ("seed", _known(recipe.seed)),
        *_directions(recipe.directions),
        ("precision", f"{_known(recipe.precision)}{_rounding(report.rounding_error)}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in recipe.versions.items())),
        ("seconds", _known(report.seconds)),
    ]
    return "".join(f"{name:<17} {value}\n" for name, value in rows)


def _known(value: object) -> object:
    """The value itself; ? where it is not known."""
    return "?" if value is None else value


def _ranges(recipe: Recipe) -> list[tuple[str, str]]:
    """The reason for the range of each axis that was found."""
    texts = [
        f"{name} to {r.end:g}: {r.reason}{f' ({r.samples} samples)' if r.samples else ''}"
        for name, r in recipe.ranges.items()
    ]
    return [("ends found", "; ".join(texts))] if texts else []


def _same_as_loss(recipe: Recipe) -> list[tuple[str, str]]:
    """The names of the user's under which the loss was logged, too."""
    # A step that logs it under its very name has no second name for it.
    names = [f"{name} is {loss}" for name, loss in recipe.same_as_loss.items() if name != f"{loss}_logged"]
    return [("the same", ", ".join(names))] if names else []


def _spectrum(landscape: Landscape) -> list[tuple[str, str]]:
    """The eigenvalues of the Hessian, and the slices' curvatures in their unit."""
    if landscape.spectrum is None:
        return []
    slices = ", ".join(f"{c:.4g}" for c in landscape.curvature(of_weights=True) if np.isfinite(c))
    beside = f"; the slices' curvature in this unit is {slices}" if slices else ""
    return [("hessian", f"{landscape.spectrum.sentence()}, by {landscape.spectrum.method}{beside}")]


def _path(landscape: Landscape) -> list[tuple[str, str]]:
    """The path of the training: its records, how far from the plane they are, and their losses beside the plane's."""
    path, reason = landscape.trajectory, landscape.report.no_path
    if path is None:
        return [("path", f"missing: {reason}")] if reason else []
    count, shares = len(path.steps), path.residual_shares
    rows = [
        ("path", f"{count} records of steps {path.steps[0]:g} to {path.steps[-1]:g}"),
        (
            "off the plane",
            f"{np.median(shares):.3g} of the distance to the centre (median), {shares.max():.3g} at most",
        ),
    ]
    own, plane = (table.get(landscape.main, np.full(count, np.nan)) for table in (path.losses, path.plane_losses))
    known = [t for t in dict.fromkeys((0, count // 2, count - 1)) if path.measured[t]]
    losses = [f"{own[t]:.4g} (the plane there {plane[t]:.4g}) at step {path.steps[t]:g}" for t in known]
    missing = int((~path.measured).sum())
    if missing:
        losses.append(f"{missing} of {count} records were not measured{f': {reason}' if reason else ''}")
    return [*rows, ("path's losses", ", ".join(losses))]


def _train_mode(loss: TrainModeLoss | None) -> list[tuple[str, str]]:
    return (
        [] if loss is None else [("in train mode", f"the loss at the centre is {loss.value:.6g} there: {loss.reason}")]
    )


def _directions(recipe: DirectionsRecipe | None) -> list[tuple[str, str]]:
    if recipe is None:
        return [("directions", "?")]
    details = {"kind": recipe.kind, **recipe.settings, "span": recipe.span, "checksum": recipe.checksum}
    if recipe.axes:
        details["axes"] = ", ".join(recipe.axes)
    if recipe.labels:
        details["axes"] = " and ".join(recipe.labels)
    details |= {
        "moved": recipe.moved_parameters,
        "resting": recipe.resting_parameters,
        "dead filters": recipe.dead_filters,
    }
    return [
        ("directions", ", ".join(f"{name} {value}" for name, value in details.items())),
        ("cosine", f"{recipe.cosine:.3g}  (largest between two directions)"),
        ("lengths", ", ".join(f"{length:.6g}" for length in recipe.lengths)),
    ]


def _budget(recipe: Recipe) -> str:
    if recipe.budget is None:
        return "none"
    available = "; ".join(f"{data.available} samples of {name}" for name, data in recipe.data.items())
    return f"{recipe.budget}; there were {available}"


def _interpolation(landscape: Landscape) -> str:
    if not landscape.interpolated.any():
        return ""
    report = landscape.report.interpolation
    errors = [f"{name} to {error:.2g}" for name, error in report.errors.items()] if report else []
    return f", the rest interpolated{'; shares of the range: ' * bool(errors)}{', '.join(errors)}"


def _rounding(error: RoundingError | None) -> str:
    if error is None:
        return ""
    off = [f"{name} {error.largest[name]:.2g} ({share:.2g})" for name, share in error.share.items()]
    return (
        f"; points in bfloat16, off float32 at {error.points} points on {error.batches} batches by at most (as a "
        f"share of the range between these points): {', '.join(off)}"
    )


def _largest_error(landscape: Landscape) -> str:
    errors = landscape.standard_errors.get(landscape.main)
    known = errors[np.isfinite(errors)] if errors is not None else np.zeros(0)
    if not len(known):
        return "unknown (one observation a point)"
    with np.errstate(over="ignore"):
        return f"{np.median(known):.3g} median, {known.max():.3g} largest"
