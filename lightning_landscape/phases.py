"""Phases of a pass: what it does at the moment, for those who show it."""

from __future__ import annotations


class Phases:
    """The listener of a pass, which shows nothing; subclasses do."""

    @property
    def must_end(self) -> bool:
        """True if the user wants the pass to end."""
        return False

    def tell(self, phase: str, part: int = 0, of: int = 0) -> None:
        """Begin a phase, or a part of it. A subclass may raise here to end the pass, when nothing is lost.

        Args:
            phase: in words, such as "reading data".
            part: the number of the part that begins, from 1; 0 for a phase of one part.
            of: how many parts there are; 0 where nobody knows.
        """

    def at_batch(self, batch: int, of: int) -> None:
        """Begin a batch of a point. It is called often: a subclass only remembers it, and never raises.

        Args:
            batch: its number, from 1.
            of: how many batches a point has.
        """


SILENT = Phases()
