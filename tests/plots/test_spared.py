"""Pictures of a surface that is partly interpolated say so."""

from dataclasses import replace

import numpy as np
import pytest

from lightning_landscape.plots import PLOTS, draw_comparison
from lightning_landscape.plots.furniture import inexact, rounded, spared
from lightning_landscape.report import Interpolation, Report, RoundingError
from tests.plots.walks import walk

SAID = Report(interpolation=Interpolation(errors={"loss": 0.000771}, tiles=[0.01, 0.123]))
TOLD = "35 points, 25 evaluated, the rest interpolated to ≤ 0.078 % of the range"


@pytest.fixture
def mask():
    mask = np.zeros((7, 5), dtype=bool)
    mask[1:6, 1::2] = True
    return mask


@pytest.mark.parametrize("kind", [kind for kind, plot in PLOTS.items() if 2 in plot.ndims])
def test_every_picture_says_it(kind, make, mask, texts):
    landscape = make(samples=4, interpolated=mask, report=SAID, trajectory=walk(2))
    told = TOLD if kind != "tiles" else TOLD.replace("0.078", "13")
    assert told in texts(PLOTS[kind].draw(landscape))
    assert "evaluated" not in texts(PLOTS[kind].draw(make(samples=4, trajectory=walk(2))))


@pytest.mark.parametrize("kind", [kind for kind, plot in PLOTS.items() if 3 in plot.ndims])
def test_every_picture_of_a_volume_says_it(kind, make_volume, texts):
    mask = np.zeros((7, 5, 4), dtype=bool)
    mask[3, 2, 1] = True
    landscape = make_volume(lambda x, y, z: x + y + z, interpolated=mask, report=SAID, trajectory=walk(3))
    assert "140 points, 139 evaluated, the rest interpolated to" in texts(PLOTS[kind].draw(landscape))


def test_a_comparison_says_it_of_each(make, mask, texts):
    spare = make(interpolated=mask, report=SAID)
    assert texts(draw_comparison(spare, make())).count("25 evaluated") == 1
    assert texts(draw_comparison(spare, spare)).count("25 evaluated") == 2
    line = make(lambda x: x, ny=None, interpolated=mask[:, 1], report=SAID)
    assert texts(draw_comparison(line, make(lambda x: x, ny=None))).count("2 evaluated") == 1


@pytest.mark.parametrize(
    "said, told",
    [
        ({"errors": {"loss": 0.02}}, "to ≤ 2 % of the range"),
        ({"errors": {"loss": 0.01001}}, "to ≤ 1.1 % of the range"),
        ({"errors": {"loss": 0.0}}, "to ≤ 0 % of the range"),
        (
            {"errors": {"loss": 0.001}, "log_errors": {"loss": 0.1201}},
            "% of the range, ≤ 13 % of that of the logarithms",
        ),
        (
            {"errors": {"loss": 0.001}, "log_errors": {"loss": float("inf")}},
            "range, ≤ any share of that of the logarithms",
        ),
        ({"errors": {"loss": 0.001}, "log_errors": {"loss": 0.0005}}, "to ≤ 0.1 % of the range"),
        ({"errors": {"loss": float("inf")}}, "interpolated, how well is not known"),
        ({}, "interpolated, how well is not known"),
    ],
)
def test_the_error_is_rounded_up(said, told, make, mask):
    assert spared(make(interpolated=mask, report=Report(interpolation=Interpolation(**said))), "loss").endswith(told)


def test_points_in_bfloat16_are_told_in_every_picture(make, mask, texts):
    """Rounded up; of tiles for the worst of them."""
    said = RoundingError(9, 2, share={"loss": 0.00123, "samples": 0.0456})
    landscape = make(samples=4, report=Report(rounding_error=said), trajectory=walk(2))
    for kind, plot in PLOTS.items():
        if 2 in plot.ndims:
            share = "0.13" if kind != "tiles" else "4.6"
            told = f"in bfloat16; at 9 points checked in float32, off by ≤ {share} % of their range"
            assert told in texts(plot.draw(landscape)), kind
    both = make(interpolated=mask, report=replace(SAID, rounding_error=said))
    assert inexact(both, "loss") == f"{TOLD} · {rounded(both, 'loss')}"


@pytest.mark.parametrize("share", [{}, {"loss": np.inf}, {"loss": np.nan}])
def test_an_error_of_bfloat16_that_no_number_tells(make, share):
    landscape = make(report=Report(rounding_error=RoundingError(9, 2, share=share)))
    assert rounded(landscape, "loss") == "in bfloat16, how exact is not known"
