"""The gradient of the frozen data's mean loss, against one backward pass over all data at once."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, Snapshot
from lightning_landscape.directions import Gradient, Site
from lightning_landscape.evaluators.gradient import mean_gradient
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.objectives.criterion import objective_of
from lightning_landscape.weights.plane import Plane

INPUTS = torch.randn(22, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).long()
BATCHES = [Batch((INPUTS[i : i + 8], LABELS[i : i + 8]), len(LABELS[i : i + 8])) for i in (0, 8, 16)]  # 8, 8, 6


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def all_at_once(module: nn.Module, weight: Any = None) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss of all samples, by one backward pass."""
    twin = copy.deepcopy(module)
    cross_entropy(twin(INPUTS), LABELS, weight).backward()
    return {name: p.grad for name, p in twin.named_parameters()}


def criterion(weight: Any = None) -> Any:
    return objective_of(nn.CrossEntropyLoss(weight))[0]


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 5.0], dtype=torch.float64)], ids=["plain", "weighted"])
def test_uneven_batches_give_the_gradient_of_all_samples(weight: Any) -> None:
    module = net()
    found = mean_gradient(copy.deepcopy(module), criterion(weight), Snapshot.of(module).params, BATCHES)
    torch.testing.assert_close(found, all_at_once(module, weight))


def test_a_sum_is_added_up() -> None:
    module = net()
    found = mean_gradient(
        copy.deepcopy(module),
        objective_of(nn.CrossEntropyLoss(reduction="sum"))[0],
        Snapshot.of(module).params,
        BATCHES,
    )
    torch.testing.assert_close(found, {name: 22 * gradient for name, gradient in all_at_once(module).items()})


def test_it_is_taken_at_the_weights_of_the_site_and_not_of_the_module() -> None:
    module, elsewhere = net(), net()
    found = mean_gradient(elsewhere, criterion(), Snapshot.of(module).params, BATCHES)
    torch.testing.assert_close(found, all_at_once(module))


class Dropping(nn.Module):
    """BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.out = nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.norm(x)))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_it_is_of_the_mode_and_the_random_numbers_of_the_landscape(mode: str) -> None:
    module = Dropping().double()
    module.train(mode == "train")
    twin = copy.deepcopy(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = mean_gradient(module, criterion(), Snapshot.of(module).params, BATCHES, seed=7)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    torch.manual_seed(7)
    for batch in BATCHES:
        (batch.size / 22 * cross_entropy(twin(batch.data[0]), batch.data[1])).backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in twin.named_parameters()})


def test_what_the_loss_does_not_use_has_no_gradient() -> None:
    module = nn.ModuleDict({"used": net(), "idle": nn.Linear(2, 2).double()})
    objective = LossFunction(lambda model, batch: cross_entropy(model["used"](batch[0]), batch[1]))
    found = mean_gradient(copy.deepcopy(module), objective, Snapshot.of(module).params, BATCHES)
    assert {name.partition(".")[0] for name in found} == {"used"}
    (d,) = Gradient(ignore=None)(Site.at(Snapshot.of(module), copy.deepcopy(module), objective, BATCHES), 1)
    assert not d["idle.weight"].any()


def test_low_precision_and_sparse_gradients_are_dense_and_float32() -> None:
    table = nn.Embedding(5, 3, sparse=True).bfloat16()
    objective = LossFunction(lambda model, batch: model(batch).sum())
    site = Site.at(Snapshot.of(table), copy.deepcopy(table), objective, [Batch(torch.tensor([1, 3, 3]), 3)])
    (d,) = Gradient(ignore=None)(site, 1)
    assert (d["weight"].dtype, d["weight"].layout) == (torch.float32, torch.strided)
    hits = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0])[:, None].expand(5, 3)
    torch.testing.assert_close(d["weight"] / d["weight"].norm(), hits / hits.norm())


def test_the_slope_along_the_first_axis_is_that_of_the_loss_and_along_the_second_zero() -> None:
    """By differences of the measured landscape: f'(0) = ‖g‖ ‖θ‖."""
    module = net()
    landscape = LossLandscape(module, DataLoader(TensorDataset(INPUTS, LABELS), 8), nn.CrossEntropyLoss())
    step = 1e-4
    losses = landscape.compute_2d((-step, step, 3), (-step, step, 3), directions="gradient", ignore=None, save=False)[
        "losses"
    ]
    gradient = torch.cat([g.reshape(-1) for g in all_at_once(module).values()])
    weights = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    slopes = (losses[2, 1] - losses[0, 1]) / (2 * step), (losses[1, 2] - losses[1, 0]) / (2 * step)
    assert slopes[0] == pytest.approx(float(gradient.norm() * weights.norm()), rel=1e-5)
    assert abs(slopes[1]) < 1e-5 * slopes[0]
    recipe = landscape.landscape.recipe.directions
    assert recipe.labels == ["gradient", "random"]
    assert recipe.lengths[0] == pytest.approx(float(weights.norm()), rel=1e-9)


def test_the_second_direction_is_the_random_one_but_for_its_part_along_the_gradient() -> None:
    module = net()
    site = Site.at(Snapshot.of(module), copy.deepcopy(module), criterion(), BATCHES)
    first, second = Gradient(normalize="none", seed=5)(site, 2)
    from lightning_landscape.directions import Random

    noise = Random(normalize="none", seed=5)(site, 2)[1]
    share = Plane(site.params, (first,)).project({n: site.params[n] + t for n, t in noise.items()})[0]
    for name, tensor in second.items():
        torch.testing.assert_close(tensor, noise[name] - share * first[name])


def test_a_step_may_call_backward_itself() -> None:
    """As in manual optimisation; its graph is needed once more."""

    def backward(model: Any, batch: Any) -> Any:
        loss = cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    before, module, twin = torch.autograd.backward, net(), net()
    twin.load_state_dict(module.state_dict())
    found = mean_gradient(twin, LossFunction(backward), Snapshot.of(module).params, BATCHES)
    torch.testing.assert_close(found, all_at_once(module))
    assert all(p.grad is None for p in twin.parameters())
    assert torch.autograd.backward is before


def refused(objective: Any, match: str) -> None:
    module = net()
    with pytest.raises(ValueError, match=match):
        Gradient()(Site.at(Snapshot.of(module), module, objective, BATCHES), 2)


def test_what_has_no_gradient_is_refused_in_words() -> None:
    refused(LossFunction(lambda model, batch: 1.0), "loss has no gradient: it is a number, detached, or logged only")
    refused(LossFunction(lambda model, batch: model(batch[0]).detach().mean()), "loss has no gradient")
    refused(LossFunction(lambda model, batch: 0 * model(batch[0]).mean()), "The gradient is zero")
    refused(objective_of(lambda net, dataloader, use_cuda: {"a": 1.0})[0], "train_loss_a has no gradient")
    refused(None, "A gradient needs a loss and data")

    def edits(model: Any, batch: Any) -> Any:
        loss = model(batch[0]).mean()
        with torch.no_grad():
            model[2].weight.mul_(1.0)
        return loss

    refused(LossFunction(edits), "The step edits weights after it has computed loss.*no gradient")
    with pytest.raises(ValueError, match="A gradient needs a loss and data"):
        Gradient()(Snapshot.of(net()), 2)
