"""Checks of what a user gives: words of a list, whole numbers, functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def check_word(name: str, value: object, known: Iterable[str], of: str = "") -> None:
    """Check a word.

    Args:
        name: of the argument.
        value: that the user gave.
        known: all words that it may be.
        of: what the words are of, for the message.

    Raises:
        ValueError: if the word is none of those known.

    >>> check_word("mode", "training", ["eval", "train"])
    Traceback (most recent call last):
    ValueError: mode='training' is unknown; the choices are eval, train.
    """
    if value not in (choices := tuple(known)):
        raise ValueError(f"{name}={value!r} is unknown{of}; the choices are {', '.join(choices)}.")


def checked_words(
    name: str, values: Sequence[str], known: Sequence[str], *, of: str = "", may_be_empty: bool = False
) -> tuple[str, ...]:
    """The words as a tuple, each once.

    Args:
        name, known, of: as in `check_word`.
        values: that the user gave.
        may_be_empty: whether there may be none.

    Raises:
        ValueError: if it is a single text, one of the words is unknown, or there is none.

    >>> checked_words("formats", ["png", "h5", "png"], ["h5", "png"])
    ('png', 'h5')
    """
    if isinstance(values, str):
        raise ValueError(f"{name}={values!r} is one word: give a list, e.g. [{values!r}].")
    for value in values:
        check_word(name, value, known, of)
    if not values and not may_be_empty:
        raise ValueError(f"{name}={values!r} is empty; the choices are {', '.join(known)}.")
    return tuple(dict.fromkeys(values))


def check_at_least(name: str, value: object, least: int, meaning: str) -> None:
    """Check a whole number, or None.

    Args:
        name: of the argument.
        value: that the user gave.
        least: the lowest number that it may be.
        meaning: of the number, in words.

    Raises:
        ValueError: if it is no whole number, or a lower one.

    >>> check_at_least("samples", -1, 0, "the number of tiles, 0 for none")
    Traceback (most recent call last):
    ValueError: samples=-1: give the number of tiles, 0 for none; a whole number of at least 0.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{name}={value!r}: give {meaning}; a whole number of at least {least}.")


def checked_function(name: str, value: T) -> T:
    """The value itself, if it can be called, or is None.

    Raises:
        ValueError: if it can't be called.
    """
    if value is not None and not callable(value):
        raise ValueError(f"{name}={value!r} is not callable: give a function, or leave it out.")
    return value
