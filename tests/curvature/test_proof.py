"""Products that are not those of a Hessian are found, measured otherwise, or refused with the layer's name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_landscape.curvature import (
    AsymmetryError,
    CurvatureSettings,
    HessianOperator,
    MatrixOperator,
    curvature,
    in_float64,
    lanczos,
    proved_hessian,
    trace,
)
from lightning_landscape.objectives.base import Batch, LossFunction

from ._steps import KINDS, WeightNorm, exact_hessian, frozen, made, objective_on

SKEW = MatrixOperator(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))


class Wrong(torch.autograd.Function):
    """x³ with the right gradient, which is taken for a constant when it is differentiated again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (3 * ctx.saved_tensors[0] ** 2).detach()


class Cube(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return Wrong.apply(x * self.scale)


@pytest.mark.parametrize("use", [lanczos, trace, curvature, lambda operator: operator.check_symmetry()])
def test_no_number_comes_from_an_unsymmetric_operator(use):
    with pytest.raises(AsymmetryError, match="uᵀHv and vᵀHu differ by"):
        use(SKEW)


def test_the_asymmetry_is_the_formula():
    torch.manual_seed(0)
    matrix = torch.randn(5, 5).double()
    pair = torch.randn(2, 5).double()
    u, v = pair[0] / pair[0].norm(), pair[1] / pair[1].norm()
    by_hand = abs(u @ matrix @ v - v @ matrix @ u) / ((matrix @ u).norm() * (matrix @ v).norm()).sqrt()
    assert MatrixOperator(matrix).prove(pair).asymmetry == pytest.approx(by_hand.item(), rel=1e-12)


def test_a_zero_hessian_is_symmetric():
    assert MatrixOperator(torch.zeros(3, 3)).check_symmetry().asymmetry == 0
    assert lanczos(MatrixOperator(torch.zeros(3, 3))).values.tolist() == [0.0]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_right_products_are_far_from_the_limit(kind):
    module = made(kind)
    assert HessianOperator(objective_on(module), module, frozen(kind)).check_symmetry().asymmetry <= 2e-7


def test_weight_norm_is_found_and_measured_right():
    module = made(WeightNorm)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    exact = torch.linalg.eigvalsh(exact_hessian(WeightNorm)).flip(0).numpy()
    with proved_hessian(objective_on(module), module, frozen(WeightNorm)) as hessian:
        assert hessian.method == "differences of gradients in float64"
        spectrum = curvature(hessian, CurvatureSettings(top_k=5)).spectrum
    assert abs(spectrum.eigenvalues - exact[:5]).max() <= 1e-5 * exact[0]
    assert abs(spectrum.lowest - exact[-1]) <= 1e-5 * exact[0]
    assert abs(spectrum.trace - exact.sum()) <= 3 * spectrum.trace_error + 1e-5 * exact[0]
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == torch.float32 for name in before)


def test_a_wrong_second_derivative_of_the_users_is_measured_right():
    net = nn.Sequential(nn.Linear(3, 4), Cube(), nn.Linear(4, 1))
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    square = LossFunction(lambda net, x: net(x).square().mean())

    class Right(Cube):
        def forward(self, x):
            return (x * self.scale) ** 3

    right = nn.Sequential(net[0], Right(), net[2])
    right[1].scale = net[1].scale
    true = HessianOperator(square, right, [Batch(x, 12)])
    expected = true.matvec(vector := true.random("some"))
    assert HessianOperator(square, net, [Batch(x, 12)]).check_symmetry().asymmetry <= 1e-6  # which tells nothing here
    with proved_hessian(square, net, [Batch(x, 12)]) as hessian:
        assert hessian.method == "differences of gradients in float64"
        assert (hessian.matvec(vector) - expected).norm() <= 1e-5 * expected.norm()


def test_a_right_second_derivative_of_the_users_stays_with_double_backward():
    class Good(Wrong):
        @staticmethod
        def backward(ctx, gradient):
            return gradient * 3 * ctx.saved_tensors[0] ** 2

    net = nn.Linear(2, 1, bias=False)
    exact = torch.diag(6 * net.weight.detach()[0].double())
    cubes = LossFunction(lambda net, x: Good.apply(net.weight).sum())
    with proved_hessian(cubes, net, [Batch(torch.ones(1), 1)]) as hessian:
        assert hessian.method == "double backward"
        assert torch.allclose(hessian.matmat(torch.eye(2)), exact, rtol=1e-6)


def test_a_refusal_names_the_kind_of_layer():
    module = made(WeightNorm)
    objective = LossFunction(lambda module, batch: module.loss(batch[0].float(), batch[1]))  # float64 is refused
    with (
        pytest.raises(AsymmetryError, match=r"net\.0 \(WeightNorm of Linear\)"),
        proved_hessian(objective, module, frozen(WeightNorm)),
    ):
        pass
    assert next(module.parameters()).dtype == torch.float32


def test_a_step_without_second_derivatives_is_measured_by_differences():
    class Once(Wrong):
        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 3 * ctx.saved_tensors[0] ** 2

    net = nn.Linear(1, 1, bias=False)
    with proved_hessian(
        LossFunction(lambda net, x: Once.apply(net.weight).sum()), net, [Batch(torch.ones(1), 1)]
    ) as hessian:
        assert hessian.method == "differences of gradients in float64"
        assert hessian.matvec(torch.ones(1)).item() == pytest.approx(6 * net.weight.item(), rel=1e-6)


def test_float64_is_left_also_after_an_error():
    net = nn.BatchNorm1d(2)
    memory = net.weight.data_ptr()
    dtypes = set()

    def stop():
        with in_float64(net, []):
            dtypes.update((torch.zeros(1).dtype, net.running_mean.dtype, net.weight.dtype))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert dtypes == {torch.float64}
    assert torch.zeros(1).dtype == net.running_mean.dtype == net.weight.dtype == torch.float32
    assert net.weight.data_ptr() == memory
