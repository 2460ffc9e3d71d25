"""The output of a finished pass: a folder of files, and pictures and numbers for the loggers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .landscape import Landscape, Samples
from .loggers import Shown
from .phases import SILENT, Phases
from .plots import PLOTS, encode_picture, to_image
from .plots.film import FILMS
from .plots.growing import growing_film, is_growing
from .plots.run_scale import RunScale
from .scalars import scalars
from .storage import EXPORTS, FORMATS, encode, write_whole
from .storage.json_values import number, plain
from .storage.layout import data_set_names
from .summary import summary

PICTURES = ("png", "pdf", "svg")
FILM_FORMATS = tuple(suffix.removeprefix(".") for suffix in FILMS)
DATA_FORMATS = tuple(suffix.removeprefix(".") for suffix in FORMATS)
EXPORT_FORMATS = tuple(suffix.removeprefix(".") for suffix in EXPORTS)
DATA_NAME = "landscape"


def _never() -> bool:
    return False


def _any_picture(kind: str, metric: str | None) -> bool:
    return True


@dataclass(frozen=True)
class Look:
    """The way a landscape is drawn, and the files it leaves.

    Args:
        plots: kinds of `plots.PLOTS`.
        formats: of DATA_FORMATS, EXPORT_FORMATS, PICTURES and FILM_FORMATS.
        color_scale: one of `plots.COLOR_SCALES`.
        sample_layout: rows × columns of the tiles, e.g. "2x5".
        share_colorbar: one colour bar for all tiles, or one each.
        every_metric: every kind for every metric; else those other than the main loss have the first kind only.
        scale: the ranges of the run that it belongs to; None for those of each landscape itself.
    """

    plots: Sequence[str] = ("contour", "surface", "slices", "tiles", "sections")
    formats: Sequence[str] = ("h5", "png")
    color_scale: str = "global"
    sample_layout: str = "2x5"
    share_colorbar: bool = True
    every_metric: bool = False
    scale: RunScale | None = None

    @property
    def films(self) -> tuple[str, ...]:
        """The formats of films: those that were chosen, or a GIF where there are files with pictures.

        >>> [Look(formats=formats).films for formats in (("h5", "png"), ("h5", "png", "webp"), ("h5",))]
        [('gif',), ('webp',), ()]
        """
        chosen = tuple(name for name in self.formats if name in FILM_FORMATS)
        return chosen or (("gif",) if set(self.formats) & set(PICTURES) else ())

    def metrics(self, landscape: Landscape, kind: str, names: Sequence[str]) -> list[str | None]:
        """The metrics, of those given, that have a picture of this kind; None stands for all of the landscape.

        >>> from .landscape import Grid
        >>> line = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3), "acc": np.zeros(3)}, "loss")
        >>> look = Look(plots=("contour", "slices", "tiles"))  # of which slices are the first that draw a line
        >>> look.metrics(line, "slices", ["loss", "acc"]), look.metrics(line, "tiles", ["loss", "acc"])
        (['loss', 'acc'], [None])
        """
        if PLOTS[kind].per == "landscape":
            return [None]
        able = (other for other in self.plots if landscape.grid.ndim in PLOTS[other].ndims)
        first = next((other for other in able if PLOTS[other].per == "metric"), kind)
        return [name for name in names if self.every_metric or kind == first or name == landscape.main]

    def options(self, landscape: Landscape, kind: str, metric: str | None) -> dict[str, object]:
        """The arguments with which one kind of picture is drawn; `metric` is None for those of all of it."""
        is_tiles = kind == "tiles"
        scale = RunScale(self.color_scale)
        if self.scale is not None and not (is_tiles and not self.share_colorbar):
            scale = self.scale
        tiles = {"layout": self.sample_layout, "share_colorbar": self.share_colorbar} if is_tiles else {}
        return {**scale.options(landscape, kind, metric), **tiles}


@dataclass(frozen=True, eq=False)
class Output:
    """Pictures and numbers for the loggers, the pictures that failed, and those for which there was no time."""

    for_loggers: Shown
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Files:
    """The files of one landscape in a folder: each is written whole or not at all, and none stops the others.

    Args:
        folder: made with the first of them.
        replace: files that are there already; else they are left as they are.

    Attributes:
        failures: the name of each file that could not be made or written, and why.
    """

    def __init__(self, folder: Path, replace: bool = True) -> None:
        self.folder, self.replace = folder, replace
        self.failures: list[tuple[str, Exception]] = []

    def write(self, name: str, encode: Callable[[], bytes]) -> None:
        """Write the bytes that `encode` gives."""
        try:
            if self.replace or not (self.folder / name).exists():
                write_whole(self.folder / name, encode())
        except Exception as error:  # noqa: BLE001  # whatever a library raises: the caller tells it
            self.failures.append((name, error))


Write = Callable[[str, Callable[[], bytes]], None]


def put_out(
    landscape: Landscape,
    look: Look,
    write: Write | None,
    tag: str = "landscape",
    over: Callable[[], bool] = _never,
    before: Landscape | None = None,
    phases: Phases = SILENT,
) -> Output:
    """Draw everything, write it with `write` (None: no files) and give what the loggers show.

    Pictures other than the first are left out once the time is `over`. The reading compares with the landscape
    `before`, which must have the main loss, too.
    """
    if write is not None:
        write_data(landscape, look.formats, write)
        if landscape.samples is not None:
            write("selected_samples.json", partial(samples_as_json, landscape.samples))
    pictures = draw_pictures(landscape, look, write, list(landscape.values), over=over, phases=phases)
    images = {picture_tag(tag, landscape, kind, name): pixels for (kind, name), pixels in pictures.pixels.items()}
    numbers = {f"{tag}/{name}": number for name, number in scalars(landscape).items()}
    text = {f"{tag}/reading": str(landscape.reading(before=before))}
    return Output(Shown(images, numbers, landscape, text), pictures.failures, pictures.left_out)


def picture_tag(tag: str, landscape: Landscape, kind: str, metric: str | None = None) -> str:
    """The tag of a picture in the loggers: a group for each metric, that of the main loss first.

    TensorBoard groups tags by their beginning up to the first "/". It sorts the groups by letters.

    Args:
        tag: of the landscape, e.g. "landscape".
        landscape: that is drawn.
        kind: of picture.
        metric: None for the main loss, or for all of the landscape.

    >>> from .landscape import Grid
    >>> line = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3), "val/acc": np.zeros(3)}, "loss")
    >>> sorted([picture_tag("landscape", line, "slices", "val/acc"), picture_tag("landscape", line, "slices", "loss")])
    ['landscape val_acc/slices', 'landscape/slices']
    """
    if metric is None or metric == landscape.main:
        return f"{tag}/{kind}"
    return f"{tag} {data_set_names(landscape.values)[metric]}/{kind}"


def previous(landscapes: Mapping[int, Landscape | Path], landscape: Landscape) -> Landscape | None:
    """The landscape of the step before; None for the first, for another loss, and where only its file is at hand.

    Args:
        landscapes: of a run by step.
        landscape: of which the recipe has the step.

    >>> from .landscape import Grid
    >>> from .recipe import Recipe
    >>> first, second = (
    ...     Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3)}, "loss", recipe=Recipe(step=step))
    ...     for step in (8, 9)
    ... )
    >>> previous({8: first, 9: second}, second) is first, previous({8: first, 9: second}, first)
    (True, None)
    """
    now = landscape.recipe.step
    step = max((step for step in landscapes if now is not None and step < now), default=None)
    before = None if step is None else landscapes[step]
    return before if isinstance(before, Landscape) and landscape.main in before.values else None


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pixels by kind and metric (None: of the whole landscape), and what was not drawn."""

    pixels: dict[tuple[str, str | None], NDArray[np.uint8]] = field(default_factory=dict)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def draw_pictures(
    landscape: Landscape,
    look: Look,
    write: Write | None,
    metrics: Sequence[str],
    strict: bool = False,
    over: Callable[[], bool] = _never,
    phases: Phases = SILENT,
    selected: Callable[[str, str | None], bool] = _any_picture,
) -> Pictures:
    """Draw the kinds of `look` and write those of its formats that are pictures (with None: no files).

    A kind that this landscape has no picture of is passed over, or a failure where `strict`. Once the time is `over`,
    the rest is left out. The pictures of the main loss and of the whole landscape come first. The `phases` are told of
    each picture. Of these pictures only those are drawn that are `selected`, by kind and metric.
    """
    result = Pictures()
    # A letter takes up to 4 bytes, and a name 255 bytes on most file systems.
    stems = data_set_names(landscape.values, longest=50)
    kinds = [kind for kind in look.plots if strict or PLOTS[kind].draws(landscape)]
    pictures = [(kind, name) for kind in kinds for name in look.metrics(landscape, kind, metrics)]
    pictures.sort(key=lambda picture: picture[1] not in (None, landscape.main))
    for kind, name in (picture for picture in pictures if selected(*picture)):
        if result.pixels and over():
            result.left_out.append(kind if name is None else f"{kind} of {name}")
            continue
        phases.tell("drawing", len(result.pixels) + len(result.failures) + 1, len(pictures))
        stem = PLOTS[kind].suffix if name is None else f"{stems[name]}_{PLOTS[kind].suffix}"
        try:
            figure = PLOTS[kind].draw(landscape, name, **look.options(landscape, kind, name))
            result.pixels[kind, name] = to_image(figure)
        except Exception as error:  # noqa: BLE001  # the other pictures are worth having
            result.failures.append((f"{kind} of {name or landscape.main}", error))
            continue
        for suffix in [f for f in look.formats if f in PICTURES and write is not None]:
            assert write is not None
            write(f"{stem}.{suffix}", partial(encode_picture, figure, f".{suffix}", result.pixels[kind, name]))
    return result


