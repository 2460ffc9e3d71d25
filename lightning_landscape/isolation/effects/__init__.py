"""Effects of a user's code outside of the module while it is measured: suppressed, undone, or noticed."""

from .audit import noticing, unheld
from .guard import EffectGuard, one_pass, restore_later
from .standins import stand_in, writers_apart
from .trackers import writer_classes

__all__ = [
    "EffectGuard", "noticing", "one_pass", "restore_later", "stand_in", "unheld", "writer_classes", "writers_apart",
]  # fmt: skip
