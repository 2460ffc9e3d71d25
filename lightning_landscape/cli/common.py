"""Shared parts of the commands: their help, choices from the tables, short names of files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol


class Commands(Protocol):
    """The commands of a parser, as `argparse.ArgumentParser.add_subparsers` gives them."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """A new command."""


class Choices:
    """The names in one or several tables, read on demand: the tables import matplotlib and h5py.

    Args:
        room: the module with the tables.
        tables: their names there.
    """

    def __init__(self, room: str, *tables: str) -> None:
        self.room, self.tables = room, tables

    def __iter__(self) -> Iterator[str]:
        room = import_module(f"..{self.room}", __package__)
        return (name.removeprefix(".") for table in self.tables for name in getattr(room, table))

    def __contains__(self, value: object) -> bool:
        return value in list(self)


KINDS, COLOR_SCALES = Choices("plots", "PLOTS"), Choices("plots", "COLOR_SCALES")
FORMATS = Choices("storage", "FORMATS", "EXPORTS")


def add_choice(command: argparse.ArgumentParser, name: str, choices: Choices, help: str, **options: Any) -> None:
    """Add an option whose choices are read on demand."""
    action = command.add_argument(name, choices=choices, **options)
    action.help = help  # not before: Python 3.14 would read the choices to check it


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str, arguments: str, examples: str
) -> argparse.ArgumentParser:
    """A new command with its help; `arguments` is its usage, with FILE before options that take several words."""
    result = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        usage=f"%(prog)s {arguments}",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.set_defaults(run=run)
    return result


def one_line(error: Exception) -> str:
    """The message of an error in one line, for people.

    The type of the error comes first where the text may not say enough.

    >>> one_line(ValueError("no\\nlandscape")), one_line(KeyError("x"))
    ('no landscape', "KeyError: 'x'")
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    elif not isinstance(error, ImportError | OSError | ValueError) or not text:
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())


@contextmanager
def about(*files: Path) -> Iterator[None]:
    """A context that turns errors by an odd recipe into one that names the files.

    >>> with about(Path("a.h5")):
    ...     {}["budget"]["samples"]
    Traceback (most recent call last):
    ValueError: a.h5 can't be shown, since its recipe is damaged (KeyError: 'budget'): measure it again.
    """
    try:
        yield
    except (ImportError, OSError, ValueError, MemoryError):
        raise
    except Exception as error:
        names = " or ".join(map(str, files))
        raise ValueError(
            f"{names} can't be shown, since its recipe is damaged ({type(error).__name__}: {error}): measure it again."
        ) from error
