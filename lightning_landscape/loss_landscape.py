"""LossLandscape: landscapes of a plain `nn.Module`, without a Trainer."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)
SAVE_EVERY = 5.0  # seconds between two saves of a landscape in progress
DIR_TYPES = ("weights", "states")
SURF_FILE = "loss_surface.h5"
