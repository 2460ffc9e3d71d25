"""Cross-entropy of scores that are affine in the point: all points of a grid from k + 1 arrays of scores.

A sample has the scores z(c) = z₀ + Σ cᵢ zᵢ. Its target t is one-hot, smoothed, weighted, or given as probabilities,
with Σⱼ tⱼ = A. The loss −Σⱼ tⱼ log softmax(z)ⱼ is

    ℓ(c) = A log Σⱼ exp mⱼ(c),    mⱼ(c) = zⱼ(c) − Σᵢ tᵢ zᵢ(c) / A,

and the margins m are affine in c, too. On a product of points (α, β) the exponential is a product,

    exp m(α, β) = exp(m₀ + α m₁) · exp(β m₂),

so that the sums over the classes of all (α, β) are one matrix product.

No shift is needed: the target's score is a mean of scores, so the sum is at least 1. Where no factor exceeds
exp(`ceiling`), nothing overflows. A term that underflows was less than the rounding of that 1. Other samples are
summed with the greatest margin taken out, as `torch.logsumexp` does.

Letters: n samples, C classes, G batches, k directions, P points, of a product A × B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

CACHED_NUMBERS = 2**19  # in the working array of a chunk on the CPU: they should stay in its cache


@dataclass(frozen=True, eq=False)
class Product:
    """Points whose leading coordinates and last coordinate are free of each other.

    Args:
        outer: the leading coordinates, shape (A, k − 1).
        inner: the last coordinate, ascending, shape (B,).
    """

    outer: Tensor
    inner: Tensor

    def points(self) -> Tensor:
        """All of them, shape (A · B, k), the last coordinate fastest."""
        outer = self.outer.repeat_interleave(len(self.inner), dim=0)
        return torch.cat([outer, self.inner.repeat(len(self.outer))[:, None]], dim=1)


@dataclass(frozen=True, eq=False)
class Margins:
    """The margins of all samples in one call of the loss, or in calls on G batches of one size.

    Args:
        parts: m₀, …, m_k, shape (k + 1, n, C).
        weights: A of each sample, shape (n,); None where all are 1.
        divisor: of the sum of the losses of a batch.
        batches: G.
    """

    parts: Tensor
    weights: Tensor | None
    divisor: float
    batches: int = 1

    def totals(self, points: Product | Tensor) -> Tensor:
        """The sum of each batch's losses over the divisor at every point, float64, shape (G, P)."""
        count, device = self.parts.shape[1], self.parts.device
        result = torch.zeros(self.batches, _count(points), dtype=torch.float64, device=device)
        owners = torch.arange(count, device=device) // max(1, count // self.batches)
        for chunk in _chunks(self.parts, points):
            sums, batches = chunk.sums, owners[chunk.rows]
            if self.weights is None and not chunk.is_log:
                sums, batches = _folded(sums, batches, chunk.max_factors)
            losses = sums if chunk.is_log else sums.log_()
            if self.weights is not None:
                losses = losses * self.weights[chunk.rows, None]
            numbers, sizes = batches.unique_consecutive(return_counts=True)
            for number, of_batch in zip(numbers.tolist(), losses.split(sizes.tolist()), strict=True):
                result[number] += of_batch.sum(0, dtype=torch.float64)
        return result / self.divisor

    def moments(self, points: Product | Tensor) -> tuple[Tensor, Tensor]:
        """The sums of the losses and of their squares over the samples, float64, each of shape (P,)."""
        first = torch.zeros(_count(points), dtype=torch.float64, device=self.parts.device)
        second = torch.zeros_like(first)
        for chunk in _chunks(self.parts, points):
            losses = chunk.logs()
            if self.weights is not None:
                losses = losses * self.weights[chunk.rows, None]
            first += _summed(losses)
            second += _summed(losses.square_())
        return first, second

    def each(self, points: Product | Tensor) -> Tensor:
        """The loss of every sample at every point, shape (n, P)."""
        result = self.parts.new_empty(self.parts.shape[1], _count(points))
        for chunk in _chunks(self.parts, points):
            result[chunk.rows] = chunk.logs()
        return result if self.weights is None else result * self.weights[:, None]


