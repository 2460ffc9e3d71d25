"""The command `lightning-landscape`: one file a command, one row each in COMMANDS.

Whatever is heavy is imported inside of the commands; only `demo` needs torch.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from . import compare, demo, export, plot, view

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS: dict[str, Callable[[Any], None]] = {
    "demo": demo.add,
    "view": view.add,
    "plot": plot.add,
    "compare": compare.add,
    "export": export.add,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 1 after an error on one line. Wrong usage exits with 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks × and ─ shows others in their place
            stream.reconfigure(errors="replace")
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ImportError, OSError, ValueError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"lightning-landscape: {' '.join(text.split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong on one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``run``."""
    result = Parser(prog="lightning-landscape", description="The loss landscape around the weights while you train.")
    result.add_argument("--version", action="version", version=f"lightning-landscape {__version__}")
    commands = result.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in COMMANDS.values():
        add(commands)
    return result
