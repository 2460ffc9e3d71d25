"""Single samples: their classes, pictures, and losses in one pass, each against itself alone."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_landscape.directions import Random
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.objectives.loss_calls import MEAN_LOSSES, LossCalls
from lightning_landscape.trainer.frozen import FrozenData
from lightning_landscape.trainer.tiles import (
    EachSample,
    NotSeparable,
    classification,
    describe,
    thumbnail,
    tile_stream,
)
from lightning_landscape.weights.parameters import Snapshot
from lightning_landscape.weights.plane import Plane

NOTHING = (None, None, None)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_a_call_is_seen_with_its_defaults():
    """torch passes them all to a function mode today; nothing promises that it goes on."""
    seen, scores, labels = LossCalls(), torch.zeros(2, 3), torch.tensor([0, 1])
    seen.__torch_function__(F.cross_entropy, (), (scores, labels), {"label_smoothing": 0.1})
    ((function, arguments, result),) = seen.calls
    assert function is F.cross_entropy
    assert arguments["input"] is scores
    assert arguments["target"] is labels
    assert (arguments["weight"], arguments["reduction"], arguments["label_smoothing"]) == (None, "mean", 0.1)
    assert result == F.cross_entropy(scores, labels, label_smoothing=0.1)


def calls_of(function) -> list:
    with LossCalls() as seen:
        function()
    return seen.calls


# classes


LOGITS = torch.tensor([[1.0, 3.0, 2.0]])
CHANCES = np.exp([1.0, 3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
CLASSIFIED = {
    "cross_entropy": (lambda: F.cross_entropy(LOGITS, torch.tensor([2])), (2, 1, CHANCES[1])),
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss()(LOGITS, torch.tensor([1])), (1, 1, CHANCES[1])),
    "label smoothing": (
        lambda: F.cross_entropy(LOGITS, torch.tensor([0]), label_smoothing=0.1),
        (0, 1, CHANCES[1]),
    ),
    "keywords": (lambda: F.cross_entropy(target=torch.tensor([2]), input=LOGITS), (2, 1, CHANCES[1])),
    "nll_loss": (lambda: F.nll_loss(LOGITS.log_softmax(1), torch.tensor([2])), (2, 1, CHANCES[1])),
    "NLLLoss": (lambda: nn.NLLLoss()(LOGITS.log_softmax(1), torch.tensor([1])), (1, 1, CHANCES[1])),
    "bce": (lambda: F.binary_cross_entropy(torch.tensor([[0.8]]), torch.tensor([[0.0]])), (0, 1, 0.8)),
    "bce below a half": (lambda: F.binary_cross_entropy(torch.tensor([0.25]), torch.tensor([1.0])), (1, 0, 0.75)),
    "bce_with_logits": (
        lambda: F.binary_cross_entropy_with_logits(torch.tensor([-2.0]), torch.tensor([1.0])),
        (1, 0, 1 / (1 + np.exp(-2))),
    ),
    "BCEWithLogitsLoss": (
        lambda: nn.BCEWithLogitsLoss()(torch.tensor([[3.0]]), torch.tensor([[1.0]])),
        (1, 1, 1 / (1 + np.exp(-3))),
    ),
    "beside a regression": (
        lambda: F.cross_entropy(LOGITS, torch.tensor([2])) + F.mse_loss(LOGITS, LOGITS),
        (2, 1, CHANCES[1]),
    ),
}


@pytest.mark.parametrize("case", CLASSIFIED)
def test_a_classifying_loss_says_class_prediction_and_probability(case):
    function, (label, prediction, probability) = CLASSIFIED[case]
    got = classification(calls_of(function))
    assert got[:2] == (label, prediction)
    assert got[2] == pytest.approx(probability, rel=1e-6)


UNCLASSIFIED = {
    "no loss": lambda: LOGITS.sum(),
    "regression": lambda: F.mse_loss(LOGITS, torch.zeros(1, 3)),
    "sequence logits": lambda: F.cross_entropy(torch.zeros(1, 5, 7), torch.zeros(1, 7, dtype=torch.int64)),
    "flattened sequence": lambda: F.cross_entropy(torch.zeros(7, 5), torch.zeros(7, dtype=torch.int64)),
    "segmentation": lambda: F.cross_entropy(torch.zeros(1, 5, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)),
    "soft targets": lambda: F.cross_entropy(LOGITS, torch.tensor([[0.2, 0.3, 0.5]])),
    "soft targets of one class": lambda: F.cross_entropy(torch.zeros(1, 1), torch.ones(1, 1)),
    "two heads": lambda: [F.cross_entropy(LOGITS, torch.tensor([c])) for c in (1, 2)],
    "multi-label": lambda: F.binary_cross_entropy_with_logits(LOGITS, torch.tensor([[0.0, 1, 1]])),
    "soft binary target": lambda: F.binary_cross_entropy(torch.tensor([0.7]), torch.tensor([0.3])),
    "ignored target": lambda: F.cross_entropy(LOGITS, torch.tensor([-100])),
}


@pytest.mark.parametrize("case", UNCLASSIFIED)
def test_what_is_no_class_of_one_sample_is_not_called_one(case):
    assert classification(calls_of(UNCLASSIFIED[case])) == NOTHING


def test_watching_changes_no_loss():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    alone = F.cross_entropy(x, y)
    with LossCalls() as seen:
        watched = F.cross_entropy(x, y)
    assert torch.equal(alone, watched)
    ((function, arguments, result),) = seen.calls
    assert function is F.cross_entropy
    assert arguments["input"] is x
    assert arguments["reduction"] == "mean"
    assert result is watched
    F.cross_entropy(x, y)
    assert len(seen.calls) == 1


# pictures


def naive_picture(image: np.ndarray) -> np.ndarray:
    """(channels, height, width) to (height, width, 3), stretched to 0–255, pixel by pixel."""
    channels, height, width = image.shape
    low, high = min(image.flat), max(image.flat)
    result = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                value = image[0 if channels == 1 else c, y, x]
                result[y, x, c] = round(float((value - low) / (high - low) * 255))
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_stands_upright_and_is_stretched(channels):
    image = np.random.default_rng(0).normal(size=(channels, 5, 9))
    picture = thumbnail([torch.tensor(image)[None], torch.tensor([3])])
    assert (picture.shape, picture.dtype) == ((5, 9, 3), np.uint8)
    np.testing.assert_array_equal(picture, naive_picture(image))
    assert (picture.min(), picture.max()) == (0, 255)


def test_one_bright_pixel_is_where_it_was():
    image = torch.zeros(1, 3, 4, 7)
    image[0, 1, 0, 5] = 1  # green, first row, sixth column
    expected = np.zeros((4, 7, 3), np.uint8)
    expected[0, 5, 1] = 255
    np.testing.assert_array_equal(thumbnail(image), expected)


def test_the_fourth_channel_is_left_out():
    image = torch.rand(1, 4, 5, 6)
    image[:, 3] = 99
    np.testing.assert_array_equal(thumbnail(image), thumbnail(image[:, :3]))


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_a_constant_image_is_black(value):
    np.testing.assert_array_equal(thumbnail(torch.full((1, 1, 4, 5), value)), np.zeros((4, 5, 3)))


def test_pixels_that_are_not_finite_are_zero_and_spoil_nothing():
    image = torch.tensor([[0.0, 1, 2, 4], [np.nan, np.inf, -np.inf, 4], [0, 0, 0, 0], [4, 4, 4, 4]])[None, None]
    picture = thumbnail(image)[..., 0]
    assert picture.tolist() == [[0, 64, 128, 255], [0, 0, 0, 255], [0] * 4, [255] * 4]
    assert not thumbnail(torch.full((1, 1, 4, 4), float("nan"))).any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16, torch.bool])
def test_every_type_of_pixel_is_drawn(dtype):
    image = (torch.arange(20).reshape(1, 1, 4, 5) % 2).to(dtype)
    np.testing.assert_array_equal(thumbnail(image)[..., 0], 255 * (np.arange(20).reshape(4, 5) % 2))


def test_a_large_image_is_thinned_out():
    image = torch.rand(1, 1, 130, 70)
    image[0, 0, 0, 0], image[0, 0, 3, 3] = 0, 1  # the extremes are on the kept pixels
    picture = thumbnail(image)
    assert picture.shape == (44, 24, 3)
    np.testing.assert_array_equal(picture, naive_picture(image[0, :, ::3, ::3].double().numpy()))


@pytest.mark.parametrize(
    "data",
    [
        torch.rand(1, 20),
        torch.rand(1, 2, 8, 8),
        torch.rand(1, 8, 8, 3),
        torch.rand(1, 1, 3, 8),
        torch.rand(1, 3, 4, 8, 8),
        [torch.tensor([1]), torch.rand(1, 1, 8, 8)],
        {"label": 3},
        None,
        [],
    ],
)
def test_what_is_no_picture_has_none(data):
    assert thumbnail(data) is None


def test_the_picture_of_a_mapping_is_its_first_tensor():
    image = torch.rand(1, 1, 4, 6)
    np.testing.assert_array_equal(thumbnail({"name": "a", "image": image, "y": torch.rand(1)}), thumbnail(image))


# losses in one pass


class Head(nn.Module):
    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs))

    def forward(self, x):
        return self.body(x)


X = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0, 3])
TARGETS = torch.rand(7, 4, generator=torch.Generator().manual_seed(2))
SIGNS = 2 * TARGETS.round() - 1
STEPS = {
    F.cross_entropy: (lambda m, d: F.cross_entropy(m(d[0]), d[1]), CLASSES),
    F.nll_loss: (lambda m, d: F.nll_loss(m(d[0]).log_softmax(1), d[1]), CLASSES),
    F.binary_cross_entropy: (lambda m, d: F.binary_cross_entropy(m(d[0]).sigmoid(), d[1]), TARGETS.round()),
    F.binary_cross_entropy_with_logits: (
        lambda m, d: F.binary_cross_entropy_with_logits(m(d[0]), d[1]),
        TARGETS.round(),
    ),
    F.mse_loss: (lambda m, d: F.mse_loss(m(d[0]), d[1]), TARGETS),
    F.l1_loss: (lambda m, d: F.l1_loss(m(d[0]), d[1]), TARGETS),
    F.smooth_l1_loss: (lambda m, d: F.smooth_l1_loss(m(d[0]), d[1], beta=0.3), TARGETS),
    F.huber_loss: (lambda m, d: F.huber_loss(m(d[0]), d[1], delta=0.4), TARGETS),
    F.kl_div: (lambda m, d: F.kl_div(m(d[0]).log_softmax(1), d[1]), TARGETS),
    F.poisson_nll_loss: (lambda m, d: F.poisson_nll_loss(m(d[0]), d[1]), TARGETS),
    F.gaussian_nll_loss: (lambda m, d: F.gaussian_nll_loss(m(d[0]), d[1], d[1] + 0.1), TARGETS),
    F.soft_margin_loss: (lambda m, d: F.soft_margin_loss(m(d[0]), d[1]), SIGNS),
    F.multilabel_soft_margin_loss: (lambda m, d: F.multilabel_soft_margin_loss(m(d[0]), d[1]), TARGETS.round()),
    F.multi_margin_loss: (lambda m, d: F.multi_margin_loss(m(d[0]), d[1]), CLASSES),
    F.multilabel_margin_loss: (
        lambda m, d: F.multilabel_margin_loss(m(d[0]), d[1]),
        torch.stack([CLASSES, *[-1 + 0 * CLASSES] * 3], 1),
    ),
    F.hinge_embedding_loss: (lambda m, d: F.hinge_embedding_loss(m(d[0]), d[1]), SIGNS),
    F.margin_ranking_loss: (lambda m, d: F.margin_ranking_loss(m(d[0])[:, 0], m(d[0])[:, 1], d[1]), SIGNS[:, 0]),
    F.cosine_embedding_loss: (lambda m, d: F.cosine_embedding_loss(m(d[0]), d[0][:, :4], d[1]), SIGNS[:, 0]),
    F.triplet_margin_loss: (lambda m, d: F.triplet_margin_loss(m(d[0]), d[1], d[0][:, :4]), TARGETS),
}


def frozen(*tensors) -> FrozenData:
    """All samples as one batch, and each alone; the places in the data set are not 0, 1, …."""
    count = len(tensors[0])
    singles = [Batch(tuple(t[i : i + 1] for t in tensors), 1, sample=10 + 3 * i) for i in range(count)]
    return FrozenData([], count, "", "", Batch(tensors, count), singles)


def setting(step, *tensors, outputs=4, main="loss"):
    net = Head(outputs)
    snapshot = Snapshot.of(net)
    plane = Plane(snapshot.params, Random()(snapshot, 2))
    ours = copy.deepcopy(net).eval().requires_grad_(False)  # the snapshot views the tensors of `net`
    return Sequential(ours), LossFunction(step, main), plane, frozen(*tensors)


def table(evaluator, objective, plane, points, batches) -> np.ndarray:
    """Losses of shape (points, samples)."""
    with preserved():
        rows = list(evaluator(objective, plane, points, batches))
    assert all(list(row) == [str(i) for i in range(len(row))] for row in rows)
    return np.array([[measured.value for measured in row.values()] for row in rows])


def alone(evaluator, step, plane, points, data) -> np.ndarray:
    """The step on every sample alone, at weights written in by hand."""
    result = []
    net = evaluator.module
    for point in points:
        params = {
            n: t + point[0] * plane.directions[0][n] + point[1] * plane.directions[1][n]
            for n, t in plane.origin.items()
        }
        values = []
        for batch in data.singles:
            with torch.no_grad():
                losses = step(lambda x, p=params: torch.func.functional_call(net, p, (x,)), batch.data)
            values.append(float(losses.mean()))
        result.append(values)
    return np.array(result)


POINTS = np.array([[0.0, 0.0], [1.0, -0.5], [-0.3, 2.0]])


def test_every_mean_loss_is_tested():
    assert set(MEAN_LOSSES) == STEPS.keys()


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("function", MEAN_LOSSES, ids=lambda f: f.__name__)
def test_one_pass_equals_every_sample_alone(function):
    step, target = STEPS[function]
    evaluator, objective, plane, data = setting(step, X, target)
    expected = alone(evaluator, step, plane, POINTS, data)
    assert expected.std(axis=1).min() > 1e-3
    with preserved():
        each, batches = tile_stream(evaluator, objective, "loss", plane, data)
    assert batches == [data.together]
    np.testing.assert_allclose(table(evaluator, each, plane, POINTS, batches), expected, rtol=1e-5)


PASSED_TOGETHER = {
    "one value a sample": (lambda m, d: F.cross_entropy(m(d[0]), d[1], reduction="none"), CLASSES),
    "a loss of samples by hand": (lambda m, d: (m(d[0]) - d[1]).abs().sum(dim=1), TARGETS),
    "two calls, the last returned": (
        lambda m, d: (F.mse_loss(m(d[0]), d[1]), F.l1_loss(m(d[0]), d[1]))[1],
        TARGETS,
    ),
    "two calls, the first returned": (
        lambda m, d: (F.mse_loss(m(d[0]), d[1]), F.l1_loss(m(d[0]), d[1]))[0],
        TARGETS,
    ),
    "every pixel a class": (
        lambda m, d: F.cross_entropy(m(d[0]).reshape(-1, 2, 2), d[1]),
        (TARGETS[:, :2] > 0.5).long(),
    ),
}


@pytest.mark.parametrize("case", PASSED_TOGETHER)
def test_separable_losses_pass_together(case):
    step, target = PASSED_TOGETHER[case]
    evaluator, objective, plane, data = setting(step, X, target)
    with preserved():
        each, batches = tile_stream(evaluator, objective, "loss", plane, data)
    assert batches == [data.together]
    expected = alone(evaluator, step, plane, POINTS, data)
    np.testing.assert_allclose(table(evaluator, each, plane, POINTS, batches), expected, rtol=1e-5)


IGNORED = torch.tensor([[0, -100], [1, 1], [-100, 0], [1, 0], [0, 0], [1, -100], [0, 1]])
NOT_SEPARABLE = {
    "class weights": (
        lambda m, d: F.cross_entropy(m(d[0]), d[1], weight=torch.tensor([1.0, 2, 3, 4])),
        CLASSES,
    ),
    "regularised": (
        lambda m, d: F.mse_loss(m(d[0]), d[1]) + 0.1 * d[1].mean() + 1.0,
        TARGETS,
    ),
    "sum": (lambda m, d: F.mse_loss(m(d[0]), d[1], reduction="sum"), TARGETS),
    "root of the mean": (lambda m, d: F.mse_loss(m(d[0]), d[1]).sqrt(), TARGETS),
    "by hand": (lambda m, d: (m(d[0]) - d[1]).square().mean(), TARGETS),
    "two losses": (lambda m, d: F.mse_loss(m(d[0]), d[1]) + F.l1_loss(m(d[0]), d[1]), TARGETS),
    "ignored pixels": (lambda m, d: F.cross_entropy(m(d[0]).reshape(-1, 2, 2), d[1]), IGNORED),
    "statistics of the batch": (
        lambda m, d: F.mse_loss(m(d[0]) - m(d[0]).mean(dim=0), d[1]),
        TARGETS,
    ),
}


@pytest.mark.parametrize("case", NOT_SEPARABLE)
def test_losses_that_are_not_separable_take_every_sample_alone(case):
    step, target = NOT_SEPARABLE[case]
    evaluator, objective, plane, data = setting(step, X, target)
    with preserved():
        each, batches = tile_stream(evaluator, objective, "loss", plane, data)
    assert batches is data.singles
    expected = alone(evaluator, step, plane, POINTS, data)
    np.testing.assert_allclose(table(evaluator, each, plane, POINTS, batches), expected, rtol=1e-5)


def test_a_small_loss_is_no_reason_to_believe_that_it_is_separable():
    """Regression in small units: all losses are below 1e-6."""

    def step(m, d):
        z = 1e-3 * m(d[0])
        return F.mse_loss(z - z.mean(dim=0), 1e-3 * d[1])

    evaluator, objective, plane, data = setting(step, X, TARGETS)
    with preserved():
        _, batches = tile_stream(evaluator, objective, "loss", plane, data)
    assert batches is data.singles


def test_the_losses_of_a_batch_that_can_not_be_told_apart_are_an_error():
    evaluator, objective, plane, data = setting(*NOT_SEPARABLE["by hand"][:1], X, TARGETS)
    together = EachSample(objective, "loss", {id(data.together): list(range(7))})
    with preserved(), pytest.raises(NotSeparable, match=r"^$"):
        list(evaluator(together, plane, POINTS, [data.together]))


def test_a_loss_that_is_nan_at_the_tried_points_is_still_equal():
    def step(m, d):
        return F.mse_loss(m(d[0]), d[1])

    targets = TARGETS.clone()
    targets[2] = float("nan")
    evaluator, objective, plane, data = setting(step, X, targets)
    with preserved():
        each, batches = tile_stream(evaluator, objective, "loss", plane, data)
    got = table(evaluator, each, plane, POINTS, batches)
    np.testing.assert_allclose(got, alone(evaluator, step, plane, POINTS, data), rtol=1e-5)
    assert np.isnan(got[:, 2]).all()
    assert np.isfinite(np.delete(got, 2, axis=1)).all()


def test_samples_that_can_not_be_collated_are_taken_alone():
    evaluator, objective, plane, data = setting(STEPS[F.mse_loss][0], X, TARGETS)
    data = FrozenData([], 7, "", "", None, data.singles)
    each, batches = tile_stream(evaluator, objective, "loss", plane, data)
    assert batches is data.singles
    expected = alone(evaluator, STEPS[F.mse_loss][0], plane, POINTS, data)
    np.testing.assert_allclose(table(evaluator, each, plane, POINTS, batches), expected, rtol=1e-5)


# what is known of each sample


def test_every_sample_is_described_at_the_origin():
    images = torch.rand(7, 1, 4, 6)

    def step(m, d):
        return {"val_loss": F.cross_entropy(m(d[0].flatten(1)[:, :6]), d[1]), "other": 1.0}

    evaluator, _, plane, data = setting(step, images, CLASSES)
    with preserved():
        items = describe(evaluator, LossFunction(step), "val_loss", plane, data.singles)
    params = {n: t.double().numpy() for n, t in plane.origin.items()}
    assert [item.index for item in items] == [10, 13, 16, 19, 22, 25, 28]
    for i, item in enumerate(items):
        x = images[i].double().numpy().reshape(-1)[:6]
        hidden = np.tanh(params["body.0.weight"] @ x + params["body.0.bias"])
        z = params["body.2.weight"] @ hidden + params["body.2.bias"]
        chances = np.exp(z) / np.exp(z).sum()
        assert item.label == CLASSES[i]
        assert item.prediction == chances.argmax()
        assert item.probability == pytest.approx(chances.max(), rel=1e-5)
        assert item.center == pytest.approx(-np.log(chances[CLASSES[i]]), rel=1e-5)
        np.testing.assert_array_equal(item.thumbnail, naive_picture(images[i].double().numpy()))


def test_samples_of_a_regression_have_a_loss_only():
    step, target = STEPS[F.mse_loss]
    evaluator, objective, plane, data = setting(step, X, target)
    with preserved():
        items = describe(evaluator, objective, "loss", plane, data.singles)
    assert all((i.label, i.prediction, i.probability, i.thumbnail) == (None,) * 4 for i in items)
    np.testing.assert_allclose([i.center for i in items], alone(evaluator, step, plane, POINTS[:1], data)[0], rtol=1e-5)
