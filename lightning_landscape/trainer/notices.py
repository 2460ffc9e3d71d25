"""The warnings of a run, each of them once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Notices:
    """The warnings that a run has given, and those that it gives.

    Args:
        strict: raise failures instead.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self._remarks: set[str] = set()
        self._failures: set[str] = set()  # their kinds: texts without numbers

    def remark(self, trainer: Trainer, texts: Sequence[str]) -> None:
        """Warn of each text, once."""
        for text in texts:
            if text not in self._remarks:
                self._remarks.add(text)
                compat.warn(trainer, text)

    def fail(
        self,
        trainer: Trainer,
        error: Exception | str,
        what: str = "The loss landscape failed",
        unchanged: bool = False,
    ) -> None:
        """Warn once of each kind of failure.

        Args:
            trainer: that goes on.
            error: the reason.
            what: failed, in words.
            unchanged: True where the seal has proved that the training is.
        """
        if self.strict and isinstance(error, Exception):
            raise error
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        kind = re.sub(r"\d+", "#", f"{what} ({text}")
        if kind not in self._failures:
            self._failures.add(kind)
            goes_on = "The training goes on, unchanged." if unchanged else "The training goes on."
            compat.warn(
                trainer,
                f"{what} ({text}). {goes_on} To see the traceback, set strict=True; further failures of this kind are "
                "not reported.",
            )
