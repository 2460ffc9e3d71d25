"""Models affine in the point: equal to Sequential where they are, declined where they are not.

The contract of all evaluators is in test_evaluators.py. Expected values: the plain formula in numpy, and Sequential.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_landscape import Grid
from lightning_landscape.evaluators import Affine, Sequential, find_affine
from lightning_landscape.evaluators.affine import affine as affine_file
from lightning_landscape.evaluators.affine import cross_entropy as maths
from lightning_landscape.evaluators.affine import recording
from lightning_landscape.evaluators.affine.closed_form import ClosedForm
from lightning_landscape.evaluators.affine.replay import candidates
from lightning_landscape.evaluators.affine.settings import DEFAULT, AffineSettings
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction, Objective, Observation
from lightning_landscape.objectives.criterion import ACCURACY, LOSS, Criterion
from lightning_landscape.objectives.lightning_step import LoggedValues, StepObjective
from lightning_landscape.trainer.tiles import EachSample
from lightning_landscape.weights.plane import Plane

CLASSES, FEATURES = 4, 6
RTOL = {torch.float64: 1e-12, torch.float32: 1e-6}


def data(dtype, sizes=(20, 20, 20, 7), shape=(FEATURES,)) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    draw = lambda n: torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    return [Batch((draw(n), torch.randint(CLASSES, (n,), generator=generator)), n, i) for i, n in enumerate(sizes)]


def plane_of(net, k=2, moves=lambda name: True, scale=0.7) -> Plane:
    generator = torch.Generator().manual_seed(5)
    origin = {n: p.detach().clone() for n, p in net.named_parameters() if moves(n)}
    noise = lambda p: scale * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)  # noqa: E731
    return Plane(origin, tuple({n: noise(p) for n, p in origin.items()} for _ in range(k)))


def grid_points(k=2, low=-1.0, high=1.5) -> np.ndarray:
    grid = Grid.from_ranges(*[(low, high, n) for n in (7, 5, 4)[:k]])
    return grid.points[grid.outwards]


def compare(objective, net, plane, points, batches, dtype=torch.float64, settings=DEFAULT, **options):
    """The values of `Affine`, after they are compared with those of `Sequential`; and the evaluator."""
    objective = objective if isinstance(objective, Objective) else LossFunction(objective)
    evaluator = Affine(Sequential(copy.deepcopy(net).eval(), **options), settings)
    with preserved():
        got = list(evaluator(objective, plane, points, batches))
        want = list(Sequential(copy.deepcopy(net).eval(), **options)(objective, plane, points, batches))
    assert [list(row) for row in got] == [list(row) for row in want]
    for name in want[0]:
        values, errors = (np.array([[r[name][i] for r in rows] for rows in (got, want)]) for i in (0, 1))
        np.testing.assert_allclose(*values, rtol=RTOL[dtype], atol=RTOL[dtype] / 10, err_msg=name)
        np.testing.assert_allclose(*errors, rtol=1e3 * RTOL[dtype], atol=10 * RTOL[dtype], err_msg=name)
    return {name: np.array([row[name].value for row in got]) for name in got[0]}, evaluator


def cross_entropy(**options):
    return lambda net, batch: F.cross_entropy(net(batch[0]), batch[1], **options)


@pytest.fixture
def linear(dtype):
    return nn.Linear(FEATURES, CLASSES).to(dtype)


# the closed form


def test_it_is_the_plain_formula(linear, dtype):
    """Acceptance number 1: log-sum-exp on precomputed scores."""
    batches, plane, points = data(dtype), plane_of(linear), grid_points()
    got, evaluator = compare(cross_entropy(), linear, plane, points, batches, dtype)
    x = torch.cat([b.data[0] for b in batches]).double().numpy()
    y = torch.cat([b.data[1] for b in batches]).numpy()
    z0, z1, z2 = (
        x @ p["weight"].double().numpy().T + p["bias"].double().numpy() for p in (plane.origin, *plane.directions)
    )
    for (a, b), value in zip(points, got["loss"], strict=True):
        z = z0 + a * z1 + b * z2
        losses = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y]
        assert value == pytest.approx(losses.mean(), rel=RTOL[dtype])
    assert evaluator.method == "closed form"


def test_few_passes_and_no_more(linear, dtype):
    calls = []

    def counted(net, batch):
        calls.append(len(batch[1]))
        return F.cross_entropy(net(batch[0]), batch[1])

    evaluator = Affine(Sequential(linear.requires_grad_(False)))
    with preserved():
        list(evaluator(LossFunction(counted), plane_of(linear), grid_points(), data(dtype)))
    passes_over_all, trial, rehearsals = 4 * 4, 4 + 3 + 1, 2  # the other three corners, and a point between the axes
    assert len(calls) == passes_over_all + trial + rehearsals


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"weight": torch.tensor([0.2, 3.0, 1.0, 0.5])},
        {"weight": torch.tensor([0.2, 0.0, 1.0, 0.5]), "label_smoothing": 0.2},
        {"ignore_index": 2},
        {"ignore_index": 2, "weight": torch.tensor([0.2, 3.0, 1.0, 0.5]), "label_smoothing": 0.2},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"reduction": "none", "weight": torch.tensor([0.2, 3.0, 1.0, 0.5])},
    ],
    ids=lambda options: "-".join(options),
)
def test_arguments_of_the_loss(linear, dtype, options, k):
    options = {n: v.to(dtype) if isinstance(v, torch.Tensor) else v for n, v in options.items()}
    points = grid_points(k)
    _, evaluator = compare(cross_entropy(**options), linear, plane_of(linear, k), points, data(dtype), dtype)
    assert evaluator.method == "closed form"


@pytest.mark.parametrize("weight", [None, [0.2, 3.0, 1.0, 0.5]])
def test_targets_that_are_probabilities(linear, dtype, weight):
    batches = [
        Batch((b.data[0], F.one_hot(b.data[1], CLASSES).to(dtype) * 0.7 + 0.05), b.size, b.index) for b in data(dtype)
    ]
    loss = cross_entropy(label_smoothing=0.1, weight=weight and torch.tensor(weight, dtype=dtype))
    _, evaluator = compare(loss, linear, plane_of(linear), grid_points(), batches, dtype)
    assert evaluator.method == "closed form"


def test_a_loss_of_every_pixel(dtype):
    """A head of a segmentation net: scores (B, C, height, width), a class to ignore."""
    net = nn.Conv2d(3, CLASSES, 1).to(dtype)
    batches = []
    for i, n in enumerate((4, 3)):
        generator = torch.Generator().manual_seed(i)
        x = torch.randn(n, 3, 5, 6, generator=generator, dtype=dtype)
        y = torch.randint(CLASSES, (n, 5, 6), generator=generator)
        y[:, 0] = 255
        batches.append(Batch((x, y), n, i))
    _, evaluator = compare(cross_entropy(ignore_index=255), net, plane_of(net), grid_points(), batches, dtype)
    assert evaluator.method == "closed form"


@pytest.mark.parametrize("width", [3.0, 100.0, 3000.0])
def test_wide_ranges_do_not_underflow(linear, dtype, width):
    """Factors of e^±1000: the samples that do not fit are summed with their greatest margin taken out."""
    points = grid_points(low=-width, high=width)
    got, evaluator = compare(cross_entropy(), linear, plane_of(linear), points, data(dtype), dtype)
    assert evaluator.method == "closed form"
    assert np.isfinite(got["loss"]).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_term_that_underflows_beside_a_large_one(dtype, sign):
    """exp(−d) · exp(d) counts, where exp(−d) alone is lost: d = 90 in float32, 750 in float64."""
    large = {torch.float32: 90.0, torch.float64: 750.0}[dtype]
    ends = torch.tensor([-large, large], dtype=dtype) * sign
    ends = ends.sort().values
    parts = torch.tensor([[[0.0, 0.0]], [[0.0, sign]], [[0.0, sign]]], dtype=dtype)
    call = {
        "target": torch.tensor([0]), "weight": None, "ignore_index": -100, "reduction": "sum", "label_smoothing": 0.0,
    }  # fmt: skip
    got = maths.margins(parts, call).totals(maths.Product(ends[:, None], ends))[0]
    log2 = np.log(2)
    np.testing.assert_allclose(got, [0, log2, log2, 2 * large][:: int(sign)], rtol=RTOL[dtype], atol=1e-12)


def test_samples_without_weight_count_nothing_wherever_their_scores_are():
    """All their scores may be so low that their exponentials are 0."""
    net = nn.Linear(FEATURES, CLASSES).double()
    with torch.no_grad():
        net.bias -= 2000
    loss = cross_entropy(weight=torch.tensor([0.2, 0.0, 1.0, 0.5], dtype=torch.float64))
    plane = plane_of(net, moves=lambda name: name == "weight")
    assert compare(loss, net, plane, grid_points(), data(torch.float64))[1].method == "closed form"


def test_many_sums_are_multiplied_only_where_they_fit(dtype):
    parts = torch.zeros(3, 64, 2, dtype=dtype)
    parts[0, :, 1] = 0.4 * maths.ceiling(dtype) / 0.45  # 0.4 of the greatest logarithm: two fit, three do not
    call = {
        "target": torch.zeros(64, dtype=torch.int64), "weight": None, "ignore_index": -100, "reduction": "mean",
        "label_smoothing": 0.0,
    }  # fmt: skip
    got = maths.margins(parts, call).totals(maths.Product(torch.zeros(1, 1, dtype=dtype), torch.zeros(1, dtype=dtype)))[
        0
    ]
    np.testing.assert_allclose(got, [float(parts[0, 0, 1])], rtol=RTOL[dtype])


@pytest.mark.parametrize("size", [1, 6, 8, 40])
@pytest.mark.parametrize("large", [1.0, 200.0], ids=["all are safe", "some are not"])
def test_batches_that_are_computed_together_keep_their_own_sums(size, large, monkeypatch, dtype):
    monkeypatch.setattr(maths, "CACHED_NUMBERS", 24 * 15)  # chunks of 24 samples: of parts of batches, and of several
    generator = np.random.default_rng(size)
    parts = generator.normal(size=(3, 5 * size, CLASSES))
    parts[:, ::3] *= large
    labels = generator.integers(CLASSES, size=5 * size)
    call = {
        "target": torch.as_tensor(labels), "weight": None, "ignore_index": -100, "reduction": "mean",
        "label_smoothing": 0.0,
    }  # fmt: skip
    points = maths.Product(torch.tensor([[-0.5], [0.0], [1.0]], dtype=dtype), torch.linspace(-1, 1, 5, dtype=dtype))
    got = maths.margins(torch.as_tensor(parts).to(dtype), call, batches=5).totals(points)
    assert got.shape == (5, 15)
    for (a, b), column in zip(points.points().tolist(), got.T, strict=True):
        z = parts[0] + a * parts[1] + b * parts[2]
        losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), labels]
        np.testing.assert_allclose(column, losses.reshape(5, size).mean(axis=1), rtol=3 * RTOL[dtype], atol=RTOL[dtype])


@pytest.mark.parametrize("options", [{}, {"ignore_index": 3}, {"weight": torch.tensor([0.2, 3.0, 1.0, 0.5])}])
def test_many_small_batches(linear, dtype, options):
    """The standard errors are those of the spread of the batches, however these are joined."""
    options = {n: v.to(dtype) if isinstance(v, torch.Tensor) else v for n, v in options.items()}

    def step(net, batch):
        scores = net(batch[0])
        hits = (scores.argmax(1) == batch[1]).to(dtype)
        return {"loss": F.cross_entropy(scores, batch[1], **options), "acc": hits.mean()}

    batches = data(dtype, (6, 6, 6, 6, 2, 6, 6, 6, 3))
    batches[1] = Batch(batches[1].data, 9, 1)  # weighs more than its rows
    _, evaluator = compare(step, linear, plane_of(linear), grid_points(), batches, dtype)
    assert evaluator.method == "closed form"


def test_any_points_in_any_order(linear, dtype, points):
    shuffled = np.random.default_rng(0).permutation(grid_points())
    for some in (points, shuffled, shuffled[::2], np.concatenate([shuffled[:6], shuffled[:3]])):
        assert compare(cross_entropy(), linear, plane_of(linear), some, data(dtype), dtype)[1].method == "closed form"


def test_many_points_come_in_blocks(linear, dtype, monkeypatch):
    settings = AffineSettings(numbers_at_once=67 * CLASSES * 6)  # six points at a time
    asked = []
    form = ClosedForm.__call__

    def counted(self, block):
        asked.append(len(block) if isinstance(block, torch.Tensor) else len(block.points()))
        return form(self, block)

    monkeypatch.setattr(ClosedForm, "__call__", counted)
    stream = Affine(Sequential(copy.deepcopy(linear)), settings)(
        LossFunction(cross_entropy()), plane_of(linear), grid_points(), data(dtype)
    )
    with preserved():
        next(stream)
    assert asked == [1, 6] or (len(asked) == 2 and asked[1] <= 6), "the proof, and the block of the first point"
    monkeypatch.undo()
    compare(cross_entropy(), linear, plane_of(linear), grid_points(), data(dtype), dtype, settings)


def test_what_was_measured_keeps_its_bits(linear, dtype):
    points, batches, plane = grid_points(), data(dtype), plane_of(linear)
    origin = [i for i, point in enumerate(points) if not point.any()] or [0]
    points[origin[0]] = 0
    got, _ = compare(cross_entropy(), linear, plane, points, batches, dtype)
    with preserved():
        alone = next(iter(Sequential(linear.requires_grad_(False))(
            LossFunction(cross_entropy()), plane, np.zeros((1, 2)), batches
        )))  # fmt: skip
    assert got["loss"][origin[0]] == alone["loss"].value


# metrics beside the loss


def test_a_criterion_with_its_accuracy(linear, dtype):
    got, evaluator = compare(
        Criterion(nn.CrossEntropyLoss()), linear, plane_of(linear), grid_points(), data(dtype), dtype
    )
    assert evaluator.method == "closed form"
    assert list(got) == [LOSS, ACCURACY]
    assert len(set(got[ACCURACY])) > 5


class Stepper(nn.Module):
    """A step that logs, as a LightningModule's does."""

    def __init__(self, net, step):
        super().__init__()
        self.net, self.function = net, step

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return self.function(self, batch)


