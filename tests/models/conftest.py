"""A Trainer that writes nothing, for fits of a few batches."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
import pytest


@pytest.fixture
def quiet_trainer() -> Callable[..., L.Trainer]:
    """Makes a Trainer on the CPU without logger, checkpoints, bar and summary."""

    def make(**options: Any) -> L.Trainer:
        return L.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )

    return make