def margins(parts: Tensor, arguments: dict[str, Any], batches: int = 1) -> Margins:
    """The margins of a call of `torch.nn.functional.cross_entropy`.

    Args:
        parts: z₀, …, z_k, each in the shape of the call's input.
        arguments: of the call, by name, defaults too.
        batches: G, if these are the inputs and targets of several calls without weights or ignored samples.

    Raises:
        ValueError: for arguments that this form does not know.

    >>> z = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])  # z(c) = (2, c)
    >>> call = {"target": torch.tensor([0]), "weight": None, "ignore_index": -100, "label_smoothing": 0.0}
    >>> each = margins(z, {**call, "reduction": "sum"})
    >>> each.totals(torch.tensor([[0.0], [2.0]]))  # log(1 + e⁻²), log 2
    tensor([[0.1269, 0.6931]], dtype=torch.float64)
    """
    if arguments.get("size_average") is not None or arguments.get("reduce") is not None:
        raise ValueError("size_average and reduce are deprecated arguments")
    target, weight, smoothing = arguments["target"], arguments["weight"], arguments["label_smoothing"]
    rows = class_last(parts)
    classes = rows.shape[-1]
    importance = rows.new_ones(classes) if weight is None else weight.detach().to(rows.dtype)
    if target.is_floating_point():
        targets = class_last(target.detach()[None])[0].to(rows.dtype) * importance
        total = float(len(targets))
    else:
        labels = target.detach().reshape(-1)
        counts = labels != arguments["ignore_index"]
        if not bool(counts.all()):
            if arguments["reduction"] == "none":
                raise ValueError("ignored samples in losses that are not reduced")
            labels, rows = labels[counts], rows[:, counts]
        targets = torch.nn.functional.one_hot(labels, classes).to(rows.dtype) * importance
        total = float(importance[labels].sum(dtype=torch.float64))
    divisor = total / batches if arguments["reduction"] == "mean" else 1.0
    if smoothing:
        targets = (1 - smoothing) * targets + smoothing / classes * importance
    if bool((targets < 0).any()):
        raise ValueError("a weight is negative")
    sums = targets.sum(dim=1)
    centred = rows - torch.einsum("nc,knc->kn", targets / sums.clamp(min=1e-30)[:, None], rows)[:, :, None]
    # Without a target the sum may be less than 1 and underflow, and 0 times its logarithm is no number.
    centred = torch.where((sums > 0)[:, None], centred, 0.0) if bool((sums <= 0).any()) else centred
    return Margins(centred, None if bool((sums == 1).all()) else sums, divisor, batches)


def class_last(scores: Tensor) -> Tensor:
    """One row a sample or pixel, shape (m, n, C), of scores (m, B, C, d₁, …) or (m, C)."""
    if scores.ndim == 2:
        return scores[:, None]
    return scores.movedim(2, -1).flatten(1, -2)


