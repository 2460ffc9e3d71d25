"""`lightning-landscape film`: the path of a training that grows on a landscape, or the landscapes of a training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .common import KINDS, Commands, about, add_choice, add_command

if TYPE_CHECKING:
    from ..landscape import Landscape
    from ..plots.film import Film

EXAMPLES = """\
  lightning-landscape film landscape.h5                   # the path grows: landscape.gif
  lightning-landscape film landscape.h5 --kind surface --out path.webp
  lightning-landscape film step=*/landscape.h5 --out training.gif   # a frame each, on one scale
"""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    summary = "make a film of the path on a landscape, or of several landscapes"
    command = add_command(commands, "film", run, summary, "FILE [FILE ...] [options]", EXAMPLES)
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="landscapes; one: its path grows")
    add_choice(command, "--kind", KINDS, "one of %(choices)s; default: the usual one", metavar="KIND")
    command.add_argument("--metric", metavar="NAME", help="a metric; default: the main loss")
    command.add_argument("--frames", type=int, default=40, metavar="N", help="of one FILE; default: %(default)s")
    where = ".gif, .webp or .mp4; default: a .gif beside the first FILE"
    command.add_argument("--out", type=Path, metavar="FILE", help=where)


def run(arguments: argparse.Namespace) -> int:
    """Write the film and say where."""
    from ..local_paths import local_path
    from ..plots.film import check_film
    from ..storage import load

    out = local_path("--out", arguments.out or arguments.files[0].with_suffix(".gif"))
    check_film(out.suffix.lower())
    landscapes = [load(file) for file in arguments.files]
    with about(*arguments.files):
        if len(landscapes) == 1:
            film = landscapes[0].film(arguments.kind, arguments.metric, frames=arguments.frames)
        else:
            film = film_of(landscapes, arguments.kind, arguments.metric)
        print(film.save(out))
    return 0


def film_of(landscapes: list[Landscape], kind: str | None, metric: str | None) -> Film:
    """The film of several landscapes in the order of their steps, all on one scale."""
    from ..plots import USUAL, draw, to_image
    from ..plots.film import Film
    from ..plots.run_scale import RunScale

    film, scale = Film(), RunScale()
    ordered = sorted(landscapes, key=lambda each: -1 if each.recipe.step is None else each.recipe.step)
    for landscape in ordered:
        scale = scale.widened(landscape)
    for number, landscape in enumerate(ordered):
        name = kind or USUAL.get(landscape.grid.ndim, "slices")
        options = scale.options(landscape, name, metric)
        film.add(number, to_image(draw(landscape, name, metric, **options)))
    return film
