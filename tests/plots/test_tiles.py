from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import BboxImage

from lightning_landscape.landscape import Sample, Samples
from lightning_landscape.plots import to_image
from lightning_landscape.plots.captions import caption
from lightning_landscape.plots.tiles import draw_tiles, parse_layout
from tests.plots.artists import assert_bands_hold, contours


def tiles(figure) -> list:
    return [a for a in figure.axes[0].child_axes if a.get_gid().split()[-1].isdigit()]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_tile_shows_its_sample(make, shape, share):
    figure = draw_tiles(make(nx=shape[0], ny=shape[1], samples=3), share_colorbar=share)
    assert len(tiles(figure)) == 3
    for b, tile in enumerate(tiles(figure)):
        low, high = (-32, 232) if share else (-32 + 100 * b, 32 + 100 * b)
        np.testing.assert_allclose(contours(tile).levels, np.linspace(low, high, 30))
        assert_bands_hold(lambda x, y, b=b: 10 * x + y + 100 * b, tile)


def test_curves_of_a_1d_landscape(make):
    for b, tile in enumerate(tiles(draw_tiles(make(lambda x: x**2, ny=0, samples=2)))):
        x, y = tile.get_lines()[0].get_data()
        np.testing.assert_allclose(y, x**2 + 100 * b)


def test_tiles_fill_the_layout_row_by_row_without_overlap(make):
    figure = draw_tiles(make(samples=5), layout="2x3")
    to_image(figure)
    boxes = [tile.get_window_extent() for tile in tiles(figure)]
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[1].x1 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert boxes[3].y1 < boxes[0].y0


def test_one_colour_bar_or_one_each(make):
    assert len(draw_tiles(make(samples=4)).axes) == 2
    separate = draw_tiles(make(samples=4), share_colorbar=False)
    assert len(separate.axes) == 1
    assert sum(a.get_gid().endswith("bar") for a in separate.axes[0].child_axes) == 4


def test_captions_leave_out_unknown_values():
    assert " | ".join(caption(Sample(4, 0.0211, 7, 7, 0.98))) == "#4 | y=7, ŷ=7 | L=0.0211"
    assert " | ".join(caption(Sample(4, 0.0211))) == "#4 | L=0.0211"


def test_a_misclassified_sample_is_marked_by_text_and_colour(make):
    right, wrong = tiles(draw_tiles(make(samples=2)))[1], tiles(draw_tiles(make(samples=2)))[0]
    assert "y=1 ≠ ŷ=0" in wrong.get_title()
    assert "≠" not in right.get_title()
    assert wrong.title.get_color() != right.title.get_color()


@pytest.mark.parametrize("x", [(-3, 3), (-1, 20), (-20, 1)])
@pytest.mark.parametrize("shape", [(8, 8, 3), (30, 10, 3)])
def test_a_thumbnail_keeps_its_shape_and_clear_of_the_centre(make, x, shape):
    landscape = make(x=x, y=x, samples=1)
    item = replace(landscape.samples.items[0], thumbnail=np.zeros(shape, np.uint8))
    landscape.samples = Samples(landscape.samples.values, (item,))
    figure = draw_tiles(landscape, layout="1x1")
    to_image(figure)
    (tile,) = tiles(figure)
    (image,) = (a for a in tile.get_children() if isinstance(a, BboxImage))
    box = image.get_window_extent(figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None)
    assert box.height / box.width == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert not box.contains(*tile.transData.transform((0, 0)))
    assert max(box.width, box.height) == pytest.approx(0.29 * tile.bbox.width, rel=0.02)


def test_the_note_of_single_scales_sums_up(make, texts):
    landscape = make(samples=2)
    landscape.samples.values[1] = 5.0
    landscape.samples.values[0, 0, 0] = np.nan
    text = texts(draw_tiles(landscape, share_colorbar=False))
    assert "one colour scale each, 1 of 2 flat · 1 of 70 points not finite (grey)" in text


@pytest.mark.parametrize("layout", ["", "5", "2x", "0x5", "2x-1", "axb", "2x5x1", None])
def test_malformed_layout(layout):
    with pytest.raises(ValueError, match=r'layout=.* is malformed: give "<rows>x<columns>", e.g. "2x5"'):
        parse_layout(layout)


def test_too_many_samples(make):
    with pytest.raises(ValueError, match=r"layout='1x2' holds 2 tiles for 3 samples: .*\"2x2\""):
        draw_tiles(make(samples=3), layout="1x2")


def test_no_samples(make):
    with pytest.raises(ValueError, match=r"this landscape has none: measure it again with samples=10"):
        draw_tiles(make())


def test_samples_hold_the_main_loss_only(make):
    landscape = make(samples=1)
    landscape.values["accuracy"] = landscape.loss
    with pytest.raises(ValueError, match=r"metric='accuracy': tiles show the main loss only. Give metric='loss'"):
        draw_tiles(landscape, "accuracy")