def correct(parts: Tensor, labels: Tensor, points: Product | Tensor) -> Tensor:
    """The number of samples with their greatest score at their label, at every point, float64, shape (P,).

    Along the last coordinate β every margin is a line. So the points where all other classes are lower are an
    interval. Its ends take n · A · C divisions, not n · A · B · C comparisons. Of equal scores the first counts, as in
    `torch.argmax`.

    Args:
        parts: z₀, …, z_k, shape (k + 1, n, C).
        labels: shape (n,).
        points: a product, or points of shape (P, k).

    >>> z = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # z(c) = (1, c)
    >>> correct(z, torch.tensor([0]), Product(torch.zeros(1, 0), torch.tensor([-1.0, 0.5, 3.0])))
    tensor([1., 1., 0.], dtype=torch.float64)
    """
    result = torch.zeros(_count(points), dtype=torch.float64, device=parts.device)
    count, classes = parts.shape[1:]
    outside = (labels < 0) | (labels >= classes)
    if isinstance(points, Tensor):
        for rows in torch.arange(count, device=parts.device).split(_rows(parts, len(points) * classes)):
            hits = _scores(parts[:, rows], points).argmax(1) == labels[rows, None]
            result += hits.sum(0, dtype=torch.float64)
        return result
    places, inner = len(points.outer), points.inner
    class_numbers = torch.arange(classes, device=parts.device)
    edges = len(inner) + 1
    steps = torch.zeros(places * edges, dtype=torch.float64, device=parts.device)
    base = torch.arange(places, device=parts.device) * edges
    labels = labels.masked_fill(outside, 0)
    relative = parts - parts.gather(2, labels.expand(len(parts), -1)[:, :, None])
    slope, flat = relative[-1], relative[-1] == 0
    ends = -relative[:-1] / slope  # where a margin is 0: again affine, in the other coordinates
    endless = torch.zeros_like(ends)
    endless[0] = math.inf
    upper, lower = torch.where(slope > 0, ends, endless), torch.where(slope < 0, ends, -endless)
    for rows in torch.arange(count, device=parts.device).split(_rows(parts, places * classes)):
        high = _affine(upper[:, rows], points.outer).amin(2)
        low = _affine(lower[:, rows], points.outer).amax(2)
        if int(flat[rows].sum()) > len(rows):  # other classes than the label itself
            offset = _affine(relative[:-1, rows], points.outer)
            wins = (offset > 0) | ((offset == 0) & (class_numbers < labels[rows, None, None]))
            low = low.masked_fill((flat[rows, None] & wins).any(2), math.inf)
        low = low.masked_fill(outside[rows, None], math.inf)
        first = torch.searchsorted(inner, low)
        last = torch.searchsorted(inner, high, right=True).clamp_(min=first)
        steps += torch.bincount((first + base).reshape(-1), minlength=len(steps))
        steps -= torch.bincount((last + base).reshape(-1), minlength=len(steps))
    return steps.reshape(places, edges).cumsum(1)[:, :-1].reshape(-1)


def ceiling(dtype: torch.dtype) -> float:
    """The greatest logarithm of a factor: 40 in float32, where e⁸⁰ still leaves room for a sum over classes.

    A term is lost where its first factor underflows, below e⁻⁸⁷: times e⁴⁰ that is nothing beside 1.
    """
    return math.log(torch.finfo(dtype).max) * 0.45


class _Chunk(NamedTuple):
    """The sums over the classes for some samples at all points.

    Args:
        rows: the numbers of the samples, shape (rows,).
        sums: Σⱼ exp mⱼ at every point, shape (rows, P).
        max_factors: the number of these sums that may be multiplied before a number overflows.
        is_log: True if the sums are logarithms already.
    """

    rows: Tensor | slice
    sums: Tensor
    max_factors: float = 1.0
    is_log: bool = True

    def logs(self) -> Tensor:
        """The logarithms of the sums, which are lost."""
        return self.sums if self.is_log else self.sums.log_()


