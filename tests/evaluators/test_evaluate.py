"""evaluate(): the door for a plain nn.Module, which leaves everything as it was."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.evaluators import evaluate, mean_and_error
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane


def test_it_gives_an_array_a_metric(net, plane, points, batches, mean_cross_entropy, losses, dtype):
    def objective(module, data):
        loss = mean_cross_entropy(module, data)
        return {"loss": loss, "double": 2 * loss}

    result = evaluate(objective, net, plane, points, batches)
    assert list(result) == ["loss", "double"]
    for name, factor in [("loss", 1), ("double", 2)]:
        assert result[name].dtype == np.float64
        rtol = 1e-12 if dtype == torch.float64 else 1e-6
        np.testing.assert_allclose(result[name], factor * losses.mean(axis=1), rtol=rtol)


def test_the_module_is_measured_in_eval_mode(net, plane, points, batches, mean_cross_entropy):
    net.train()  # batch statistics and dropout would show
    in_training = evaluate(mean_cross_entropy, net, plane, points, batches)["loss"]
    np.testing.assert_array_equal(in_training, evaluate(mean_cross_entropy, net.eval(), plane, points, batches)["loss"])


def test_the_module_is_not_touched(net, plane, points, batches, mean_cross_entropy):
    net.train()
    net.norm.eval()
    net.conv.requires_grad_(False)
    mean_cross_entropy(net, batches[0].data).backward()
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    bits = {n: t.detach().clone() for n, t in tensors.items()}
    gradients = {n: None if t.grad is None else t.grad.clone() for n, t in tensors.items()}
    versions = {n: t._version for n, t in tensors.items()}
    needs = {n: t.requires_grad for n, t in tensors.items()}
    modes = {n: m.training for n, m in net.named_modules()}

    evaluate(mean_cross_entropy, net, plane, points, batches)

    now = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    assert all(now[n] is t for n, t in tensors.items())
    assert all(torch.equal(now[n], t) for n, t in bits.items())
    assert versions == {n: t._version for n, t in now.items()}
    assert needs == {n: t.requires_grad for n, t in now.items()}
    assert modes == {n: m.training for n, m in net.named_modules()}
    for name, gradient in gradients.items():
        assert (now[name].grad is None) if gradient is None else torch.equal(now[name].grad, gradient)


def draws(module, data):
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    return module.conv.weight.sum()


def test_the_random_streams_are_untouched(net, plane, points, batches, streams):
    before = streams()
    evaluate(draws, net, plane, points, batches)
    assert streams() == before


def test_the_random_streams_are_untouched_after_an_error(net, plane, points, batches, streams):
    def fails(module, data):
        draws(module, data)
        raise RuntimeError("in the user's code")

    before = streams()
    with pytest.raises(RuntimeError, match="in the user's code"):
        evaluate(fails, net, plane, points, batches)
    assert streams() == before
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_the_seed_is_that_of_the_shared_random_numbers(net, plane, points, batches):
    def dropped(module, data):
        return torch.nn.functional.dropout(torch.ones(100), 0.5, training=True).sum()

    first, again, other = (evaluate(dropped, net, plane, points, batches, seed=s)["loss"] for s in (1, 1, 2))
    assert len(set(first)) == 1
    np.testing.assert_array_equal(first, again)
    assert first[0] != other[0]


def test_a_metric_missing_at_some_points_is_nan_there(net, plane, batches):
    def sometimes(module, data):
        weight = module.conv.weight.sum() * 0
        return {"loss": weight, **({"rare": 1.0} if module.back.weight[0, 0] > 0 else {})}

    plane.origin["back.weight"].zero_()
    plane.directions[0]["back.weight"].fill_(1)
    result = evaluate(sometimes, net, plane, np.array([[-1.0, 0], [1, 0], [0, 0], [2, 0]]), batches)
    np.testing.assert_array_equal(result["rare"], [np.nan, 1, np.nan, 1])


def test_an_objective_is_taken_as_it_is(net, plane, points, batches, mean_cross_entropy):
    named = evaluate(LossFunction(mean_cross_entropy, name="val_loss"), net, plane, points, batches)
    plain = evaluate(mean_cross_entropy, net, plane, points, batches)
    np.testing.assert_array_equal(named["val_loss"], plain["loss"])


def test_a_compiled_module_is_the_module(net, plane, points, batches, mean_cross_entropy):
    """The names that torch.compile gives, and a copy that evaluates itself and not the original."""
    compiled = torch.compile(net, backend="eager")
    got = evaluate(mean_cross_entropy, compiled, plane, points[:3], batches)["loss"]
    np.testing.assert_allclose(got, evaluate(mean_cross_entropy, net, plane, points[:3], batches)["loss"], rtol=1e-6)
    assert np.ptp(got) > 0.01


def test_it_works_inside_the_callers_inference_mode(net, plane, points, batches, mean_cross_entropy):
    with torch.inference_mode():
        inside = evaluate(mean_cross_entropy, net, plane, points, batches)["loss"]
    np.testing.assert_array_equal(inside, evaluate(mean_cross_entropy, net, plane, points, batches)["loss"])


@pytest.mark.parametrize("points", [np.zeros((2, 1)), np.zeros((2, 3)), np.zeros(2)])
def test_points_of_another_shape_are_refused(points, net, plane, batches, mean_cross_entropy):
    with pytest.raises(ValueError, match=r"points.*\(n, 2\)"):
        evaluate(mean_cross_entropy, net, plane, points, batches)


def test_no_batches_are_refused(net, plane, points, mean_cross_entropy):
    with pytest.raises(ValueError, match="batch"):
        evaluate(mean_cross_entropy, net, plane, points, [])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_mean_and_its_error_of_equal_weights(count, student):
    values = np.random.default_rng(count).normal(size=count)
    mean, error = mean_and_error(values, np.full(count, 3.0))
    assert mean == pytest.approx(values.sum() / count)
    if count == 1:
        assert np.isnan(error)
    else:
        assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(count) * student(count))


def test_the_error_of_uneven_batches_covers_the_truth(student):
    """Its square is the variance of the mean over repetitions: batches of 8, 8, 8 and 2 of noise of variance 1."""
    rng = np.random.default_rng(0)
    sizes = np.array([8, 8, 8, 2])
    noise = rng.normal(size=(4000, 4)) / np.sqrt(sizes)
    errors = np.array([mean_and_error(row, sizes.astype(float))[1] for row in noise])
    assert ((errors / student(4)) ** 2).mean() == pytest.approx(1 / 26, rel=5 * np.sqrt(2 / 3 / 4000))


def test_the_origin_alone_needs_no_directions_length(net, batches, mean_cross_entropy):
    origin = {n: p.detach() for n, p in net.named_parameters()}
    plane = Plane(origin, ({n: torch.zeros_like(t) for n, t in origin.items()},))
    result = evaluate(mean_cross_entropy, net, plane, np.array([[0.0], [3.0]]), batches)["loss"]
    with torch.no_grad():
        expected = [mean_cross_entropy(net.eval(), b.data).item() * b.size for b in batches]
    np.testing.assert_allclose(result, sum(expected) / 17, rtol=1e-6)


def test_one_batch_of_one_sample_is_its_own_mean(net, plane, points, mean_cross_entropy, batches, losses, dtype):
    first = Batch((batches[0].data[0][:1], batches[0].data[1][:1]), 1)
    result = evaluate(mean_cross_entropy, net, plane, points, [first])["loss"]
    np.testing.assert_allclose(result, losses[:, 0], rtol=1e-12 if dtype == torch.float64 else 1e-5)


def test_a_regulariser_over_the_trained_parameters_is_part_of_the_loss():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)).double()
    origin = {n: p.detach().clone() for n, p in net.named_parameters() if p.requires_grad}
    plane = Plane(origin, ({n: torch.ones_like(t) for n, t in origin.items()},))

    def penalty(module, data):
        return sum(p.square().sum() for p in module.parameters() if p.requires_grad)

    got = evaluate(penalty, net, plane, np.array([[0.0], [2.0]]), [Batch(None, 1)])["loss"]
    expected = [sum(float(((t + c) ** 2).sum()) for t in origin.values()) for c in (0, 2)]
    np.testing.assert_allclose(got, expected, rtol=1e-14)
