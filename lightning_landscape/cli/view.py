"""`lightning-landscape view`: a page of text on a landscape."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import Commands, about, add_command

if TYPE_CHECKING:
    from ..landscape import Landscape

EXAMPLES = """\
  lightning-landscape view landscape.h5
  lightning-landscape view logs/*/landscape.h5 | less
"""
IN_THE_TABLE = ("centre", "range", "curvature")


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = add_command(commands, "view", run, "describe a landscape, in the terminal", "FILE [FILE ...]", EXAMPLES)
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="landscapes")


def run(arguments: argparse.Namespace) -> int:
    """Print a page for each file."""
    from ..storage import load

    for place, file in enumerate(arguments.files):
        with about(file):
            text = page(load(file), str(file))
        print("\n" * (place > 0) + text, end="")
    return 0


def page(landscape: Landscape, title: str, width: int = 80) -> str:
    """The metrics as a table, the reading of the main loss, and the facts.

    Lines have at most `width` characters where words allow it.
    """
    from ..summary import facts

    reading = landscape.reading().wrapped(width)
    lines = [title, "─" * min(len(title), width), *table(landscape), "", reading, ""]
    for line in facts(landscape).splitlines():
        name, value = line[:18], line[18:].strip()
        if name.strip() in IN_THE_TABLE or not value.strip("?, ") or value.startswith("nan "):
            continue
        value = re.sub(r", (?=[^\[\]]*\])", ",\u00a0", value)  # a range stays on one line
        indents: Any = {"initial_indent": name, "subsequent_indent": " " * 18, "break_on_hyphens": False}
        lines += [part.replace("\u00a0", " ") for part in textwrap.wrap(value, width, **indents)]
    return "\n".join(lines) + "\n"


def table(landscape: Landscape) -> list[str]:
    """A row for each metric: centre, lowest and highest value on the grid, place of the lowest, curvatures."""
    from ..comparison import aligned

    rows: list[tuple[str, ...]] = [("", "centre", "lowest", "at", "highest", "curvature")]
    for name in landscape.values:
        low, place = landscape.lowest(name)
        rows.append(
            (
                name,
                f"{landscape.center[name]:.4g}",
                f"{low:.4g}",
                ", ".join(f"{at:.3g}" for at in place),
                f"{low + landscape.relief(name):.4g}",
                ", ".join(f"{bend:.3g}" for bend in landscape.curvature(name)),
            )
        )
    return aligned(rows)
