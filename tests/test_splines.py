"""Interpolation matrices against SciPy and against polynomials that they must reproduce."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline, RegularGridInterpolator

from lightning_landscape.interpolation.splines import along_axes, local_matrix, spline_matrix


def uneven(count: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(count).uniform(0.1, 2, count))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_a_spline_is_that_of_scipy(count):
    knots = uneven(count)
    values = np.random.default_rng(1).normal(size=(count, 3))
    points = np.linspace(knots[0], knots[-1], 50)
    np.testing.assert_allclose(spline_matrix(knots, points) @ values, CubicSpline(knots, values)(points), atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_width_2_is_numpys_linear_interpolation(count):
    knots = uneven(count)
    values = np.random.default_rng(2).normal(size=count)
    points = np.linspace(knots[0], knots[-1], 50)
    np.testing.assert_allclose(local_matrix(knots, points, 2) @ values, np.interp(points, knots, values), atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_width_4_reproduces_cubics_and_needs_four_neighbours(count):
    knots = uneven(count)
    points = np.linspace(knots[0], knots[-1], 50)
    matrix = local_matrix(knots, points, 4)
    cubic = np.polynomial.Polynomial([1, -2, 3, -1][:count])
    np.testing.assert_allclose(matrix @ cubic(knots), cubic(points), rtol=1e-9, atol=1e-9 * abs(cubic(knots)).max())
    assert ((matrix != 0).sum(axis=1) <= 4).all()


def test_values_at_knots_are_kept_to_the_bit():
    knots = uneven(6)
    assert np.array_equal(local_matrix(knots, knots, 4), np.eye(6))


def test_two_axes_are_those_of_scipy():
    axes = (uneven(5), uneven(4))
    values = np.random.default_rng(3).normal(size=(5, 4))
    finer = [np.linspace(axis[0], axis[-1], 7 + i) for i, axis in enumerate(axes)]
    got = along_axes([local_matrix(old, new, 2) for old, new in zip(axes, finer, strict=True)], values)
    expected = RegularGridInterpolator(axes, values)(np.stack(np.meshgrid(*finer, indexing="ij"), axis=-1))
    np.testing.assert_allclose(got, expected, atol=1e-12)
