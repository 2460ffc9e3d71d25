"""Batches that do not fit into the memory. Expected values: the naive loop, which has memory enough."""

import copy

import numpy as np
import pytest
import torch

from lightning_landscape.evaluators import Sequential
from lightning_landscape.evaluators.out_of_memory import halves
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction
from lightning_landscape.objectives.batch_samples import rows


class Small:
    """A device that holds `most` samples at a time, and counts what it was asked for."""

    def __init__(self, function, most, message="CUDA out of memory. Tried to allocate 2 GiB.", error=None):
        self.function, self.most, self.message, self.sizes = function, most, message, []
        self.error = error or torch.cuda.OutOfMemoryError

    def __call__(self, module, data):
        self.sizes.append(len(data[1]))
        if len(data[1]) > self.most:
            raise self.error(self.message)
        return self.function(module, data)


def measured(function, net, plane, points, batches):
    evaluator = Sequential(copy.deepcopy(net).eval())
    return evaluator, list(evaluator(LossFunction(function), plane, points, batches))


@pytest.mark.parametrize("most", [4, 3, 2])
def test_halves_give_the_same_surface(most, mean_cross_entropy, net, plane, points, batches, losses, dtype):
    small = Small(mean_cross_entropy, most)
    evaluator, got = measured(small, net, plane, points, batches)
    expected = losses.mean(axis=1)
    np.testing.assert_allclose(
        [row["loss"].value for row in got], expected, rtol={torch.float64: 1e-12, torch.float32: 1e-6}[dtype]
    )
    assert evaluator.parts == {4: 8, 3: 8, 2: 14}[most]
    assert small.sizes.count(5) == 2, "once found out in the rehearsal and once at the first point, not at all of them"


def test_it_may_happen_in_the_middle(mean_cross_entropy, net, plane, points, batches, losses):
    calls = []

    def crowded(module, data):
        calls.append(len(data[1]))
        if len(calls) > 25 and len(data[1]) > 3:
            raise torch.cuda.OutOfMemoryError("another process has come")
        return mean_cross_entropy(module, data)

    _, got = measured(crowded, net, plane, points, batches)
    np.testing.assert_allclose([row["loss"].value for row in got], losses.mean(axis=1), rtol=1e-6)


def test_what_is_no_mean_over_samples_is_refused(mean_cross_entropy, net, plane, points, batches):
    small = Small(lambda module, data: mean_cross_entropy(module, data).sqrt(), 4)
    with pytest.raises(CannotMeasureError, match=r"batch of 5 samples does not fit .* 'loss' of a batch is no mean"):
        measured(small, net, plane, points, batches)


def test_one_sample_at_a_time_cannot_be_proved(mean_cross_entropy, net, plane, points, batches):
    with pytest.raises(CannotMeasureError, match="only single samples fit"):
        measured(Small(mean_cross_entropy, 1), net, plane, points, batches)


def test_no_memory_at_all(mean_cross_entropy, net, plane, points, batches):
    with pytest.raises(torch.cuda.OutOfMemoryError):  # in the rehearsal
        measured(Small(mean_cross_entropy, 0), net, plane, points, batches)


def test_other_errors_are_left_alone(mean_cross_entropy, net, plane, points, batches):
    small = Small(mean_cross_entropy, 4, "index out of range", IndexError)
    with pytest.raises(IndexError, match="index out of range"):
        measured(small, net, plane, points, batches)
    assert small.sizes == [5]


def test_apples_message(mean_cross_entropy, net, plane, points, batches):
    small = Small(mean_cross_entropy, 3, "MPS backend out of memory (MPS allocated: 17 GB)", RuntimeError)
    assert measured(small, net, plane, points[:1], batches)[0].parts == 8


def test_the_halves_of_a_batch():
    x = torch.arange(10).reshape(5, 2)
    first, second = halves(Batch({"x": x, "name": list("abcde"), "scale": 2}, 5, index=7, loader=1, log_weight=10))
    assert first.data["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert second.data["name"] == ["d", "e"]
    assert (first.size, second.size, first.log_weight, second.log_weight) == (3, 2, 6, 4)
    assert (first.index, second.index, second.loader, second.data["scale"]) == (7, 7, 1, 2)


def test_lists_of_samples_and_lists_of_tensors():
    pictures = [torch.zeros(3, n, n) for n in (4, 5, 6)]
    assert [p.shape[1] for p in rows(pictures, 1, 3, 3)] == [5, 6] or rows(pictures, 1, 3, 3)[0].shape == (2, 4, 4)
    pair = [torch.arange(2), torch.arange(2)]  # inputs and targets of a batch of two
    assert [t.tolist() for t in rows(pair, 1, 2, 2)] == [[1], [1]]
