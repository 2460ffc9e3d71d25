"""The time, the samples and the finest points of each landscape of a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..distributed.ranks import from_first
from ..interpolation.refinement import finest_level
from ..landscape import Landscape
from ..survey.budget import Account, Deadline, Grant, now
from ..survey.plan import Plan, choose_samples, least_seconds, may_be_slow
from . import compat
from .measure import Settings
from .pass_files import PassFiles
from .path_landscape import needed_seconds
from .run_state import RunState

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allowance:
    """The time of one landscape.

    Args:
        is_last: True for the last landscape.
        grant: by the budget; None for no limit.
        until: when ``max_time`` ends the training, on the clock of budgets; None if nothing does.
    """

    is_last: bool
    grant: Grant | None = None
    until: float | None = None

    @classmethod
    def of(
        cls,
        trainer: Trainer,
        account: Account | None,
        settings: Settings,
        step: int,
        last: bool,
        may_overrun: bool,
        later: float = 0.0,
    ) -> Allowance | None:
        """The time of a landscape that begins now, by the clock of rank 0; None where there is none for it.

        Every rank must call it equally often.

        Args:
            trainer: connects the ranks.
            account: of the run's time; None without a budget.
            settings: of the landscape.
            step: at which it is measured.
            last: True for the last landscape, which does not wait.
            may_overrun: True if ``max_time`` does not end it.
            later: seconds that the landscape of the path takes after the last one.
        """
        state, left = settings.run_state, None
        if trainer.state.fn == "fit" and not may_overrun:
            left, needed = from_first(trainer, (compat.time_left(trainer), state.seconds))
            if left is not None and left <= needed:
                log.info("no landscape of step %d: %.3g s of max_time are left for the training", step, max(left, 0.0))
                return None
        until = None if left is None else now() + left
        if account is None:
            return cls(last, until=until)
        films, needed = account.showing * len(state.drawn) + later, 0.0
        if settings.of_path:
            grant = from_first(trainer, account.grant_path(needed_seconds(settings), films))
            return None if grant is None else cls(last, grant, until)
        if (cost := state.cost) is not None:
            needed = least_seconds(cost.sample, cost.reading_per_sample, settings.grid.shape, cost.available)
        to_come = 1 if settings.saved is None else 2
        grant = from_first(trainer, account.grant(last, needed, to_come, films))
        if grant is None:
            log.info("the landscape of step %d is left out: the budget is saved for the next", step)
            return None
        if left is not None:
            grant = Grant(min(grant.measuring, left), min(grant.total, left))
        return cls(last, grant, until)

    def deadline(self) -> Deadline | None:
        """The end of the landscape's last picture, counted from now; None for no limit."""
        return None if self.grant is None else Deadline(self.grant.total, self.grant.pictures)


def planned(trainer: Trainer, files: PassFiles, settings: Settings, seconds: float) -> Settings:
    """The settings with the samples and the finest level of the run's plan, which is made if there is none.

    Every rank must call it equally often.

    Args:
        trainer: connects the ranks.
        files: of the pass, which may know the plan of an earlier run.
        settings: of the landscape.
        seconds: for measuring it.
    """
    state = settings.run_state
    if state.plan is None and (cost := state.cost) is not None:
        shape = settings.grid.shape
        samples = choose_samples(cost.sample, cost.reading_per_sample, seconds, shape, cost.available)
        samples = files.planned_before(settings) or samples
        may_read_less = may_be_slow(samples * cost.reading_per_sample, seconds)
        state.plan = from_first(trainer, Plan(samples, may_read_less=may_read_less))
    if state.plan is None:
        return settings
    return replace(settings, planned_samples=state.plan.samples, level=state.plan.level)


def keep_level(trainer: Trainer, landscape: Landscape, state: RunState) -> None:
    """Keep in the plan how fine the first landscape is; say where a later one is not as fine."""
    plan, level = state.plan, finest_level(landscape)
    if plan is None or level is None:
        return
    if plan.level is None:
        state.plan = replace(plan, level=level)
    elif level < plan.level:
        recipe = landscape.recipe
        compat.info(
            trainer,
            f"the landscape of step {recipe.step} has {2**level + 1} points an axis, those before it "
            f"{2**plan.level + 1}: budget={recipe.budget!r} left less time for it.",
        )
