"""The losses of single samples behind the loss of a batch; their spread gives its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..isolation.rng import preserved, seed_streams
from .base import Batch, Objective, ObjectiveWrapper, Observation
from .batch_samples import select_samples
from .loss_calls import Call, Function
from .reductions import Reductions, Watched, before_reduction
from .single_losses import SingleLosses, is_by_weights, rows, without_graph

Terms = dict[int, float]  # the factor of each call


@dataclass(frozen=True)
class SpreadSettings:
    """Settings of the proof that a value consists of losses of single samples.

    Args:
        calls: the most losses and means in a step; the share of each in the values is found by a trial.
        constant: the largest difference of the constant C between two batches, as a share of the value.
        independence: the largest change of a sample's loss when other samples change, in standard deviations.
        roundings: differences of so many rounding errors of a value do not count.
        numbers: the most scores of a batch that are kept until the losses of all batches are computed at once.
    """

    calls: int = 16
    constant: float = 1e-4
    independence: float = 1e-3
    roundings: float = 4
    numbers: int = 2**18


class Spread(ObjectiveWrapper):
    """An objective that adds the losses of single samples to its values, where it calls losses of torch.

    A value v of a batch must be Σ cₖ rₖ + C. The rₖ are results of losses of `torch.nn.functional`. C is the same in
    all batches, like a penalty. Then v − C is the mean over the samples of Σ cₖ ℓₖ. The ℓₖ are the losses before
    their mean, from one more call of each loss, without the model.

    A proof on one batch finds cₖ as the change of v with rₖ. The losses of some samples must stay the same when all
    other samples are exchanged. Values without a proof come without single losses. No value ever changes.

    Args:
        objective: the one that is measured.
        settings: of the proof.
    """

    def __init__(self, objective: Objective, settings: SpreadSettings = SpreadSettings()) -> None:
        super().__init__(objective)
        self.settings = settings
        self._terms: dict[str, Terms] | None = None  # by metric; None before the proof
        self._functions: list[Function] = []  # the functions that are called, in order
        self._by_weights: set[int] = set()  # the calls with a weighted mean
        self._watch: Reductions | Watched = Reductions()
        self._may_wait = False  # True if the scores of all batches may be kept until the last

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective, and find the loss calls behind its values once."""
        self.objective.rehearse(module, batch)
        if self._terms is None:
            with preserved():
                self._terms = self._proved(module, batch)

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, with the losses of single samples of the proved metrics."""
        if not self._terms:
            return self.objective(module, batch)
        with self._watch as seen:
            observed = self.objective(module, batch)
        calls = seen.calls
        if _functions_of(calls) != self._functions:
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
        if not 0 < len(calls) <= self.settings.calls or batch.size < 2 or not values:
            return {}
        self._functions = _functions_of(calls)
        self._by_weights = {k for k, call in enumerate(calls) if is_by_weights(call, batch.size)}
        half = -(-batch.size // 2)
        which = [*range(half), *range(batch.size - half)]
        try:
            twin = replace(batch, data=select_samples(batch.data, which, batch.size))
            other, twins = self._seen(module, twin)
            terms = self._terms_of(module, batch, values, calls)
        except Exception:  # noqa: BLE001  # a step may refuse such a batch, and a batch have no rows
            return {}
        if _functions_of(twins) != self._functions:
            return {}
        independent = {k for k in range(len(calls)) if self._is_independent(calls[k], twins[k], batch.size, half)}

        def is_proved(name: str) -> bool:
            if not terms[name].keys() <= independent or not _is_number(other[name].value):
                return False
            pair = [(values[name], calls), (_number(other[name].value), twins)]
            constants = [v - _mean(SingleLosses(batch.size, c, terms[name], self._by_weights)) for v, c in pair]
            tolerance = max(self.settings.constant, self.settings.roundings * _rounding(observed[name].value))
            return abs(constants[0] - constants[1]) <= tolerance * max(abs(v) for v, _ in pair)

        proved = {name: factors for name, factors in terms.items() if factors and name in other and is_proved(name)}
        if proved:
            self._may_wait = max(map(_count, calls)) <= self.settings.numbers
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
        composed = {name: value for name, value in values.items() if not terms[name]}
        for k, (_, arguments, result) in enumerate(calls) if composed else ():
            step = float(result.detach().abs().mean()) or 1.0
            changed, _ = self._seen(module, batch, k, step)
            for name, value in composed.items():
                by = _number(changed[name].value) - value
                if abs(by) > self.settings.roundings * torch.finfo(torch.float32).eps * abs(value):
                    terms[name][k] = by / step * (batch.size if arguments["reduction"] == "sum" else 1)
        return terms

    def _seen(
        self, module: nn.Module, batch: Batch, changed: int = -1, by: float = 0.0
    ) -> tuple[dict[str, Observation], list[Call]]:
        """The observations and loss calls of a batch; the result of one call is changed by a number."""
        return self._recorded(_Changed(changed, by), module, batch)

    def _recorded(
        self, recorder: Reductions | Watched, module: nn.Module, batch: Batch
    ) -> tuple[dict[str, Observation], list[Call]]:
        seed_streams(0)
        self.objective.start()
        with recorder as seen:
            return self.objective(module, batch), seen.calls

    def _is_independent(self, call: Call, twin: Call, size: int, half: int) -> bool:
        """True if the losses of the first half stay the same when the other samples are exchanged."""
        first, second = rows(before_reduction(call), size), rows(before_reduction(twin), size)
        if first is None or second is None or first.shape != second.shape:
            return False
        losses = first.detach().sum(1)
        off = (losses - second.detach().sum(1))[:half].abs().max()
        rounding = self.settings.roundings * _rounding(call[2]) * losses.abs().max()
        return bool(off <= self.settings.independence * losses.std() + rounding)

    def _cheapest(self, module: nn.Module, batch: Batch, values: dict[str, float]) -> Reductions | Watched:
        """The cheapest recorder of all these calls: `Watched` if it sees all of them, else `Reductions`."""
        watched = Watched(dict.fromkeys(self._functions))
        observed, calls = self._recorded(watched, module, batch)
        same = all(_number(observed[name].value) == value for name, value in values.items())
        return watched if same and _functions_of(calls) == self._functions else Reductions()


class _Changed(Reductions):
    """A recorder that adds the number `by` to the result of call `which`."""

    def __init__(self, which: int, by: float) -> None:
        super().__init__()
        self.which, self.by = which, by

    def replaced(self, result: Tensor) -> Tensor:
        """See `Reductions`."""
        return result + self.by if len(self.calls) == self.which else result


def _functions_of(calls: Sequence[Call]) -> list[Function]:
    return [function for function, _, _ in calls]


def _count(call: Call) -> int:
    """The number of entries in a call's first argument; 0 if it is no tensor."""
    first = next(iter(call[1].values()))
    return first.numel() if isinstance(first, Tensor) else 0


def _rounding(value: Tensor | float) -> float:
    return torch.finfo(value.dtype).eps if isinstance(value, Tensor) and value.is_floating_point() else 0.0


def _is_number(value: Tensor | float) -> bool:
    return not isinstance(value, Tensor) or value.numel() == 1


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def _mean(losses: SingleLosses) -> float:
    values = losses.tensor()
    return float("nan") if values is None else float(values.double().mean())


def without_spread(objective: Objective) -> Objective:
    """The objective itself, without the losses of single samples."""
    return objective.objective if isinstance(objective, Spread) else objective
