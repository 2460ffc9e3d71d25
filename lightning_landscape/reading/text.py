"""Sentences as text, and numbers in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, repr=False)
class Reading:
    """Sentences on one metric of a landscape; as text, a list in lines of at most 80 characters.

    Args:
        sentences: in the order in which they are read.
        headline: the first of them and the distances in short, without a full stop.

    >>> print(Reading(("The loss rises by 10 % at -0.5 and 0.5.", "See x=(-2, 2, 51).")))
    - The loss rises by 10 % at -0.5 and 0.5.
    - See x=(-2, 2, 51).
    """

    sentences: tuple[str, ...]
    headline: str = ""

    @property
    def distances(self) -> str:
        """The parts of the headline on how far it is uphill; empty where it has none.

        >>> Reading((), "the centre is the lowest point of the grid; +10 % at a distance of 0.2 along x").distances
        '+10 % at a distance of 0.2 along x'
        """
        return self.headline.partition("; ")[2]

    def __str__(self) -> str:
        return self.wrapped()

    def __repr__(self) -> str:
        return self.wrapped()

    def _repr_html_(self) -> str:
        return self.as_html()

    def as_html(self) -> str:
        """The sentences as a list of a page.

        >>> Reading(("One.", "a < b.")).as_html()
        '<ul><li>One.</li><li>a &lt; b.</li></ul>'
        """
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f"<ul>{items}</ul>"

    def wrapped(self, width: int = 80) -> str:
        """The sentences as a list in lines of at most `width` characters; coordinates stay on one line."""
        lines = []
        for sentence in self.sentences:
            joined = re.sub(r"(?<=\d), (?=-?\d)|(?<=\d) (?=%)", lambda gap: gap[0].replace(" ", "\u00a0"), sentence)
            lines += textwrap.wrap(joined, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(lines).replace("\u00a0", " ")


def number(value: float) -> str:
    """A number in three digits, without a minus before zero.

    >>> number(-0.0), number(0.12345), number(1234.5), number(1.5e9)
    ('0', '0.123', '1,230', '1.5e9')
    """
    text = f"{value + 0.0:.3g}"
    return f"{float(text):,.0f}" if 1e3 <= abs(value) < 1e6 else text.replace("e+0", "e").replace("e+", "e")


def percent(share: float, least: float = 1e-4) -> str:
    """A share in percent; below `least`, which is too little to see, a bound.

    >>> percent(0.0123), percent(1), percent(12.3456), percent(1e-99)
    ('1.23 %', '100 %', '1,235 %', 'less than 0.01 %')
    """
    if 0 < share < least:
        return f"less than {percent(least)}"
    return f"{100 * share:,.0f} %" if share >= 1 else f"{100 * share:.3g} %"


def axis_name(direction: int) -> str:
    """The name of an axis: x, y, z, and from there on its number."""
    return "xyz"[direction] if direction < 3 else f"direction {direction + 1}"
