"""H v of steps of many kinds equals the exact Hessian; what has none is refused in words."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from lightning_landscape.curvature import CurvatureSettings, HessianOperator, curvature, proved_hessian
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction
from lightning_landscape.objectives.criterion import Criterion

from ._steps import KINDS, SIZES, Dict, Physics, Tuple, exact_hessian, frozen, made, objective_on


def operator_of(kind, sizes=SIZES, dtype=torch.float32, **options):
    module = made(kind, dtype)
    return HessianOperator(objective_on(module), module, frozen(kind, sizes, dtype), **options)


def matrix_of(operator):
    return operator.matmat(torch.eye(operator.size, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_eigenvalues_and_trace_are_those_of_the_exact_hessian(kind):
    exact = torch.linalg.eigvalsh(exact_hessian(kind)).flip(0).numpy()
    operator = operator_of(kind)
    spectrum = curvature(operator, CurvatureSettings(top_k=5)).spectrum
    assert abs(spectrum.eigenvalues - exact[:5]).max() <= 1e-5 * exact[0]
    assert abs(spectrum.lowest - exact[-1]) <= 1e-5 * exact[0]
    assert abs(spectrum.trace - exact.sum()) <= 3 * spectrum.trace_error + 1e-5 * exact[0]
    assert spectrum.asymmetry <= 1e-6
    assert spectrum.method == "double backward"


@pytest.mark.parametrize("kind", [Tuple, Dict, Physics], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("memory", [2**32, 0], ids=["graphs kept", "graphs anew"])
def test_the_whole_matrix_in_float64(kind, memory):
    operator = operator_of(kind, dtype=torch.float64, memory=memory)
    exact = exact_hessian(kind)
    assert (matrix_of(operator) - exact).abs().max() <= 1e-8 * exact.abs().max()
    assert operator.products == operator.size


def test_graphs_are_kept_only_where_they_fit():
    graphs, anew = operator_of(Tuple), operator_of(Tuple, memory=0)
    graphs.matvec(graphs.random()), anew.matvec(anew.random())
    assert (graphs._kept is None, anew._kept is None) == (False, True)
    before = matrix_of(graphs)
    graphs.release()
    assert torch.allclose(matrix_of(graphs), before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sizes", [(50,), (25, 25), (7,) * 7 + (1,)], ids=str)
def test_the_batch_size_changes_nothing(sizes):
    exact = exact_hessian(Tuple)
    matrix = matrix_of(operator_of(Tuple, sizes, torch.float64))
    assert (matrix - exact).abs().max() <= 1e-8 * exact.abs().max()


def test_class_weights_and_ignored_targets_count_as_in_one_batch():
    torch.manual_seed(0)
    net, x, y = nn.Linear(3, 4).double(), torch.randn(20, 3).double(), torch.randint(4, (20,))
    y[:7] = -100
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 3.0]).double())
    parameters = tuple(p.detach() for p in net.parameters())
    exact = torch.autograd.functional.hessian(
        lambda w, b: criterion(torch.nn.functional.linear(x, w, b), y), parameters
    )
    whole = torch.cat([torch.cat([b.reshape(p.numel(), -1) for b in row], 1) for p, row in zip(parameters, exact)])  # noqa: B905
    batches = [Batch(pair, len(pair[0])) for pair in zip(x.split(9), y.split(9), strict=True)]
    assert (matrix_of(HessianOperator(Criterion(criterion), net, batches)) - whole).abs().max() <= 1e-12


def test_a_sum_over_the_data_is_not_divided():
    net, x = nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [2.0], [3.0]])
    batches = [Batch((part, torch.zeros_like(part)), len(part)) for part in x.split(2)]
    operator = HessianOperator(Criterion(nn.MSELoss(reduction="sum")), net, batches)
    assert operator.matvec(torch.ones(1)).item() == pytest.approx(2 * (1 + 4 + 9))
    assert operator.loss == pytest.approx(14 * net.weight.item() ** 2)
    assert operator.gradient.item() == pytest.approx(28 * net.weight.item())


def test_loss_and_gradient_come_with_the_first_pass():
    module = made(Tuple, torch.float64)
    operator = HessianOperator(objective_on(module), module, frozen(Tuple, dtype=torch.float64))
    x, y = (torch.cat(parts) for parts in zip(*(batch.data for batch in operator.passes.batches), strict=True))
    loss = module.loss(x, y)
    gradient = torch.autograd.grad(loss, list(module.parameters()))
    assert operator.loss == pytest.approx(loss.item(), rel=1e-12)
    assert torch.allclose(operator.gradient, torch.cat([g.reshape(-1) for g in gradient]), atol=1e-12)
    assert operator.products == 0


def test_chosen_parameters_have_their_block():
    exact = exact_hessian(Tuple)[-18:, -18:]  # of the last layer, 5 × 3 + 3
    operator = operator_of(Tuple, dtype=torch.float64, params=["net.2.weight", "net.2.bias"])
    assert (matrix_of(operator) - exact).abs().max() <= 1e-8 * exact.abs().max()


def test_dropout_in_train_mode_has_the_same_masks_in_every_product():
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1)).train()
    batches = [Batch(torch.randn(9, 4, generator=torch.Generator().manual_seed(i)), 9) for i in range(2)]
    square = LossFunction(lambda net, x: net(x).square().mean())
    operator = HessianOperator(square, net, batches, memory=0)
    before = torch.get_rng_state()
    matrix = matrix_of(operator)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # the user's stream goes on
    assert torch.equal(matrix, matrix_of(operator))
    assert (matrix - matrix.T).abs().max() <= 1e-6 * matrix.abs().max()


def test_batch_norm_keeps_its_statistics():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh()).train()
    batches = [Batch(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), 9)]
    operator = HessianOperator(LossFunction(lambda net, x: net(x).square().mean()), net, batches, memory=0)
    operator.matvec(operator.random())
    first = operator.matvec(operator.random())
    assert torch.equal(operator.matvec(operator.random()), first)
    operator.passes.rehearse()
    assert net[1].num_batches_tracked == 0


def refuse(objective, net, text, batches=None, **options):
    with pytest.raises(CannotMeasureError, match=re.escape(text)):
        HessianOperator(objective, net, batches or [Batch(torch.ones(2, 2), 2)], **options).matvec(torch.ones(3))


@pytest.mark.parametrize(
    "function, text",
    [
        (lambda net, x: net(x).mean().detach(), "has no graph to the parameters"),
        (lambda net, x: net(x).mean().item(), "has no graph to the parameters"),
        (lambda net, x: net(x).mean() * torch.nan, "is not finite on batch 0"),
        (lambda net, x: float("inf"), "is inf on batch 0"),
    ],
)
def test_a_loss_without_curvature_is_refused(function, text):
    refuse(LossFunction(function), nn.Linear(2, 1), text)


def test_a_step_that_edits_its_weights_is_refused():
    def edit(net, x):
        loss = net(x).square().mean()
        net.weight.data.mul_(0.5)
        return loss

    refuse(LossFunction(edit), nn.Linear(2, 1), "edits the weights")


def test_unknown_parameters_are_named():
    refuse(
        LossFunction(lambda net, x: 0),
        nn.Linear(2, 1),
        "['w'], which are not in the module: weight, bias",
        params=["w"],
    )


def test_no_batches_are_refused():
    with pytest.raises(CannotMeasureError, match="batches is empty"):
        HessianOperator(LossFunction(lambda net, x: 0), nn.Linear(2, 1), [])


def test_a_loss_of_another_net_is_refused():
    other = nn.Linear(2, 1)
    with (
        pytest.raises(CannotMeasureError, match="does not depend on the parameters"),
        proved_hessian(
            LossFunction(lambda net, x: other(x).square().mean()), nn.Linear(2, 1), [Batch(torch.ones(2, 2), 2)]
        ),
    ):
        pass
