"""Effects of a user's code outside of the module while it is measured: held back, put back, or noticed."""

from .held import HeldBack, one_pass, put_back_later
from .noticed import noticing, unheld
from .standins import stand_in, writers_apart
from .trackers import writer_classes

__all__ = [
    "HeldBack",
    "noticing",
    "one_pass",
    "put_back_later",
    "stand_in",
    "unheld",
    "writer_classes",
    "writers_apart",
]
