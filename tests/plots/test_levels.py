import numpy as np
import pytest

from lightning_landscape.plots.levels import labels, round_levels, short


@pytest.mark.parametrize("low", [-7.3, 0.0, 0.0123, 1e6])
@pytest.mark.parametrize("span", [1e-4, 0.17, 1.0, 31.0, 9e5])
def test_linear_levels_are_few_inside_and_equally_spaced(low, span):
    levels, major = round_levels(low, low + span, 30)
    assert 10 <= len(levels) <= 30
    assert levels[0] >= low - 1e-9 * span
    assert levels[-1] <= low + span * (1 + 1e-9)
    np.testing.assert_allclose(np.diff(levels), levels[1] - levels[0], rtol=1e-3)
    assert 1 <= major.sum() <= 16


@pytest.mark.parametrize("max_count", [5, 9, 30])
@pytest.mark.parametrize("high", [12.0, 345.0, 1e7, 1e60])
def test_log_levels_are_few_and_inside(high, max_count):
    levels, major = round_levels(1.1, high, max_count, log=True)
    assert 1 <= len(levels) <= max_count
    assert levels[0] >= 1.1
    assert levels[-1] <= high
    assert major.any()


def test_labels_tell_neighbours_apart():
    assert labels(np.array([1.0000, 1.0005, 1.0010])) == ["1", "1.0005", "1.001"]
    assert labels(np.array([-0.5, 0.0, 0.5])) == ["−0.5", "0", "0.5"]
    assert labels(np.array([10.0, 1e4, 1e7])) == ["10", "10000", "1e7"]


def test_short():
    assert [short(v) for v in (0.1234567, -3.0, 1e-7, 123456.0)] == ["0.1235", "−3", "1e−7", "1.235e5"]


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.9, 1100, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
        (0.9, 11, [1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8, 10]),
        (0.5, 2e5, [1, 3, 10, 30, 100, 300, 1000, 3000, 1e4, 3e4, 1e5]),
    ],
)
def test_log_levels_are_preferred_numbers_evenly_spaced(low, high, expected):
    levels, major = round_levels(low, high, 12, log=True)
    assert levels.tolist() == pytest.approx(expected)
    steps = np.diff(np.log10(levels))
    assert steps.max() < 1.4 * steps.min()
    assert major[:4].any()  # labels inside, too


def test_the_innermost_lines_of_a_minimum_have_labels():
    levels, major = round_levels(0.003, 10.8, 22, log=True)
    assert levels[major][:3].tolist() == pytest.approx([0.005, 0.01, 0.02])
