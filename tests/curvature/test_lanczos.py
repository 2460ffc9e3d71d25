"""Eigenpairs, density and trace of matrices whose spectra are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_landscape.curvature import (
    CurvatureSettings,
    LanczosSettings,
    MatrixOperator,
    Preconditioned,
    curvature,
    lanczos,
    trace,
)  # fmt: skip
from lightning_landscape.curvature.trace import TraceSettings


def rotated(eigenvalues, seed=0):
    """A full matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=torch.float64))
    return q @ torch.diag(torch.as_tensor(eigenvalues, dtype=torch.float64)) @ q.T


def decaying(size=300):
    """A few large eigenvalues, a bulk around 0, and negative ones, as of networks."""
    generator = torch.Generator().manual_seed(3)
    bulk = 0.1 * torch.randn(size - 7, generator=generator, dtype=torch.float64)
    return torch.cat([torch.tensor([30.0, 21.0, 13.0, 8.0, 5.0, -1.5, -0.9]).double(), bulk])


@pytest.mark.parametrize(
    "eigenvalues", [(5, 1, 0.5, 0.2, 0.1), (-5, 1, 0.5, 0.2, 0.1), (-5, -1, -0.5, -0.2, -0.1)], ids=str
)
def test_small_spectra_are_exact(eigenvalues):
    found = curvature(MatrixOperator(rotated(eigenvalues)), CurvatureSettings(top_k=5)).spectrum
    expected = sorted(eigenvalues, reverse=True)
    assert found.eigenvalues == pytest.approx(expected, abs=1e-12)
    assert (found.largest, found.lowest) == pytest.approx((expected[0], expected[-1]), abs=1e-12)
    assert (found.trace, found.trace_error) == pytest.approx((sum(eigenvalues), 0.0), abs=1e-12)


def test_extremes_are_algebraic():
    found = curvature(MatrixOperator(rotated([-50.0, *np.linspace(-0.1, 2.0, 60)]))).spectrum
    assert (found.largest, found.lowest) == pytest.approx((2.0, -50.0), rel=1e-6)


def test_a_small_lowest_eigenvalue_is_judged_on_its_own_scale():
    eigenvalues = torch.cat([torch.tensor([1000.0, -0.02]).double(), torch.linspace(0, 1, 98, dtype=torch.float64)])
    run = lanczos(MatrixOperator(rotated(eigenvalues)), settings=LanczosSettings(rounding=1e-12))
    assert run.values[0] == pytest.approx(-0.02, rel=1e-4)


def test_eigenvectors_and_residuals():
    matrix, exact = rotated(decaying()), decaying().sort(descending=True).values
    found = curvature(MatrixOperator(matrix), CurvatureSettings(top_k=5))
    for value, residual, named, expected in zip(
        found.spectrum.eigenvalues, found.spectrum.residuals, found.top, exact, strict=False
    ):
        vector = named[""]
        assert vector.norm().item() == pytest.approx(1, abs=1e-12)
        by_hand = (matrix @ vector - value * vector).norm().item()
        assert residual == pytest.approx(by_hand, rel=1e-3, abs=1e-11)
        assert abs(value - expected.item()) <= residual + 1e-11
        assert residual <= 1e-4 * 30
    lowest = found.lowest[""]
    assert (lowest @ matrix @ lowest).item() == pytest.approx(-1.5, rel=1e-6)


def test_few_products_are_needed():
    assert len(lanczos(MatrixOperator(rotated(decaying())), 5, lowest=False).values) <= 15


def test_no_ritz_value_comes_twice_and_weights_sum_to_one():
    run = lanczos(MatrixOperator(rotated(decaying())), steps=200)
    large = run.values[run.values > 1]
    assert large == pytest.approx([5, 8, 13, 21, 30], rel=1e-9)  # without re-orthogonalisation there are copies
    assert run.weights.sum() == pytest.approx(1, abs=1e-12)
    assert (run.basis @ run.basis.T - torch.eye(200)).abs().max() <= 1e-12


