"""Libraries that write what they are told in threads or processes of their own: their functions do nothing."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

from .hooks import Hook, here

LOGS = ("log*", "set_*", "add_*", "append", "extend", "track", "update", "upload*", "assign", "report_*", "save")
# Module, class in it (None: its functions), and patterns of the names of what writes.
WRITERS: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    ("torch.utils.tensorboard.writer", "SummaryWriter", ("_get_file_writer", "flush", "close")),
    ("tensorboardX.writer", "SummaryWriter", ("_get_file_writer", "_get_comet_logger", "flush", "close")),
    ("tensorboard.summary.writer.event_file_writer", "EventFileWriter", ("add_event", "flush", "close")),
    ("wandb", None, ("log*", "save", "alert", "finish", "define_metric", "watch", "unwatch")),
    ("wandb.sdk.wandb_run", "Run", ("log*", "save", "alert", "finish", "define_metric", "watch", "unwatch")),
    ("wandb.sdk.wandb_summary", "SummaryDict", ("update", "__setitem__")),
    ("mlflow", None, ("log_*", "set_*", "delete_*", "start_run", "end_run", "register_model")),
    ("mlflow.tracking.client", "MlflowClient", ("log_*", "set_*", "delete_*", "create_*", "update_*")),
    ("comet_ml", "CometExperiment", LOGS),
    ("comet_ml.experiment", "BaseExperiment", LOGS),
    ("neptune.handler", "Handler", LOGS),
    ("neptune.metadata_containers.metadata_container", "MetadataContainer", (*LOGS, "__setitem__")),
    ("aim.sdk.run", "Run", (*LOGS, "__setitem__")),
    ("clearml.logger", "Logger", LOGS),
    ("swanlab", None, ("log*",)),
    ("dvclive.live", "Live", (*LOGS, "next_step", "make_*")),
    ("loguru._logger", "Logger", ("_log",)),
)


class Nothing:
    """The result of a silenced writer: each attribute, item and call of it gives the same object again.

    >>> with Nothing().start(1)["run"] as run:
    ...     bool(run), list(run.info), str(run.name)
    (False, [], '')
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Nothing:
        return self

    def __getitem__(self, key: Any) -> Nothing:
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *raised: object) -> None:
        """Raise what was raised."""

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __str__(self) -> str:
        return ""

    __fspath__ = __str__


NOTHING = Nothing()


def _nothing(original: Any, *args: Any, **kwargs: Any) -> Nothing:
    return NOTHING


_shown: set[tuple[Any, ...]] = set()


def shown_by() -> Any:
    """The function that shows a warning now; code that catches warnings puts another one there."""
    return vars(warnings).get("_showwarnmsg_impl")


def _once(original: Any, message: Any) -> None:
    """Show the first warning of each line of code; those that the code itself catches, all."""
    if shown_by() is not here.shows:
        return original(message)
    place = (message.category, message.filename, message.lineno)
    if place not in _shown:
        _shown.add(place)
        original(message)


def writer_classes() -> Iterator[type]:
    """The classes among them that are loaded, with all that are derived from them."""
    waiting = [getattr(sys.modules.get(module), kind, None) for module, kind, _ in WRITERS if kind is not None]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type):
            yield kind
            waiting += kind.__subclasses__()


_known: tuple[list[ModuleType] | None, list[Hook]] = (None, [])


def hooks() -> list[Hook]:
    """The hooks of logging and warnings, and those of the libraries in `WRITERS` that are loaded."""
    global _known
    loaded = [sys.modules[name] for name, _, _ in WRITERS if name in sys.modules]
    if loaded != _known[0]:
        found = [Hook(logging.Logger, "callHandlers", _nothing), Hook(warnings, "_showwarnmsg", _once)]
        for module, kind, patterns in WRITERS:
            owner = sys.modules.get(module) if kind is None else getattr(sys.modules.get(module), kind, None)
            for name in vars(owner) if owner is not None else ():
                value = getattr(owner, name)
                written = any(fnmatchcase(name, pattern) for pattern in patterns)
                if written and callable(value) and not isinstance(value, type):
                    found.append(Hook(owner, name, _nothing))
        _known = (loaded, found)
    return _known[1]
