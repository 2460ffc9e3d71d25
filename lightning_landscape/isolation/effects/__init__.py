"""Effects of a user's code outside of the module while it is measured: suppressed, undone, or noticed."""

from .audit import effects_warning, record_effects
from .guard import EffectGuard, one_pass, restore_later
from .standins import replace_writers, stand_in
from .trackers import without_foreign_noise, writer_classes

__all__ = [
    "EffectGuard", "effects_warning", "one_pass", "record_effects", "replace_writers", "restore_later", "stand_in",
    "without_foreign_noise", "writer_classes",
]  # fmt: skip
