"""The sentences on what was measured: points, directions, the mode, and the limits of a slice."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..recipe import DirectionsRecipe
from .surface import Surface
from .text import number, percent


def point_sentences(surface: Surface) -> Iterator[str]:
    """A sentence each on points that are missing, not finite or interpolated."""
    total, done = surface.done.size, int(surface.done.sum())
    infinite, interpolated = done - int(surface.finite.sum()), int(surface.interpolated.sum())
    if done < total:
        why = ": a step failed there, log.txt has the first error" if surface.report.failure else ""
        advice = "" if why else ". The same run, started again, goes on with them"
        yield f"{part(total - done, total)} are not done{why}{advice}."
    if infinite:
        yield f"{part(infinite, done)} are NaN or infinite. They are losses, not gaps: a narrower range has fewer."
    if interpolated:
        interpolation = surface.report.interpolation
        error = interpolation.errors.get(surface.name, math.nan) if interpolation else math.nan
        known = f"to within {percent(error)} of the range" if math.isfinite(error) else "how well is not known"
        yield f"{part(interpolated, done)} are interpolated, {known}. tolerance=None, budget=None evaluates all."


def part(count: int, total: int) -> str:
    return f"{count:,} of {total:,} points ({percent(count / total)})"


def span_sentence(recipe: DirectionsRecipe, k: int) -> str:
    """The sentence that k directions span fewer than k dimensions, with advice; empty if they span k.

    Args:
        recipe: of the directions.
        k: the number of directions.

    >>> span_sentence(DirectionsRecipe("random", cosine=-1.0, span=1, moved_parameters=9), 2).partition(":")[0]
    'Both directions are parallel (cosine -1.000)'
    """
    span, moved = recipe.span, recipe.moved_parameters
    if span is None or span >= k:
        return ""
    which = "Both directions are parallel" if k == 2 else f"The {k} directions span {span} dimensions only"
    shape = "a line" if span == 1 else "a plane"
    advice = "Make them orthogonal (orthogonalize=True), give others"
    if moved is not None and moved < k:
        advice = f"Only {moved} number{'s' * (moved > 1)} may move: let others move too (ignore=None)"
    return f"{which} (cosine {recipe.cosine:.3f}): the landscape is that of {shape}. {advice}, or measure {shape}."


def direction_sentences(surface: Surface) -> Iterator[str]:
    """A sentence each on directions that span less than the axes, and on filters that rest."""
    recipe = surface.recipe.directions
    if recipe is None:
        return
    if text := span_sentence(recipe, len(surface.axes)):
        yield text
    if recipe.dead_filters and recipe.normalize == "filter":
        one = recipe.dead_filters == 1
        yield (
            f"{recipe.dead_filters:,} filter{' is' * one}{'s are' * (not one)} zero and rest{'s' * one} everywhere, "
            "since a direction has the length of its filter: normalize='layer' moves them."
        )


def train_mode_sentence(surface: Surface) -> Iterator[str]:
    """The sentence on a loss that is another in train mode."""
    loss = surface.report.train_mode_loss
    if loss is not None and surface.is_main:
        yield (
            f"In train mode the loss at the centre is {number(loss.value)} instead of {number(surface.origin)}: this "
            "is the landscape of eval mode. mode='train' measures the other."
        )


def slice_sentence(surface: Surface) -> str:
    """The sentence on what a slice can't tell."""
    recipe, k = surface.recipe.directions, len(surface.axes)
    moved = recipe.moved_parameters if recipe else None
    if moved is not None and moved <= k:
        return "These directions span all weights that may move. Nothing is shown of those at rest."
    if surface.kind == "hessian":
        return (
            "Eigenvectors of the Hessian have the extreme curvatures at the centre: further away others may. Sharp or "
            "flat here is no promise for new data."
        )
    random = "random " if surface.kind == "random" else ""
    of = f" in the space of {moved:,} weights" if moved is not None else ""
    return (
        f"{k} {random}direction{'s' * (k > 1)}{of} can't show the steepest one: flat here is no proof of a flat "
        "minimum, and no promise for new data."
    )