def test_repeated_eigenvalues_do_not_break_the_run():
    run = lanczos(MatrixOperator(rotated([2.0, 2.0, 2.0, 1.0])), steps=4)
    assert run.values == pytest.approx([1, 2, 2, 2], abs=1e-10)
    assert torch.linalg.matrix_rank(run.basis) == 4
    nothing = lanczos(MatrixOperator(torch.zeros(3, 3)), steps=3)
    assert (nothing.basis @ nothing.basis.T - torch.eye(3)).abs().max() <= 1e-12


def test_the_density_has_the_mean_of_the_spectrum():
    operator = MatrixOperator(rotated(decaying()))
    found = curvature(operator, CurvatureSettings(density=True, probes=10, steps=40)).spectrum
    mean, error = found.node_mean
    assert len(found.nodes) == 10
    assert all(weights.sum() == pytest.approx(1, abs=1e-12) for weights in found.weights)
    exact = decaying().sum().item()
    assert abs(found.size * mean - exact) <= 3 * found.size * error
    assert abs(found.size * mean - found.trace) <= 3 * (found.size * error + found.trace_error)
    t, density = found.density()
    assert (density * (t[1] - t[0])).sum() == pytest.approx(1, abs=1e-3)


def test_a_probe_integrates_polynomials_as_the_matrix_itself():
    matrix = rotated(decaying())
    operator = MatrixOperator(matrix)
    start = operator.random("some")
    run, unit = lanczos(operator, steps=6, start=start), start / start.norm()
    for power in range(12):  # m nodes are exact to the power 2m − 1
        exact = (unit @ torch.linalg.matrix_power(matrix, power) @ unit).item()
        assert run.weights @ run.values**power == pytest.approx(exact, rel=1e-10)


def test_the_errors_of_the_trace_are_what_they_say():
    exact = decaying().sum().item()
    found = [trace(MatrixOperator(rotated(decaying()), seed=seed)) for seed in range(60)]
    z = np.array([(t.value - exact) / t.standard_error for t in found])
    assert np.mean(np.abs(z) <= 2) >= 0.85  # 0.954 if all is well; 60 of them scatter by 0.03
    assert np.std(z) <= 1.4
    assert abs(np.mean(z)) <= 3 / 60**0.5
    assert all(t.standard_error <= 0.02 * abs(t.value) or t.samples == 100 for t in found)


def test_a_trace_ends_with_its_tolerance():
    loose = trace(MatrixOperator(rotated(decaying())), settings=TraceSettings(tolerance=0.5))
    tight = trace(MatrixOperator(rotated(decaying())), settings=TraceSettings(tolerance=0.001))
    assert loose.samples == 8 < tight.samples


def test_products_of_the_basis_need_none_of_the_matrix():
    matrix = rotated(decaying())
    run = lanczos(MatrixOperator(matrix), steps=7)
    coordinates = torch.linspace(-1, 1, 7, dtype=torch.float64)
    assert torch.allclose(run.product(coordinates), matrix @ (coordinates @ run.basis), atol=1e-10)


def test_top_below_one_is_refused():
    with pytest.raises(ValueError, match="top=0: give the number"):
        lanczos(MatrixOperator(torch.eye(2)), 0)


def test_the_preconditioned_hessian_has_the_eigenvalues_of_the_product():
    matrix, scale = rotated([5.0, 1.0, 0.5, -2.0, 0.1]), torch.tensor([0.1, 3.0, 1.0, 0.5, 2.0]).double()
    exact = torch.linalg.eigvals(torch.diag(scale) @ matrix).real.sort().values.numpy()
    run = lanczos(Preconditioned(MatrixOperator(matrix), scale), 5)
    assert run.values == pytest.approx(exact, abs=1e-10)
    with pytest.raises(ValueError, match="its least number is 0: give a positive number for each of 5"):
        Preconditioned(MatrixOperator(matrix), torch.zeros(5))


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"vectors has shape \(1, 3\): give one row of 2 numbers"):
        MatrixOperator(torch.eye(2)).matvec(torch.ones(3))
