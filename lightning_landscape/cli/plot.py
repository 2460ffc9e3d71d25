"""`lightning-landscape plot`: pictures of landscapes in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ..local_paths import local_path, short_names
from .common import COLOR_SCALES, KINDS, Commands, add_choice, add_command, one_line

EXAMPLES = """\
  lightning-landscape plot landscape.h5                   # all pictures, in the folder landscape/
  lightning-landscape plot landscape.h5 --kinds contour surface --format pdf
  lightning-landscape plot logs/*/landscape.h5 --metric val_loss --out pictures
"""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = add_command(
        commands, "plot", run, "draw landscapes from their files", "FILE [FILE ...] [options]", EXAMPLES
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="landscapes")
    folder = "folder of the pictures, with a subfolder for each of several FILEs; default: a folder beside each FILE"
    command.add_argument("--out", type=Path, metavar="DIR", help=folder)
    add_choice(command, "--kinds", KINDS, "of %(choices)s; default: all that FILE has", nargs="+", metavar="KIND")
    command.add_argument("--metric", metavar="NAME", help="a metric; default: all in FILE")
    command.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="default: png")
    add_choice(
        command, "--color-scale", COLOR_SCALES, "one of %(choices)s; default: global", default="global", metavar="SCALE"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw file by file, and print the path of each picture; 1 if one could not be drawn."""
    from ..output import Look, draw_pictures
    from ..storage import load, write_whole

    names = short_names(arguments.files)
    failed = False
    for file, name in zip(arguments.files, names, strict=True):
        landscape = load(file)
        metrics = list(landscape.values) if arguments.metric is None else [landscape.metric(arguments.metric)]
        folder = file.with_suffix("")
        if arguments.out is not None:
            folder = local_path("--out", arguments.out / name if len(names) > 1 else arguments.out)
        tiles = 0 if landscape.samples is None else len(landscape.samples.items)
        look = Look(
            tuple(arguments.kinds or KINDS),
            (arguments.format,),
            arguments.color_scale,
            sample_layout=f"{max(1, -(-tiles // 5))}x{min(max(tiles, 1), 5)}",
            every_metric=True,
        )

        def write(name: str, encode: Callable[[], bytes], folder: Path = folder) -> None:
            print(write_whole(folder / name, encode()))

        pictures = draw_pictures(landscape, look, write, metrics, strict=arguments.kinds is not None)
        if not (pictures.pixels or pictures.failures):
            raise ValueError(f"{file}: no kind of picture draws {landscape.grid.ndim}-D landscapes.")
        if pictures.failures:
            failures = "; ".join(f"{what}: {one_line(error)}" for what, error in pictures.failures)
            print(f"lightning-landscape: {file}: {failures}", file=sys.stderr)
            failed = True
    return int(failed)
