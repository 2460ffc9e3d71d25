"""The command `lightning-landscape`: one file a command, one row each in COMMANDS.

Heavy packages are imported inside the commands; only `demo` needs torch.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from ..version import __version__
from . import compare, demo, export, film, plot, view
from .common import Commands, one_line

__all__ = ["COMMANDS", "main", "parser"]

log = logging.getLogger(__name__)

COMMANDS: dict[str, Callable[[Commands], None]] = {
    "demo": demo.add,
    "view": view.add,
    "plot": plot.add,
    "film": film.add,
    "compare": compare.add,
    "export": export.add,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 1 after an error on one line. Wrong usage exits with 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack × and ─
            stream.reconfigure(errors="replace")
    try:
        try:
            arguments = parser().parse_args(argv)
            return int(arguments.run(arguments))
        finally:
            sys.stdout.flush()  # a full disk raises here
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the pipe has closed it
        _drop(sys.stdout)
        return 1
    except Exception as error:  # any file may be anything
        log.debug("The command failed.", exc_info=True)
        _drop(sys.stdout)
        with suppress(OSError):  # a full disk may refuse this line, too
            print(f"lightning-landscape: {one_line(error)}", file=sys.stderr, flush=True)
        return 1


def _drop(stream: TextIO) -> None:
    """Throw away the text that a stream could not write; Python would try again at its exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

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