def _chunks(parts: Tensor, points: Product | Tensor) -> Iterator[_Chunk]:
    """Yield the sums of all samples, a chunk at a time."""
    count, classes = parts.shape[1:]
    unsafe = torch.arange(count, device=parts.device)
    grid = points.points() if isinstance(points, Product) else points
    if isinstance(points, Product):
        bounds = _bounds(parts[:-1], points.outer), _bounds(parts[-1:], points.inner[:, None], bare=True)
        safe = torch.maximum(*bounds) <= ceiling(parts.dtype)
        unsafe = torch.nonzero(~safe)[:, 0]
        size = _rows(parts, max(_count(points), (len(points.outer) + len(points.inner)) * classes))
        tops = (bounds[0] + bounds[1]).clamp(min=0) + math.log(classes)
        chosen = torch.nonzero(safe)[:, 0] if len(unsafe) else None
        safe_parts = parts
        if chosen is not None:
            safe_parts, tops = parts[:, chosen], tops[chosen]
        highest = torch.stack([top.max() for top in tops.split(size)]).tolist() if len(tops) else []
        working = parts.new_empty(min(size, len(tops)), len(points.outer), len(points.inner))
        for i, top in enumerate(highest):
            rows = slice(i * size, (i + 1) * size)
            piece = safe_parts[:, rows]
            first = _affine(piece[:-1], points.outer).exp_()
            second = (piece[-1][:, :, None] * points.inner).exp_()
            max_factors = math.log(torch.finfo(parts.dtype).max) / top
            sums = torch.bmm(first, second, out=working[: len(first)])  # new memory would take longer than the product
            yield _Chunk(rows if chosen is None else chosen[rows], sums.flatten(1), max_factors, is_log=False)
    for members in unsafe.split(_rows(parts, len(grid) * classes)):
        yield _Chunk(members, torch.logsumexp(_scores(parts[:, members], grid), dim=1))


def _affine(parts: Tensor, points: Tensor) -> Tensor:
    """m₀ + Σ cᵢ mᵢ, shape (n, P, C)."""
    result = parts[0][:, None].repeat(1, len(points), 1) if len(parts) == 1 else parts[0][:, None]
    for coordinates, part in zip(points.T, parts[1:], strict=True):
        result = torch.addcmul(result, coordinates[:, None], part[:, None])
    return result


def _scores(parts: Tensor, points: Tensor) -> Tensor:
    """z₀ + Σ cᵢ zᵢ with the points last, shape (n, C, P)."""
    result = parts[0][:, :, None].expand(-1, -1, len(points))
    for coordinates, part in zip(points.T, parts[1:], strict=True):
        result = torch.addcmul(result, part[:, :, None], coordinates)
    return result


def _bounds(parts: Tensor, points: Tensor, bare: bool = False) -> Tensor:
    """An upper bound of each sample's greatest margin over all points, shape (n,)."""
    result, moving = (torch.zeros_like(parts[0]), parts) if bare else (parts[0], parts[1:])
    for coordinates, part in zip(points.T, moving, strict=True):
        result = result + torch.maximum(part * coordinates.min(), part * coordinates.max())
    return result.amax(1)


def _folded(sums: Tensor, owners: Tensor, max_factors: float) -> tuple[Tensor, Tensor]:
    """The products of up to 2³ sums each, where they fit into a number: fewer logarithms of the same total.

    Args:
        sums: shape (rows, P).
        owners: the batch of each row, shape (rows,); only rows of one batch are multiplied.
        max_factors: as in `_Chunk`.
    """
    for factors in (2, 4, 8):
        if factors > max_factors or len(sums) % 2 or not torch.equal(owners[::2], owners[1::2]):
            break
        sums, owners = sums[::2].mul_(sums[1::2]), owners[::2]
    return sums, owners


def _summed(values: Tensor) -> Tensor:
    """The sums over the rows in float64; of 2³ at a time in their own type, which is four times as fast."""
    for _ in range(3):
        half = len(values) // 2
        if half == 0 or len(values) % 2:
            break
        values = values[:half] + values[half:]
    return values.sum(0, dtype=torch.float64)


def _rows(parts: Tensor, numbers: int) -> int:
    """The number of samples in a chunk, if each sample takes `numbers` numbers."""
    return max(8, CACHED_NUMBERS * (1 if parts.device.type == "cpu" else 64) // max(1, numbers) // 8 * 8)


def _count(points: Product | Tensor) -> int:
    return len(points) if isinstance(points, Tensor) else len(points.outer) * len(points.inner)