def step_compared(step, net, points, batches, dtype, **options):
    """`compare` for a step; its objective is bound to its module, so that this is not copied."""
    module, recorder = Stepper(net, step).eval().requires_grad_(False), LoggedValues()
    module.log = recorder.log
    objective = StepObjective(module, "training_step", recorder, "train_loss")
    plane = plane_of(module, **options)
    evaluator = Affine(Sequential(module))
    with preserved():
        got = list(evaluator(objective, plane, points, batches))
        want = list(Sequential(module)(objective, plane, points, batches))
    assert [list(row) for row in got] == [list(row) for row in want]
    for name in want[0]:
        pairs = [[row[name].value for row in rows] for rows in (got, want)]
        rtol = RTOL[torch.float32 if name == "acc" else dtype]  # the step takes the mean of an accuracy in float32
        np.testing.assert_allclose(*pairs, rtol=rtol, atol=RTOL[dtype], err_msg=name)
    return evaluator, {name: [row[name].value for row in got] for name in got[0]}


def usual_step(self, batch):
    x, y = batch
    logits = self(x)
    loss = F.cross_entropy(logits, y)
    self.log("train_loss", loss)
    self.log("acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)
    return loss


def test_a_step_that_logs_its_loss_and_accuracy(linear, dtype):
    evaluator, values = step_compared(usual_step, linear, grid_points(), data(dtype), dtype)
    assert evaluator.method == "closed form"
    assert list(values) == ["train_loss", "acc", "train_loss_logged"]


def test_any_other_metric_comes_by_the_users_own_code(linear, dtype):
    def step(self, batch):
        loss = usual_step(self, batch)
        self.log("confidence", self(batch[0]).softmax(1).amax(1).mean())
        self.log("worst", F.cross_entropy(self(batch[0]), batch[1], reduction="none").max(), reduce_fx="max")
        return loss

    evaluator, values = step_compared(step, linear, grid_points(), data(dtype), dtype)
    assert evaluator.method == "replay"
    assert set(values) >= {"train_loss", "acc", "confidence", "worst"}


def test_an_accuracy_that_never_changes_is_not_believed(linear, dtype):
    """It may be anything: here the share of finite losses."""

    def share(net, batch):
        loss = F.cross_entropy(net(batch[0]), batch[1])
        return {"loss": loss, "finite": loss.isfinite().to(dtype)}

    for batch in (batches := data(dtype)):
        batch.data[1][:] = 0
    net = copy.deepcopy(linear)
    net.bias.data[0] += 1000
    _, evaluator = compare(share, net, plane_of(net), grid_points(), batches, dtype)
    assert evaluator.method == "replay"


def test_a_metric_of_the_whole_set(linear, dtype):
    class Whole(Objective):
        def start(self):
            self.all = []

        def __call__(self, module, batch):
            logits = module(batch.data[0])
            self.all.append(logits)
            return {"loss": Observation(F.cross_entropy(logits, batch.data[1]), batch.size)}

        def finish(self):
            return {"spread": float(torch.cat(self.all).std())}

    got, evaluator = compare(Whole(), linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "replay"
    assert list(got) == ["loss", "spread"]


def test_tiles_of_single_samples(linear, dtype):
    """Ten samples in one batch, whose losses are told apart; and each alone."""
    (batch,) = data(dtype, sizes=(10,))
    singles = [Batch((batch.data[0][i : i + 1], batch.data[1][i : i + 1]), 1, sample=i) for i in range(10)]
    objective = LossFunction(cross_entropy())
    together = EachSample(objective, "loss", {id(batch): list(range(10))})
    alone = EachSample(objective, "loss", {id(b): [i] for i, b in enumerate(singles)})
    for tiles, batches in ((together, [batch]), (alone, singles)):
        got, evaluator = compare(tiles, linear, plane_of(linear), grid_points(), batches, dtype)
        assert evaluator.method == "closed form"
        assert list(got) == [str(i) for i in range(10)]


def test_of_equal_scores_the_first_is_the_prediction():
    """As in argmax: classes whose weights and directions are all zero are equal everywhere."""
    grid = maths.Product(torch.zeros(1, 1), torch.tensor([-1.0, 0.0, 1.0]))
    for label, hits in ((0, 1.0), (1, 0.0), (-100, 0.0), (2, 0.0)):
        for where in (grid, grid.points()):
            got = maths.correct(torch.zeros(3, 1, 2), torch.tensor([label]), where)
            assert got.tolist() == [hits] * 3


# frozen backbones


class Backbone(nn.Module):
    """Convolution, batch norm, dropout; counts its calls."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, FEATURES, 2), nn.BatchNorm2d(FEATURES), nn.Dropout(0.5)
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.1, 0.3)
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        return self.drop(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


class Fine(nn.Module):
    """A head on a backbone."""

    def __init__(self, head):
        super().__init__()
        self.backbone, self.head = Backbone().requires_grad_(False), head

    def forward(self, x):
        return self.head(self.backbone(x))


def fine(head, dtype):
    return Fine(head).to(dtype), data(dtype, shape=(1, 4, 5))


def head_moves(name):
    return "head" in name


def backbone_calls(objective, net, batches, points):
    net = copy.deepcopy(net).eval().requires_grad_(False)
    evaluator = Affine(Sequential(net))
    with preserved():
        list(evaluator(LossFunction(objective), plane_of(net, moves=head_moves), points, batches))
    return len(net.backbone.calls)


def test_a_linear_head_on_a_frozen_backbone(dtype):
    net, batches = fine(nn.Linear(FEATURES, CLASSES), dtype)
    plane = plane_of(net, moves=head_moves)
    _, evaluator = compare(cross_entropy(), net, plane, grid_points(), batches, dtype)
    assert evaluator.method == "closed form"
    assert backbone_calls(cross_entropy(), net, batches, grid_points()) < 7 * len(batches) < 35 * len(batches)


def focal(net, batch):
    chance = net(batch[0]).softmax(1)[torch.arange(len(batch[1])), batch[1]]
    return (-((1 - chance) ** 2) * chance.log()).mean()


def penalised(net, batch):
    return F.cross_entropy(net(batch[0]), batch[1]) + 0.1 * net.head.weight.square().sum()


@pytest.mark.parametrize("loss", [focal, penalised])
def test_other_losses_skip_the_forward(loss, dtype):
    net, batches = fine(nn.Linear(FEATURES, CLASSES), dtype)
    plane = plane_of(net, moves=head_moves)
    _, evaluator = compare(loss, net, plane, grid_points(), batches, dtype)
    assert evaluator.method == "replay"
    assert backbone_calls(loss, net, batches, grid_points()) < 12 * len(batches)


def test_a_head_that_is_not_affine_still_has_its_features_once(dtype):
    head = nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    net, batches = fine(head, dtype)
    plane = plane_of(net, moves=head_moves)
    _, evaluator = compare(cross_entropy(), net, plane, grid_points(), batches, dtype)
    assert evaluator.method == "replay"
    assert backbone_calls(cross_entropy(), net, batches, grid_points()) < 15 * len(batches)


def test_outputs_that_a_step_edits(dtype):
    def edited(net, batch):
        logits = net(batch[0])
        logits *= 0.5
        features = net.backbone(batch[0] + 1)  # another call than that of net
        features += 1
        return F.cross_entropy(logits, batch[1]) + features.mean()

    net, batches = fine(nn.Linear(FEATURES, CLASSES), dtype)
    _, evaluator = compare(edited, net, plane_of(net, moves=head_moves), grid_points(), batches, dtype)
    assert evaluator.method == "replay"


def test_a_module_is_left_with_its_own_forward(dtype):
    net, batches = fine(nn.Linear(FEATURES, CLASSES), dtype)
    net.head.forward = own = net.head.forward
    evaluator = Affine(Sequential(net.eval().requires_grad_(False)))
    stream = evaluator(LossFunction(focal), plane_of(net, moves=head_moves), grid_points(), batches)
    with preserved():
        next(stream)
        next(stream)
    assert evaluator.method == "replay"
    assert [vars(part).get("forward") for part in net.modules()].count(own) == 1
    assert sum("forward" in vars(part) for part in net.modules()) == 1


# what is not affine


def test_a_network_is_declined_and_the_closed_form_of_it_would_be_another_function(net, plane, points, batches, dtype):
    _, evaluator = compare(cross_entropy(), net, plane, points, batches, dtype)
    assert evaluator.method == ""
    assert "constant or affine" in evaluator.declined
    x, y = (torch.cat([b.data[i] for b in batches]) for i in (0, 1))
    net.eval()

    def scores(point):
        return torch.func.functional_call(net, plane.at(point), (x,)).detach()

    z = scores([0.0, 0.0])
    parts = torch.stack([z, scores([1.0, 0.0]) - z, scores([0.0, 1.0]) - z])
    call = {"target": y, "weight": None, "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
    closed = maths.margins(parts, call).totals(torch.as_tensor(points).to(dtype))[0]
    true = np.array([float(F.cross_entropy(scores(point), y)) for point in points])
    assert np.abs(closed.numpy() - true).max() > 0.1
    assert closed[4] == pytest.approx(true[4], rel=1e-5)  # the origin


def test_a_bend_far_out_is_seen(linear, dtype):
    def clamped(net, batch):
        return F.cross_entropy(net(batch[0]).clamp(-8, 8), batch[1])

    near, far = grid_points(low=-0.5, high=0.5), grid_points(low=-0.5, high=5)
    batches = data(dtype)
    assert compare(clamped, linear, plane_of(linear), near, batches, dtype)[1].method == "closed form"
    assert compare(clamped, linear, plane_of(linear), far, batches, dtype)[1].method != "closed form"


def test_one_batch_of_another_kind_is_seen(linear, dtype):
    """The smallest batch, on which it is tried, is affine; another is not."""

    def branching(net, batch):
        logits = net(batch[0])
        return F.cross_entropy(logits if len(batch[1]) < 20 else logits.tanh(), batch[1])

    _, evaluator = compare(branching, linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "replay"  # the module itself is affine


def test_noise_that_all_points_share_is_part_of_the_function(linear, dtype):
    def noisy(net, batch):
        return F.cross_entropy(net(F.dropout(batch[0], 0.3, training=True)), batch[1])

    _, evaluator = compare(noisy, linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "closed form"


def test_noise_that_differs_between_points_is_declined(linear, dtype):
    generator = torch.Generator().manual_seed(0)  # nobody starts it anew

    def noisy(net, batch):
        x = batch[0]
        return F.cross_entropy(net(x + torch.randn(x.shape, generator=generator, dtype=dtype)), batch[1])

    evaluator = Affine(Sequential(linear.requires_grad_(False)))
    with preserved():
        list(evaluator(LossFunction(noisy), plane_of(linear), grid_points(), data(dtype)))
    assert evaluator.method == ""


def test_noise_behind_a_model_that_draws_too_is_declined(dtype):
    """Without the model's own draws the step would get others."""

    class Drawing(nn.Linear):
        def forward(self, x):
            return super().forward(x * torch.rand(x.shape, dtype=x.dtype))

    def noisy(net, batch):
        return (net(batch[0]) + torch.rand(CLASSES, dtype=dtype)).square().mean()

    net = Drawing(FEATURES, CLASSES).to(dtype)
    _, evaluator = compare(noisy, net, plane_of(net), grid_points(), data(dtype), dtype)
    assert evaluator.method == ""
    assert "off by" in evaluator.declined


def test_half_precision_is_declined():
    net = nn.Linear(FEATURES, CLASSES).bfloat16()
    _, evaluator = compare(cross_entropy(), net, plane_of(net), grid_points(), data(torch.bfloat16), torch.float64)
    assert evaluator.method == ""


def test_targets_that_depend_on_the_point_are_declined(linear, dtype):
    def own_labels(net, batch):
        logits = net(batch[0])
        return F.cross_entropy(logits, logits.argmax(1))

    _, evaluator = compare(own_labels, linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "replay"


def test_several_losses_are_not_taken_for_one(linear, dtype):
    def two(net, batch):
        logits = net(batch[0])
        return F.cross_entropy(logits, batch[1]) + 0.1 * F.cross_entropy(-logits, batch[1])

    _, evaluator = compare(two, linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "replay"


def test_too_much_to_keep_is_declined(linear, dtype):
    settings = AffineSettings(trial_bytes=100)
    _, evaluator = compare(cross_entropy(), linear, plane_of(linear), grid_points(), data(dtype), dtype, settings)
    assert evaluator.method == ""
    assert evaluator.declined == "there is too much to keep in memory"


def test_what_the_machine_has_no_room_for_is_declined(linear, dtype):
    settings = AffineSettings(max_bytes=5000)
    _, evaluator = compare(cross_entropy(), linear, plane_of(linear), grid_points(), data(dtype), dtype, settings)
    assert evaluator.declined == "there is too much to keep in memory"


def test_a_quarter_of_the_free_memory_is_available_and_2_gib_at_most(monkeypatch):
    cpu, elsewhere = torch.device("cpu"), torch.device("meta")
    assert 0 < recording.available_bytes(cpu, 2**31) <= recording.available_bytes(elsewhere, 2**31) == 2**31
    if sys.platform == "linux":
        monkeypatch.setattr(Path, "read_text", lambda path: "MemTotal: 9 kB\nMemAvailable: 4000 kB\n")
        assert recording.available_bytes(cpu, 2**31) == 1000 * 1024
    sizes = {"mem_get_info": (500, 9000), "memory_reserved": 400, "memory_allocated": 100}  # 300 are cached
    for name, size in sizes.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, size=size: size)
    assert recording.available_bytes(torch.device("cuda"), 2**31) == 200


def test_a_linear_classifier_of_60000_images_has_room():
    """The largest benchmark."""
    net, batches = nn.Linear(1, 10).requires_grad_(False), []
    for i in range(6):
        batches.append(Batch((torch.randn(10_000, 1), torch.arange(10_000) % 10), 10_000, i))
    evaluator = find_affine(Sequential(net), LossFunction(cross_entropy()), plane_of(net), batches, grid_points())
    assert evaluator is not None
    with preserved():
        next(evaluator(LossFunction(cross_entropy()), plane_of(net), grid_points(), batches))
    assert evaluator.method == "closed form"


def test_graphs_and_the_rest_of_a_memory_are_not_kept(linear, dtype):
    """Of a step that needs autograd, and scores that are a part of a large tensor."""

    def step(net, batch):
        scores = torch.cat([net(batch[0])] * 50)[: len(batch[1])]
        return F.cross_entropy(scores, batch[1])

    own = recording.Recording(LossFunction(step), max_bytes=10_000)
    own.start()
    own(linear, data(dtype)[0])
    (seen,) = own.seen
    ((_, arguments, result),) = seen.losses
    kept = [seen.observations["loss"].value, result, arguments["input"]]
    assert not any(tensor.requires_grad for tensor in kept)
    assert sum(tensor.untyped_storage().nbytes() for tensor in kept) <= 10_000 - own.free_bytes


def test_the_sums_of_tiny_batches_are_of_few_points_at_once(dtype, monkeypatch):
    """There are as many sums as batches, at each point."""
    net, batches = nn.Linear(FEATURES, CLASSES).to(dtype), data(dtype, (1,) * 50)
    settings = AffineSettings(numbers_at_once=128 * 50 * 6)  # six points at a time, not 6 * 128 / 4
    asked = []
    totals = maths.Margins.totals

    def counted(self, points):
        result = totals(self, points)
        asked.append(result.shape)
        return result

    monkeypatch.setattr(maths.Margins, "totals", counted)
    _, evaluator = compare(cross_entropy(), net, plane_of(net), grid_points(), batches, dtype, settings)
    assert evaluator.method == "closed form"
    assert max(points for _, points in asked) <= 6
    assert {count for count, _ in asked} == {50}


def test_an_error_comes_at_its_own_point(linear, dtype):
    points = grid_points()

    def strict(net, batch):
        if net.weight[0, 0] > wall:
            raise ValueError("too heavy")
        return F.cross_entropy(net(batch[0]), batch[1])

    plane = plane_of(linear)
    weights = [float(plane.at(point)["weight"][0, 0]) for point in points]
    wall = sorted(weights)[-2]
    evaluator = Affine(Sequential(linear.requires_grad_(False)))
    stream = evaluator(LossFunction(strict), plane, points, data(dtype))
    with preserved():
        for _ in range(weights.index(max(weights))):
            next(stream)
        with pytest.raises(ValueError, match="too heavy"):
            next(stream)


def test_losses_that_are_not_finite_are_measured(dtype):
    net = nn.Linear(FEATURES, CLASSES).to(dtype)
    batches = data(dtype)
    batches[0].data[0][0, 0] = float("inf")
    with preserved():
        got = list(Affine(Sequential(net.requires_grad_(False)))(
            LossFunction(cross_entropy()), plane_of(net), grid_points(), batches
        ))  # fmt: skip
    assert not np.isfinite([row["loss"].value for row in got]).any()


def test_a_value_that_is_not_finite_is_measured(linear, dtype, monkeypatch):
    """Whatever the closed form could not do at one point."""
    form = ClosedForm.__call__

    def broken(self, block):
        columns = form(self, block)
        if len(columns["loss"][0]) > 1:
            columns["loss"][0][3] = np.nan
        return columns

    monkeypatch.setattr(ClosedForm, "__call__", broken)
    _, evaluator = compare(cross_entropy(), linear, plane_of(linear), grid_points(), data(dtype), dtype)
    assert evaluator.method == "closed form"


def test_parameters_that_processes_share_are_declined(linear, dtype, monkeypatch):
    monkeypatch.setattr(affine_file, "is_sharded", lambda module: True)
    evaluator = Affine(Sequential(linear.requires_grad_(False)))
    with preserved():
        list(evaluator(LossFunction(cross_entropy()), plane_of(linear), grid_points(), data(dtype)))
    assert evaluator.declined == "the processes share the parameters"


def test_what_keeps_a_count_is_always_called():
    """A metric with a network inside, whose values may be the same at all points."""

    class Metric(nn.Linear):
        def update(self): ...

        def compute(self): ...

    net = nn.ModuleDict({"head": nn.Linear(2, 2), "metric": Metric(2, 2), "frozen": nn.Linear(2, 2)})
    plane = plane_of(net, moves=head_moves)
    assert set(candidates(net, plane)) == {net, net["head"], net["frozen"]}


# whoever chooses


def test_it_says_whether_it_can(linear, net, plane, batches, dtype):
    objective, points = LossFunction(cross_entropy()), grid_points()
    with preserved():
        reference = Sequential(linear.requires_grad_(False))
        assert isinstance(find_affine(reference, objective, plane_of(linear), data(dtype), points), Affine)
        settings = AffineSettings(max_bytes=20_000)  # room for the smallest batch, not for all
        assert find_affine(reference, objective, plane_of(linear), data(dtype), points, settings) is None
        own = copy.deepcopy(net).eval().requires_grad_(False)
        assert find_affine(Sequential(own), objective, plane, batches, points) is None
