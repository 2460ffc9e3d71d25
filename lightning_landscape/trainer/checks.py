"""Checks of the callback's arguments: before anything is trained, and before a Trainer begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..accelerations import check_accelerate
from ..arguments import check_at_least, check_word, checked_function, checked_words
from ..directions import NORMALIZATIONS, Directions, make_directions, needs
from ..evaluators.modes import MODES
from ..interpolation.refinement import check_tolerance
from ..output import DATA_FORMATS, EXPORT_FORMATS, FILM_FORMATS, PICTURES, Look
from ..plots import COLOR_SCALES, PLOTS
from ..plots.film import check_film
from ..plots.tiles import parse_layout
from ..storage import EXPORTS, check_writable
from . import compat
from .measure import Settings

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def check_moments(every_n_epochs: int | None, every_n_train_steps: int | None, at_train_end: bool | str) -> None:
    """Check when landscapes are measured.

    Raises:
        ValueError: if one of the three is out of its range.
    """
    check_at_least("every_n_epochs", every_n_epochs, 1, "a landscape every so many epochs, or None")
    check_at_least("every_n_train_steps", every_n_train_steps, 1, "a landscape every so many steps, or None")
    if at_train_end not in (True, False, "best"):
        raise ValueError(f'at_train_end={at_train_end!r} is unknown; the choices are True, False, "best".')


def checked_settings(settings: Settings) -> Settings:
    """The settings themselves.

    Raises:
        ValueError: if a number is out of its range, a word unknown, or the objective no function.
    """
    check_at_least("max_samples", settings.max_samples, 1, "the most samples of a data set, or None for all")
    check_at_least("max_batches", settings.max_batches, 1, "the most batches of a data set, or None for all")
    check_at_least("samples", settings.samples, 0, "the number of tiles, 0 for none")
    checked_function("objective", settings.objective)
    check_tolerance(settings.tolerance)
    check_accelerate(settings.accelerate)
    check_word("mode", settings.mode, MODES)
    return settings


def checked_directions(
    directions: str | Callable[..., Any], normalize: str, ignore: str | list[str] | None, orthogonalize: bool, seed: int
) -> Directions:
    """The kind of directions that the user gives, as a word or a function.

    Raises:
        ValueError: if it is no kind, its settings are none, or the seed is no whole number.
    """
    check_at_least("seed", seed, 0, "the seed of the random numbers")
    check_word("normalize", normalize, NORMALIZATIONS)
    if isinstance(directions, str):
        return make_directions(directions, normalize=normalize, ignore=ignore, orthogonalize=orthogonalize, seed=seed)
    return checked_function("directions", directions)


def check_records(trajectory: object, directions: Directions, plots: Sequence[str]) -> None:
    """Refuse what is made of the records of a training that is not recorded.

    Raises:
        ValueError: naming the argument that needs records.
    """
    if trajectory is not False:
        return
    advice = 'and trajectory=False records none: give trajectory="auto" or True, or'
    if "records" in needs(directions):
        raise ValueError(
            f"directions={type(directions).__name__.lower()!r} is made of the weights along the training, {advice} "
            'other directions, such as "random".'
        )
    if "path" in plots:
        raise ValueError(f'plots={list(plots)} has the path of the training, {advice} leave out "path".')


def checked_look(look: Look, ndim: int, samples: int) -> Look:
    """A look for landscapes of so many directions and tiles.

    Raises:
        ValueError: if a word in it is unknown, or the tiles do not fit.
        ImportError: if a format needs a library that is not installed.
    """
    if samples:
        rows, columns = parse_layout(look.sample_layout, "sample_layout")
        if rows * columns < samples:
            raise ValueError(
                f"sample_layout={look.sample_layout!r} has {rows * columns} tiles for samples={samples}: give a larger "
                "layout or fewer samples."
            )
    check_word("color_scale", look.color_scale, COLOR_SCALES)
    files = [*DATA_FORMATS, *(name for name in EXPORT_FORMATS if EXPORTS[f".{name}"].ndim == ndim)]
    formats = checked_words("formats", look.formats, (*files, *PICTURES, *FILM_FORMATS), of=f" for {ndim}-D landscapes")
    for name in formats:
        if name in FILM_FORMATS:
            check_film(f".{name}")
        if name in EXPORT_FORMATS:
            check_writable(f".{name}", ndim)
    return replace(look, plots=_checked_plots(look.plots, ndim, samples), formats=formats)


def _checked_plots(plots: Sequence[str], ndim: int, samples: int) -> tuple[str, ...]:
    """The kinds of pictures, of which at least one must be of such a landscape."""
    names = [name for name, plot in PLOTS.items() if {1, 2} & set(plot.ndims)]
    kinds = checked_words("plots", plots, names, may_be_empty=True)
    drawn = [name for name, plot in PLOTS.items() if ndim in plot.ndims and (samples or name != "tiles")]
    if kinds and not set(kinds) & set(drawn):
        without = "" if samples else " with samples=0"
        raise ValueError(
            f"plots={list(kinds)} has no picture of a {ndim}-D landscape{without}: choose of {', '.join(drawn)}, or [] "
            "for none."
        )
    return kinds


def check_trainer(
    trainer: Trainer, module: LightningModule, data: Iterable[str], name: str = "LossLandscapeCallback"
) -> None:
    """Refuse a Trainer, or a module's step on one of the data sets, with which nothing can be measured.

    Args:
        trainer, module: of the training.
        data: the data sets.
        name: of the callback; a `LossLandscapeCallback` takes an objective in place of the step.
    """
    otherwise = ", or give objective=function(module, batch)" if name == "LossLandscapeCallback" else ""
    why = compat.unsupported(trainer)
    if why is not None:
        raise compat.misconfiguration(trainer, f"{name} does not support this: {why}.")
    for part in data:
        step = compat.STEPS[part]
        if not compat.is_overridden(step, module):
            raise compat.misconfiguration(
                trainer,
                f"data={part!r} needs {step}, which {type(module).__name__} does not implement: implement it, "
                f"choose another data{otherwise}.",
            )
        if compat.takes_iterator(step, module):
            raise compat.misconfiguration(
                trainer,
                f"data={part!r}: {step} of {type(module).__name__} takes dataloader_iter and draws its batches "
                "itself, but every point must be measured on the same ones: let it take batch and batch_idx, "
                f"choose another data{otherwise}.",
            )
