"""`lightning-landscape export`: a landscape in another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import FORMATS, Commands, add_choice, add_command

EXAMPLES = """\
  lightning-landscape export landscape.h5 --to vtp        # landscape.vtp, for ParaView
  lightning-landscape export landscape.h5 --to csv --out table.csv
"""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = add_command(
        commands, "export", run, "write a landscape in another format", "FILE --to FORMAT [--out FILE]", EXAMPLES
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a landscape")
    add_choice(command, "--to", FORMATS, "one of %(choices)s", required=True, metavar="FORMAT")
    command.add_argument("--out", type=Path, metavar="FILE", help="where to write it; default: beside FILE")


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and say which."""
    from ..local_paths import local_path
    from ..storage import load, save

    suffix = f".{arguments.to}"
    out = local_path("--out", arguments.out or arguments.file.with_suffix(suffix))
    if out.suffix.lower() != suffix:
        raise ValueError(f"--out {out} does not end in {suffix}: give another name, or another --to.")
    if out.resolve() == arguments.file.resolve():
        raise ValueError(f"{out} is FILE itself: give another --to, or --out.")
    landscape = load(arguments.file)
    print(save(landscape, out))
    return 0
