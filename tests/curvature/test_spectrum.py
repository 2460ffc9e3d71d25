"""The numbers of a Spectrum, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_landscape import Spectrum


def test_the_density_is_the_formula():
    nodes, weights = (np.array([0.0, 2.0]), np.array([1.0])), (np.array([0.25, 0.75]), np.array([1.0]))
    t, density = Spectrum(9, np.ones(1), np.zeros(1), nodes=nodes, weights=weights).density(points=33, width=0.5)
    bell = lambda at: np.exp(-2 * (t - at) ** 2) / (0.5 * (2 * np.pi) ** 0.5)  # noqa: E731
    assert density == pytest.approx((0.25 * bell(0) + 0.75 * bell(2) + bell(1)) / 2)
    assert (t[0], t[-1], len(t)) == (-2.5, 4.5, 33)


def test_the_density_of_equal_eigenvalues_has_a_width():
    t, density = Spectrum(2, np.ones(1), np.zeros(1), nodes=(np.array([3.0]),), weights=(np.ones(1),)).density()
    assert t[density.argmax()] == pytest.approx(3.0, abs=0.01)
    assert (density * (t[1] - t[0])).sum() == pytest.approx(1, abs=1e-6)


def test_text_says_what_is_known():
    numbers = Spectrum(1234, np.array([2.0, 1.0]), np.zeros(2), lowest=-0.5, trace=3.0, trace_error=0.1)
    assert str(numbers) == "largest eigenvalues of 1,234: 2, 1; lowest: -0.5; trace: 3 ± 0.1"
    assert str(Spectrum(2, np.array([2.0]), np.zeros(1))) == "largest eigenvalues of 2: 2"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no density: compute it with density=True"):
        Spectrum(2, np.ones(1), np.zeros(1)).density()
    with pytest.raises(ValueError, match=r"eigenvalues has shape \(2,\), residuals \(1,\)"):
        Spectrum(2, np.ones(2), np.zeros(1))
    with pytest.raises(ValueError, match="nodes and weights differ"):
        Spectrum(2, np.ones(1), np.zeros(1), nodes=(np.ones(2),), weights=(np.ones(1),))
