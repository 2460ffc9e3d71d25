"""What a user's code does outside of the module while it is measured: held back, put back, or at least noticed."""

from .held import HeldBack, one_pass
from .noticed import noticing, unheld
from .standins import stand_in, writers_apart

__all__ = ["HeldBack", "noticing", "one_pass", "stand_in", "unheld", "writers_apart"]
