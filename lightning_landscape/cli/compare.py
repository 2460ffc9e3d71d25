"""`lightning-landscape compare`: two landscapes side by side, in numbers and as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .common import Commands, about, add_command, short_names
from .view import aligned

if TYPE_CHECKING:
    from ..landscape import Landscape

EXAMPLES = """\
  lightning-landscape compare step=000240/landscape.h5 step=000480/landscape.h5
  lightning-landscape compare sgd.h5 adam.h5 --metric val_loss --out sgd_adam.pdf
"""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    summary, usage = "compare two landscapes on the same axes", "A B [--out FILE] [--metric NAME]"
    command = add_command(commands, "compare", run, summary, usage, EXAMPLES)
    command.add_argument("a", type=Path, metavar="A", help="a landscape")
    command.add_argument("b", type=Path, metavar="B", help="another, on the same grid")
    picture = Path("comparison.png")
    command.add_argument(
        "--out", type=Path, default=picture, metavar="FILE", help=".png, .pdf, .svg; default: %(default)s"
    )
    command.add_argument("--metric", metavar="NAME", help="a metric; default: the main loss of A")


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers, write the picture and say where."""
    from ..local_paths import local_path
    from ..output import PICTURES
    from ..plots import draw_comparison, encode_picture
    from ..storage import load, write_whole

    out = local_path("--out", arguments.out)
    if out.suffix.removeprefix(".") not in PICTURES:
        raise ValueError(f"--out {out} is no picture: give a name that ends in one of {', '.join(PICTURES)}.")
    a, b = load(arguments.a), load(arguments.b)
    first, second = short_names([arguments.a, arguments.b])
    names = (first, second) if first != second else ("A", "B")
    with about(arguments.a, arguments.b):
        figure = draw_comparison(a, b, arguments.metric, names=names)
        table = numbers(a, b, a.metric(arguments.metric), names)
    print("\n".join(table))
    print(f"\n{write_whole(out, encode_picture(figure, out.suffix))}")
    return 0


def numbers(a: Landscape, b: Landscape, metric: str, names: tuple[str, str]) -> list[str]:
    """Centre, lowest value and curvatures of both, and their differences."""
    columns = [(x.center[metric], x.lowest(metric)[0], *x.curvature(metric)) for x in (a, b)]
    titles = ["centre", "lowest on the grid", *(f"curvature {i}" for i in range(1, a.grid.ndim + 1))]
    rows: list[tuple[str, ...]] = [(metric, *names, "difference")]
    for title, p, q in zip(titles, *columns, strict=True):
        rows.append((title, f"{p:.4g}", f"{q:.4g}", f"{q - p:+.4g}"))
        if title.startswith("lowest"):
            places = [", ".join(f"{at:.3g}" for at in x.lowest(metric)[1]) for x in (a, b)]
            rows.append(("  at", *places, ""))
    return aligned(rows)
