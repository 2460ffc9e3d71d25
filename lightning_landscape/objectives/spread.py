"""The losses of single samples behind the loss of a batch: their spread tells its standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..isolation.rng import preserved, seed_streams
from .base import Batch, Objective, Observation
from .batch_samples import picked
from .loss_calls import Call
from .reductions import Reductions, Watched, before_reduction
from .single_losses import SingleLosses, is_by_weights, rows, without_graph

MOST_CALLS = 16  # of losses and means in a step: each is tried for its share in what is observed
CONSTANT = 1e-4  # of a value, by which what is not of the samples' losses may differ between two batches
ALONE = 1e-3  # of their deviation, by which the losses of some samples may change when the others do
ROUNDINGS = 4  # of a value, by which it may differ in any case
LATER = 2**18  # scores of a batch at most, that are kept until the losses of all batches are computed
Terms = dict[int, float]  # the factor of each call


class Spread(Objective):
    """An objective whose losses come with those of single samples, where the loss functions that it calls tell.

    A value v of a batch must be Σ cₖ rₖ + C, with the results rₖ of calls of losses of `torch.nn.functional` (one of
    them, a multiple, a sum), and a C that is the same in all batches (a penalty). Then v is, but for C, the mean of
    Σ cₖ ℓₖ over the samples, where ℓₖ are the losses before their mean: the loss is called for them once more, the
    model is not. This is proved on one batch: cₖ is how v changes with rₖ, and the losses of some samples must stay as
    they are when all others are exchanged. What does not prove to be so comes as it is. No value ever changes.

    Args:
        objective: what is asked.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.divisible = objective, objective.divisible
        self.start, self.finish, self.main = objective.start, objective.finish, objective.main  # type: ignore[method-assign]
        self._terms: dict[str, Terms] | None = None  # by metric; None before the proof
        self._functions: list[Callable[..., Tensor]] = []  # that are called, in order
        self._by_weights: set[int] = set()  # which calls take their mean so
        self._watch: Reductions | Watched = Reductions()
        self._may_wait = False  # whether so little is kept of a batch that it may be kept until the last

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective, and find once the loss calls that its values consist of."""
        self.objective.rehearse(module, batch)
        if self._terms is None:
            with preserved():
                self._terms = self._proved(module, batch)

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, with the losses of single samples where these are proved."""
        if not self._terms:
            return self.objective(module, batch)
        with self._watch as seen:
            observed = self.objective(module, batch)
        calls = seen.calls
        if [call[0] for call in calls] != self._functions:
            return observed
        if torch.is_grad_enabled():
            calls = [without_graph(call) for call in calls]
        for name, terms in self._terms.items():
            if name in observed:
                each = SingleLosses(batch.size, calls, terms, self._by_weights)
                observed[name] = observed[name]._replace(each=each if self._may_wait else each.tensor())
        return observed

    def _proved(self, module: nn.Module, batch: Batch) -> dict[str, Terms]:
        """The calls of each metric with their factors, for the metrics where the proof succeeds."""
        observed, calls = self._seen(module, batch)
        values = {n: _number(o.value) for n, o in observed.items() if o.reduce == "mean" and _is_number(o.value)}
        if not 0 < len(calls) <= MOST_CALLS or batch.size < 2 or not values:
            return {}
        self._functions = [function for function, _, _ in calls]
        self._by_weights = {k for k, call in enumerate(calls) if is_by_weights(call, batch.size)}
        half = -(-batch.size // 2)
        which = [*range(half), *range(batch.size - half)]
        try:
            twin = replace(batch, data=picked(batch.data, which, batch.size))
            others, twins = self._seen(module, twin)
            terms = self._terms_of(module, batch, values, calls)
        except Exception:  # noqa: BLE001  # a step may refuse what it was not made for, and a batch have no rows
            return {}
        if [function for function, _, _ in twins] != self._functions:
            return {}
        alone = {k for k in range(len(calls)) if _is_alone(calls[k], twins[k], batch.size, half)}

        def is_proved(name: str) -> bool:
            if not terms[name].keys() <= alone or not _is_number(others[name].value):
                return False
            v, w = values[name], _number(others[name].value)
            singles = [SingleLosses(batch.size, c, terms[name], self._by_weights).tensor() for c in (calls, twins)]
            rest = [value - _mean(own) for value, own in zip((v, w), singles, strict=True)]
            tolerance = max(CONSTANT, ROUNDINGS * _rounding(observed[name].value))
            return abs(rest[0] - rest[1]) <= tolerance * max(abs(v), abs(w))

        proved = {name: own for name, own in terms.items() if own and name in others and is_proved(name)}
        if proved:
            self._may_wait = max(map(_numbers, calls)) <= LATER
            self._watch = self._cheapest(module, batch, values)
        return proved

    def _terms_of(
        self, module: nn.Module, batch: Batch, values: dict[str, float], calls: Sequence[Call]
    ) -> dict[str, Terms]:
        """The factors by which each value changes with the result of each call.

        A value that equals the result of a call with a mean consists of that call alone.
        """
        means = [k for k, (_, arguments, result) in enumerate(calls) if arguments["reduction"] == "mean"]
        same = {name: [k for k in means if _number(calls[k][2]) == value] for name, value in values.items()}
        terms: dict[str, Terms] = {name: {k: 1.0 for k in found[:1]} for name, found in same.items()}
        others = {name: value for name, value in values.items() if not terms[name]}
        for k, (_, arguments, result) in enumerate(calls) if others else ():
            step = float(result.detach().abs().mean()) or 1.0
            changed, _ = self._seen(module, batch, k, step)
            for name, value in others.items():
                by = _number(changed[name].value) - value
                if abs(by) > ROUNDINGS * torch.finfo(torch.float32).eps * abs(value):
                    terms[name][k] = by / step * (batch.size if arguments["reduction"] == "sum" else 1)
        return terms

    def _seen(
        self, module: nn.Module, batch: Batch, changed: int = -1, by: float = 0.0
    ) -> tuple[dict[str, Observation], list[Call]]:
        """One call of the objective, from the same random streams; the result of one call of a loss may be changed."""
        seed_streams(0)
        self.objective.start()
        with _Changed(changed, by) as seen:
            return self.objective(module, batch), seen.calls

    def _cheapest(self, module: nn.Module, batch: Batch, values: dict[str, float]) -> Reductions | Watched:
        """The cheapest recorder that sees all these calls: `Watched` where that is enough, else `Reductions`."""
        few = Watched(dict.fromkeys(self._functions))
        seed_streams(0)
        self.objective.start()
        with few as seen:
            observed = self.objective(module, batch)
        same = all(_number(observed[name].value) == value for name, value in values.items())
        return few if same and [function for function, _, _ in seen.calls] == self._functions else Reductions()


class _Changed(Reductions):
    """Sees the calls of losses, and adds a number to the result of one of them."""

    def __init__(self, which: int, by: float) -> None:
        super().__init__()
        self.which, self.by = which, by

    def given(self, result: Tensor) -> Tensor:
        """See `Reductions`."""
        return result + self.by if len(self.calls) == self.which else result


def _is_alone(call: Call, twin: Call, size: int, half: int) -> bool:
    """True if the losses of the first samples stay the same when the other samples are exchanged."""
    pair = [rows(before_reduction(own), size) for own in (call, twin)]
    if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
        return False
    losses, others = (own.detach().sum(1) for own in pair)  # type: ignore[union-attr]
    off = (losses - others)[:half].abs().max()
    return bool(off <= ALONE * losses.std() + ROUNDINGS * _rounding(call[2]) * losses.abs().max())


def _numbers(call: Call) -> int:
    """The number of entries in a call's first argument; 0 if it is no tensor."""
    first = next(iter(call[1].values()))
    return first.numel() if isinstance(first, Tensor) else 0


def _rounding(value: Any) -> float:
    return torch.finfo(value.dtype).eps if isinstance(value, Tensor) and value.is_floating_point() else 0.0


def _is_number(value: Any) -> bool:
    return not isinstance(value, Tensor) or value.numel() == 1


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def _mean(singles: Tensor | None) -> float:
    return float("nan") if singles is None else float(singles.double().mean())


def without_spread(objective: Objective) -> Objective:
    """The objective itself, which does not tell the losses of single samples."""
    return objective.objective if isinstance(objective, Spread) else objective
