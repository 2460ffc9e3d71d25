"""The files, pictures and films of a run, in folders and loggers; what can't be shown is warned of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..landscape import Grid, Landscape
from ..loggers import log as log_to
from ..output import Look, Output, data_file, previous, put_out, put_out_films
from ..plots import PLOTS
from ..redraw import Drawn, redraw
from ..summary import about
from ..survey.budget import Account, Deadline, now
from . import compat
from .notices import Notices
from .pass_files import PassFiles
from .progress import Progress, progress, say
from .rank_points import keep
from .run_state import RunState

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Presenter:
    """Shows the landscapes of a run: each when it is measured, and all of them at the end.

    Args:
        trainer: whose loggers show them.
        look: of the pictures.
        tag: in the loggers.
        state: of the run; keeps the scale of all landscapes, and what was drawn.
        account: of the run's time; None for no limit.
        notices: of the run.
        has_films: whether a film of the first kind that shows the path shows how it grows. 30 frames of one kind take
            about as long as the pictures.
    """

    trainer: Trainer
    look: Look
    tag: str
    state: RunState
    account: Account | None
    notices: Notices
    has_films: bool = False

    def show(
        self,
        landscape: Landscape,
        step: int,
        files: PassFiles,
        display: Progress,
        deadline: Deadline | None,
        earlier: Mapping[int, Landscape | Path],
    ) -> None:
        """Write the files of a landscape, and show it in the Trainer's loggers.

        Args:
            landscape: that was measured, as far as it could be.
            step: in the loggers.
            files: of its pass.
            display: the progress of its pass.
            deadline: of its last picture; None for no limit.
            earlier: the landscapes of the run by step, with which it is compared.
        """
        began = now()
        if self.trainer.received_sigterm and not landscape.done.all():
            keep(self.trainer, landscape, files, self.notices)
            return  # there may be seconds left: no pictures
        self._tell_missing(landscape, step, display, deadline)
        if (deadline is not None or display.has_ended) and not landscape.done.any():
            return
        self._tell_no_tiles(landscape)
        if "path" in self.look.plots and landscape.trajectory is None:
            why = landscape.report.no_path or "no weights are recorded here"
            self.notices.remark(self.trainer, [f'There is no picture "path" of the training: {why}.'])
        written = files.begin()
        self._widen_scale(landscape, step)
        look = replace(self.look, scale=self.state.scale)
        if self.trainer.state.fn == "fit":
            self.state.drawn[step] = Drawn(files.root, files.folder, None if files.finished else look.scale)
        if deadline is not None:
            deadline.start()
        write, over = None if written is None else written.write, partial(_is_over, display, deadline)
        output = put_out(landscape, look, write, self.tag, over, previous(earlier, landscape), display)
        text = about(landscape, data_file(files.folder, landscape, look.formats))
        output.for_loggers.text[f"{self.tag}/recipe"] = text
        if self.has_films:
            kinds = [kind for kind in look.plots if PLOTS[kind].per == "metric" and PLOTS[kind].grows]
            film_look = replace(look, plots=kinds[:1])
            films = put_out_films(landscape, film_look, write, self.tag, over, display, frames=30)
            output.for_loggers.films.update(films)
        self._log(output, step)
        if unwritten := files.end(landscape, look.formats):
            names = ", ".join(name for name, _ in unwritten)
            self._fail(unwritten[0][1], f"{names} of the landscape of step {step} could not be written")
        if self.account is not None and not self.has_films:
            drawn = len(output.for_loggers.images)
            self.account.record_pictures(now() - began, drawn / max(drawn + len(output.left_out), 1))

    def redraw(self, landscapes: Mapping[int, Landscape | Path], grid: Grid) -> None:
        """Draw the landscapes of a training once more, on one scale and as films; say where these are.

        Args:
            landscapes: by step.
            grid: of them.
        """
        drawn, look = self.state.drawn, replace(self.look, scale=self.state.scale)
        landscapes = {step: landscape for step, landscape in landscapes.items() if step in drawn}
        deadline = None if self.account is None else Deadline(self.account.rest())
        with progress(self.trainer, grid, last=True, may_leave=False) as display:
            over = partial(_is_over, display, deadline)
            result = redraw(landscapes, drawn, look, self.trainer.loggers, self.tag, over, display)
        for what, failure in result.failures:
            self._fail(failure, f"{what} could not be drawn on the scale of all landscapes")
        if result.unwritten:
            name, failure = result.unwritten[0]
            further = f" and {len(result.unwritten) - 1} more files" if len(result.unwritten) > 1 else ""
            self._fail(failure, f"{name}{further} on the scale of all landscapes could not be written")
        if result.files:
            names = ", ".join(path.name for path in result.files)
            say(self.trainer, f"films of the {result.frames} landscapes in {result.files[0].parent}: {names}")
        if result.left_out:
            log.info("no time was left to draw the steps %s on the scale of all", ", ".join(map(str, result.left_out)))

    def _fail(self, error: Exception | str, what: str) -> None:
        self.notices.fail(self.trainer, error, what)

    def _tell_missing(self, landscape: Landscape, step: int, display: Progress, deadline: Deadline | None) -> None:
        """Say how many points are missing, and why."""
        missing = int((~landscape.done).sum())
        display.leave_points(missing)
        if display.has_ended:
            say(self.trainer, display.ended_line(step, int(landscape.done.sum())))
        elif missing:
            what = f"{missing} of {landscape.grid.size} points of the landscape of step {step} could not be measured"
            why = "the pass was stopped" if deadline is None else "the budget was spent"
            left = compat.time_left(self.trainer)
            why = "max_time is over" if left is not None and left <= 0 else why
            self._fail(landscape.report.failure or why, what)

    def _tell_no_tiles(self, landscape: Landscape) -> None:
        """Say why there are no tiles, where they failed; in train mode that may well be so."""
        error, what = landscape.report.no_tiles, "Single samples could not be measured, so there are no tiles"
        if error is None:
            return
        if landscape.recipe.mode == "train":
            compat.info(self.trainer, f"{what} ({error}). Give samples=0, or mode='eval'.")
        else:
            self._fail(error, what)

    def _log(self, output: Output, step: int) -> None:
        """Show the output in the loggers; say which pictures failed there or before, and which are left out."""
        for what, failure in output.failures:
            self._fail(failure, f"The picture {what} could not be drawn")
        for kind, failure in log_to(self.trainer.loggers, output.for_loggers, step).failed:
            self._fail(failure, f"The landscape of step {step} could not be shown in {kind}")
        if output.left_out:
            log.info(
                "no time was left for the pictures %s of step %d; lightning-landscape plot draws them from the file",
                ", ".join(output.left_out), step,
            )  # fmt: skip

    def _widen_scale(self, landscape: Landscape, step: int) -> None:
        """Make room for a landscape on the scale of the run, and say what has changed."""
        before = self.state.scale or self.look.scale
        assert before is not None
        self.state.scale = before.widened(landscape)
        if changes := self.state.scale.changes(before, landscape):
            count = len(changes) - 1
            further = f", and of {count} other metric{'s' * (count > 1)}" if count else ""
            say(self.trainer, f"the landscape of step {step} widens the scale of the run: {changes[0]}{further}")


def _is_over(display: Progress, deadline: Deadline | None) -> bool:
    """True if there is no time for another picture, or the user wants the drawing to end."""
    return display.must_end or (deadline is not None and deadline.before_step())