def put_out_films(
    landscape: Landscape,
    look: Look,
    write: Write | None,
    tag: str = "landscape",
    over: Callable[[], bool] = _never,
    phases: Phases = SILENT,
    frames: int = 40,
) -> dict[str, bytes]:
    """Films of the growing path on one landscape: files of the look's formats, and GIFs by tag for the loggers.

    There is one for each kind of `look` that shows a surface with the path. There is none where no path was recorded,
    or where it is a dot. Once the time is `over`, the rest is left out. A film has that many `frames` at most.
    """
    films: dict[str, bytes] = {}
    stem = data_set_names(landscape.values, longest=50)[landscape.main]
    kinds = [kind for kind in look.plots if PLOTS[kind].per == "metric" and is_growing(landscape, kind)]
    for place, kind in enumerate(kinds, 1):
        phases.tell("drawing films", place, len(kinds))
        options: dict[str, Any] = look.options(landscape, kind, landscape.main)
        film = growing_film(landscape, kind, over=over, frames=frames, **options)
        if len(film) < 2:  # a single picture is none
            break
        films[f"{tag}/{kind}_film"] = gif = film.encode()
        for name in look.films if write is not None else ():
            assert write is not None
            encode_film = partial(bytes, gif) if name == "gif" else partial(film.encode, f".{name}")
            write(f"{stem}_{PLOTS[kind].suffix}_path.{name}", encode_film)
    return films


