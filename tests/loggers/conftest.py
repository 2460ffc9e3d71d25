"""One pass to log, and loggers shaped like the real ones."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.loggers import Shown

LINE = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.zeros(3)}, "loss")


class Calls:
    """Keeps every call of every method, as (method, arguments, keywords)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # else abc takes a recorder for an abstract method
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


class Logger:
    """As Lightning's: an experiment, and log_metrics."""

    def __init__(self, experiment: Any = None) -> None:
        self.experiment = Calls() if experiment is None else experiment
        self.metrics: list[tuple[dict[str, Any], int | None]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.metrics.append((metrics, step))


@pytest.fixture
def make_logger():
    """Makes a logger of a user's own subclass of a class with the given name."""

    def make(name: str, **attributes: Any) -> Any:
        own = type("MyLogger", (type(name, (Logger,), {}),), {})()
        vars(own).update(attributes)
        return own

    return make


@pytest.fixture
def one_pass() -> SimpleNamespace:
    """Two pictures that no flip or swap of channels maps to themselves, numbers, a text and a step."""
    generator = np.random.default_rng(0)
    shown = Shown(
        images={
            "landscape/surface": generator.integers(0, 256, (5, 7, 3), dtype=np.uint8),
            "landscape/contour": generator.integers(90, 120, (4, 3, 3), dtype=np.uint8),
        },
        scalars={
            "landscape/relief": 1.5,
            "landscape/curvature": float("nan"),
            "landscape/worst": float("inf"),
        },
        landscape=LINE,
        text={"landscape/reading": "- train_loss *rises* [by] 10 %\n  at <b> & \\.\n- Nothing more."},
    )
    return SimpleNamespace(shown=shown, images=shown.images, scalars=shown.scalars, text=shown.text, step=12)
