import numpy as np
import pytest

from lightning_landscape.plots.contour import draw_contour
from tests.plots.artists import contours


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_line_lies_on_its_level(make, shape):
    drawn = contours(draw_contour(make(nx=shape[0], ny=shape[1])).axes[0])
    lengths = 0
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=True):
        x, y = path.vertices.T
        np.testing.assert_allclose(10 * x + y, level, atol=1e-9)
        lengths += len(x)
    assert lengths > 20


def test_labels_are_few_and_round(make):
    figure = draw_contour(make(lambda x, y: x**2 + y**2, nx=51, ny=51))
    assert len(contours(figure.axes[0]).levels) <= 30
    texts = {t.get_text() for t in contours(figure.axes[0]).labelTexts}
    assert texts
    assert texts <= {str(n) for n in range(1, 14)}


def test_logarithmic_lines_are_labelled_at_decades(make):
    figure = draw_contour(make(lambda x, y: np.exp(x**2 + y**2), nx=51, ny=51), color_scale="log")
    assert {t.get_text() for t in contours(figure.axes[0]).labelTexts} <= {"10", "100", "1000", "10000", "1e5"}