def whole_formats(landscape: Landscape, formats: Sequence[str]) -> list[str]:
    """The given formats that hold all of a landscape; ``["h5"]`` if none does, so that nothing is lost.

    >>> from .landscape import Grid
    >>> line = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3)}, "loss")
    >>> whole_formats(line, ("csv", "png")), whole_formats(line, ("png",))
    (['csv'], ['h5'])
    >>> from .trajectory import Trajectory
    >>> line.trajectory = Trajectory(np.zeros(1), np.zeros((1, 1)), np.zeros(1), np.zeros(1))
    >>> whole_formats(line, ("csv", "json"))
    ['json']
    """
    able = [name for name in formats if name in DATA_FORMATS]
    has_more = landscape.samples is not None or landscape.trajectory is not None
    return [name for name in able if FORMATS[f".{name}"].whole or not has_more] or ["h5"]


def data_file(folder: Path | None, landscape: Landscape, formats: Sequence[str]) -> Path | None:
    """The file in the folder of a landscape that holds all of it; None where it has no folder."""
    return None if folder is None else folder / f"{DATA_NAME}.{whole_formats(landscape, formats)[0]}"


def write_data(landscape: Landscape, formats: Sequence[str], write: Write) -> None:
    """Write the landscape's data files, at least one that holds all of it, and its log.txt."""
    for suffix in dict.fromkeys([*whole_formats(landscape, formats), *formats]):
        if suffix in DATA_FORMATS + EXPORT_FORMATS:
            write(f"{DATA_NAME}.{suffix}", partial(encode, landscape, f".{suffix}"))
    write("log.txt", lambda: summary(landscape).encode("utf-8"))


def samples_as_json(samples: Samples) -> bytes:
    """The tile samples as JSON: index, label, prediction, probability, centre loss (null: not known; "NaN", …: odd)."""
    rows = [
        {
            "index": s.index,
            "label": s.label,
            "prediction": s.prediction,
            "probability": None if s.probability is None else number(s.probability),
            "center_loss": number(s.center),
        }
        for s in samples.items
    ]
    return f"{json.dumps(plain(rows, 'samples'), indent=2, allow_nan=False)}\n".encode()
