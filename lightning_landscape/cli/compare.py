"""`lightning-landscape compare`: several runs side by side, in numbers and as pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .common import Commands, about, add_command

if TYPE_CHECKING:
    from ..comparison import Comparison
    from ..plots import Figure

EXAMPLES = """\
  lightning-landscape compare sgd.h5 adam.h5 --metric train_loss val_loss --out sgd_adam.pdf
  lightning-landscape compare lightning_logs/version_0 lightning_logs/version_1      # the last landscape of each
  lightning-landscape compare lightning_logs/version_0                               # all landscapes of a run
"""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    summary, usage = "compare several runs, or the steps of one", "RUN [RUN ...] [--out FILE] [--metric NAME ...]"
    command = add_command(commands, "compare", run, summary, usage, EXAMPLES)
    runs = "a landscape, or a folder with landscapes; of several folders the last landscape, of a single one all"
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=runs)
    out = ".png, .pdf, .svg; other pictures lie beside it, as comparison_curves.png; default: %(default)s"
    command.add_argument("--out", type=Path, default=Path("comparison.png"), metavar="FILE", help=out)
    command.add_argument("--metric", nargs="+", metavar="NAME", help="metrics; default: the main loss of the first")


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers and what can be compared, write the pictures and say where."""
    from ..comparison import compare
    from ..local_paths import local_path
    from ..output import PICTURES
    from ..plots import encode_picture
    from ..storage import write_whole

    out = local_path("--out", arguments.out)
    if out.suffix.removeprefix(".") not in PICTURES:
        raise ValueError(f"--out {out} is no picture: give a name that ends in one of {', '.join(PICTURES)}.")
    comparison = compare(arguments.runs)
    with about(*arguments.runs):
        names = [comparison.metric(name) for name in arguments.metric or [None]]
        for name in names:
            print(comparison.text(name), end="\n\n")
        for path, figure in pictures(comparison, names, out).items():
            print(write_whole(path, encode_picture(figure, out.suffix)))
    return 0


def pictures(comparison: Comparison, metrics: Sequence[str], out: Path) -> dict[Path, Figure]:
    """The pictures of a comparison by their paths: the usual one as `out`, one of each other kind beside it.

    A difference shows the panels of one metric, and the curves of lines, too.
    """
    kinds = [kind for kind in comparison.kinds if kind != "difference" or len(metrics) == 1]
    if "difference" in kinds:
        kinds = [kind for kind in kinds if kind not in ("panels", "curves")[: 2 if comparison.ndim == 1 else 1]]
    first, *following = kinds
    result = {out: comparison.plot(first, metrics if first == "panels" else metrics[0])}
    for kind in following:
        result[out.with_name(f"{out.stem}_{kind}{out.suffix}")] = comparison.plot(kind, metrics[0])
    return result
