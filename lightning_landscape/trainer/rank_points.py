"""The points that this rank measures in a pass, shown as they come and kept on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ..distributed.ranks import OtherRankError, failing_together, from_first
from ..landscape import Landscape
from ..survey import surface_file
from ..survey.budget import now
from ..survey.same_loss import tidy
from ..weights.sharding import is_sharded
from . import compat
from .allowance import Allowance, planned
from .measure import Settings, measuring, remarks
from .notices import Notices
from .pass_files import PassFiles
from .progress import Count, Progress
from .unchanged import TrainingMovedError, sealed
from .undisturbed import undisturbed

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

log = logging.getLogger(__name__)


class RankPoints:
    """The points of a pass that this rank measures. A pass that is stopped keeps those it has.

    Args:
        trainer: in the middle of its work.
        files: of the pass.
        progress: shows the pass.
        notices: of the run.

    Attributes:
        landscape: with the points so far; None before the centre is known.
    """

    def __init__(self, trainer: Trainer, files: PassFiles, progress: Progress, notices: Notices) -> None:
        self.trainer, self.files, self.progress, self.notices = trainer, files, progress, notices
        self.landscape: Landscape | None = None

    @property
    def has_any(self) -> bool:
        """True if a point is done."""
        return self.landscape is not None and bool(self.landscape.done.any())

    def measure(
        self, module: LightningModule, settings: Settings, allowance: Allowance, counters: compat.Counters | None
    ) -> Landscape:
        """The landscape that all ranks have measured; if one fails, all do, and keep what they have.

        Args:
            module: is measured.
            settings: of the pass.
            allowance: its time.
            counters: of the Trainer's loops at the last training step.
        """
        trainer, is_in_step = self.trainer, is_sharded(module)
        count, keeps = Count(1 if is_in_step else trainer.world_size), trainer.is_global_zero or not is_in_step
        with self._together():
            settings.run_state.keep_ranges(self.files.earlier_ranges(trainer, settings, module))
            settings = settings.run_state.in_them(settings)
            settings = replace(settings, is_last=allowance.is_last, until=allowance.until)
            with (
                sealed(trainer, module),
                undisturbed(trainer, counters if trainer.state.fn == "fit" else None),
                nullcontext() if settings.saved else compat.averaged(trainer, module) as averaging,
            ):
                if averaging:
                    settings = replace(settings, weights=f"averaged by {averaging}")
                saved, began, seconds = time.monotonic(), now(), None
                if allowance.grant is not None:
                    settings = planned(trainer, self.files, settings, allowance.grant.measuring)
                    seconds = from_first(trainer, allowance.grant.measuring - (now() - began))
                    self.progress.limit(seconds)
                arguments = settings, self._find, not self.notices.strict, seconds, self.progress
                with self._keeping(), measuring(trainer, module, *arguments) as landscapes:
                    for self.landscape in landscapes:
                        self.notices.remark(trainer, remarks(self.landscape))
                        self.progress.points(count(int(self.landscape.evaluated.sum())), settings.grid.size)
                        if keeps and time.monotonic() - saved > surface_file.SAVE_EVERY:
                            keep(trainer, self.landscape, self.files, self.notices)
                            saved = time.monotonic()
        assert self.landscape is not None
        tidy(self.landscape)
        return self.landscape

    @contextmanager
    def _together(self) -> Iterator[None]:
        """A context that fails on all ranks if it does on one.

        This one keeps what it has, unless its step has moved the training.
        """
        try:
            with failing_together(self.trainer):
                yield
        except TrainingMovedError:
            self.landscape = None  # no one knows what it was measured on
            raise
        except OtherRankError:
            if self.landscape is not None:
                self.files.keep(self.landscape)
            raise

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """A context that keeps the points of a pass that is stopped inside."""
        try:
            yield
        except BaseException:
            if self.landscape is not None and self.has_any:
                self.files.keep(self.landscape)
            raise

    def _find(self, landscape: Landscape) -> Landscape | None:
        """The points of a landscape that are on disk already; says what the user should know of them."""
        trainer, files = self.trainer, self.files
        earlier = files.find(trainer, landscape)
        for note in files.notes:
            compat.warn(trainer, note)
        if files.error is not None:
            self.notices.fail(trainer, files.error, f"There is no folder for the landscape in {files.root}")
        if files.finished:
            log.info("the landscape of %s is finished already, and is not measured again", files.folder)
        elif earlier is not None:
            points = int(earlier.evaluated.sum())
            log.info("%d of %d points of %s are there already", points, earlier.grid.size, files.folder)
        return earlier


def keep(trainer: Trainer, landscape: Landscape, files: PassFiles, notices: Notices) -> None:
    """Keep a landscape in progress on disk; what can't be written does not stop the measuring."""
    for _, error in files.keep(landscape)[:1]:
        notices.fail(trainer, error, f"The landscape in progress could not be saved in {files.folder}")
