"""What every evaluator promises: the table is the list of tests. Expected values: a loop over functional_call."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.evaluators import EVALUATORS, Affine, Forked, forked
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction, Objective, Observation
from lightning_landscape.weights.plane import Plane

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
HERE = [Batch(None, 1)]
ENOUGH = 12  # points: few are left to Sequential


@pytest.fixture(params=EVALUATORS)
def make(request):
    return EVALUATORS[request.param]


@pytest.fixture
def answers(monkeypatch) -> list:
    """One entry for each point that a worker process has measured."""
    answered, own = [], forked.Worker.answer

    def counted(self, patience):
        measured = own(self, patience)
        answered.extend([1] * (measured is not None))
        return measured

    monkeypatch.setattr(forked.Worker, "answer", counted)
    return answered


def check_its_way(evaluator, way, answers, points):
    """That an evaluator did what its name says, and did not leave it all to Sequential."""
    if isinstance(evaluator, Forked):
        assert len(answers) == points // 2
    elif isinstance(evaluator, Affine):
        assert evaluator.method == way
        assert evaluator.declined != "so few points are measured sooner than computed"


@pytest.fixture
def run(make, answers):
    """Measure `objective` on a copy of `module` in eval mode: a list of {name: Measurement}.

    All points are measured several times where they are few, and must have the same values; `way` is the one that
    `Affine` is to find.
    """

    def measured(objective, plane, points, batches, module, way="", **options):
        objective = objective if isinstance(objective, Objective) else LossFunction(objective)
        evaluator = make(copy.deepcopy(module).eval(), **options)
        many = np.tile(points, (-(-ENOUGH // len(points)), 1))
        answers.clear()
        with preserved():
            rows = list(evaluator(objective, plane, many, batches))
        check_its_way(evaluator, way, answers, len(many))
        for row, first in zip(rows, rows[: len(points)] * len(many), strict=False):
            assert list(row) == list(first)
            np.testing.assert_array_equal(list(row.values()), list(first.values()))
        return rows[: len(points)]

    return measured


@pytest.fixture
def run_net(run, net):
    """`run` on the network of conftest.py."""
    return lambda *args, module=net: run(*args, module)


def column(rows, name="loss", field="value") -> np.ndarray:
    return np.array([getattr(row[name], field) for row in rows])


def toy(**parameters) -> nn.Module:
    module = nn.Module()
    for name, value in parameters.items():
        module.register_parameter(name, nn.Parameter(torch.as_tensor(value)))
    return module


def line(**tensors) -> Plane:
    """One direction of ones through the given origin."""
    origin = {n: torch.as_tensor(t) for n, t in tensors.items()}
    return Plane(origin, ({n: torch.ones_like(t) for n, t in origin.items()},))


# the mean and its error


def test_it_equals_the_naive_loop_over_uneven_batches(
    run_net, mean_cross_entropy, plane, points, batches, losses, dtype
):
    got = column(run_net(mean_cross_entropy, plane, points, batches))
    np.testing.assert_allclose(got, losses.mean(axis=1), rtol=TOLERANCE[dtype], atol=0)


def test_a_mean_of_batch_means_would_be_another_number(run_net, mean_cross_entropy, plane, points, batches, losses):
    got = column(run_net(mean_cross_entropy, plane, points, batches))
    batch_means = np.stack([losses[:, a:b].mean(axis=1) for a, b in [(0, 5), (5, 10), (10, 15), (15, 17)]], axis=1)
    assert np.abs(batch_means.mean(axis=1) - got).max() > 0.1


def test_single_losses_give_the_same_mean_as_batch_losses(
    run_net, cross_entropy, plane, points, batches, losses, dtype
):
    got = column(run_net(cross_entropy, plane, points, batches))
    np.testing.assert_allclose(got, losses.mean(axis=1), rtol=TOLERANCE[dtype], atol=0)


def test_the_standard_error_over_samples_is_the_textbook_one(
    run_net, cross_entropy, plane, points, batches, losses, dtype, student
):
    got = column(run_net(cross_entropy, plane, points, batches), field="standard_error")
    expected = losses.std(axis=1, ddof=1) / np.sqrt(17) * student(17)
    np.testing.assert_allclose(got, expected, rtol=10 * TOLERANCE[dtype])


def test_the_standard_error_over_equal_batches_is_the_textbook_one(
    run_net, mean_cross_entropy, plane, points, batches, losses, dtype, student
):
    got = column(run_net(mean_cross_entropy, plane, points, batches[:3]), field="standard_error")
    means = losses[:, :15].reshape(-1, 3, 5).mean(axis=2)
    expected = means.std(axis=1, ddof=1) / np.sqrt(3) * student(3)
    np.testing.assert_allclose(got, expected, rtol=100 * TOLERANCE[dtype])


def test_the_standard_error_over_uneven_batches_weighs_them(
    run_net, mean_cross_entropy, plane, points, batches, losses, dtype, student
):
    got = column(run_net(mean_cross_entropy, plane, points, batches), field="standard_error")
    for row, error in zip(losses, got, strict=True):
        mean, spread = row.mean(), 0.0
        for a, b in [(0, 5), (5, 10), (10, 15), (15, 17)]:
            spread += (b - a) * (row[a:b].mean() - mean) ** 2
        assert error == pytest.approx(np.sqrt(spread / 3 / 17) * student(4), rel=100 * TOLERANCE[dtype])


def test_one_batch_has_an_unknown_error(run_net, mean_cross_entropy, plane, points, batches):
    assert np.isnan(column(run_net(mean_cross_entropy, plane, points, batches[:1]), field="standard_error")).all()


def test_the_mean_is_accumulated_in_float64(run):
    values = [1.0, 2.0**-30, 2.0**-30, -1.0]
    batches = [Batch(torch.tensor(v, dtype=torch.float32), 1) for v in values]
    rows = run(lambda m, x: x, line(w=torch.zeros(1)), np.zeros((1, 1)), batches, toy(w=torch.zeros(1)))
    assert rows[0]["loss"].value == 2.0**-31


def test_several_metrics_and_plain_numbers(run_net, plane, points, batches, student):
    def objective(module, data):
        return {"loss": float(len(data[1])), "share": len(data[1]) > 3, "label": data[1].double()}

    rows = run_net(objective, plane, points[:2], batches)
    labels = torch.cat([b.data[1] for b in batches]).double().numpy()
    for row in rows:
        assert list(row) == ["loss", "share", "label"]
        assert row["loss"].value == pytest.approx((3 * 5 * 5 + 2 * 2) / 17, rel=1e-14)
        assert row["share"].value == pytest.approx(15 / 17, rel=1e-14)
        assert row["label"].value == pytest.approx(labels.mean(), rel=1e-14)
        error = labels.std(ddof=1) / np.sqrt(17) * student(17)
        assert row["label"].standard_error == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize(
    "how, expected", [("sum", 12.0), ("min", 1.0), ("max", 6.0), ("mean", (2 + 6 + 5 * 3 + 1) / 9)]
)
def test_other_reductions(run, how, expected):
    class Reduced(Objective):
        def __call__(self, module, batch):
            return {"x": Observation(torch.tensor(float(batch.data)), batch.size, how)}

    batches = [Batch(v, size) for v, size in [(2, 1), (6, 1), (3, 5), (1, 2)]]
    expected = (2 + 6 + 15 + 2) / 9 if how == "mean" else expected
    value, error = run(Reduced(), line(w=torch.zeros(1)), np.zeros((1, 1)), batches, toy(w=torch.zeros(1)))[0]["x"]
    assert value == pytest.approx(expected)
    assert np.isnan(error) == (how != "mean")


def test_batches_of_samples_and_batch_means_add_up_by_their_samples(run, student):
    values = [torch.tensor([1.0, 2.0]), torch.tensor(6.0), 3.0]  # of 2, 4 and 3 samples
    batches = [Batch(v, n) for v, n in zip(values, [2, 4, 3], strict=True)]
    value, error = run(lambda m, x: x, line(w=torch.zeros(1)), np.zeros((1, 1)), batches, toy(w=torch.zeros(1)))[0][
        "loss"
    ]
    mean = (1 + 2 + 4 * 6 + 3 * 3) / 9
    assert value == pytest.approx(mean, rel=1e-14)
    spread = ((1 - mean) ** 2 + (2 - mean) ** 2 + 4 * (6 - mean) ** 2 + 3 * (3 - mean) ** 2) / 3
    assert error == pytest.approx(np.sqrt(spread / 9) * student(4), rel=1e-9)


def test_metrics_of_the_whole_set_are_asked_for_at_every_point(run):
    class Whole(Objective):
        def start(self):
            self.seen = []

        def __call__(self, module, batch):
            self.seen.append(float(module.w) * batch.data)
            return {"loss": Observation(0.0, 1)}

        def finish(self):
            return {"range": max(self.seen) - min(self.seen)}

    rows = run(
        Whole(), line(w=torch.ones(1)), np.array([[0.0], [1.0], [-1.0]]),
        [Batch(v, 1) for v in (2.0, 5.0, 3.0)], toy(w=torch.ones(1)),
    )  # fmt: skip
    assert column(rows, "range").tolist() == [3, 6, 0]
    assert np.isnan(column(rows, "range", "standard_error")).all()


# NaN and inf are losses


def test_values_that_are_not_finite_are_kept_where_they_are(run):
    module = toy(w=torch.zeros(1))
    points = np.array([[1.0], [0.0], [-1.0], [2.0]])
    batches = [Batch(1.0, 1), Batch(2.0, 3)]
    rows = run(lambda m, x: x / m.w, line(w=torch.zeros(1)), points, batches, module)
    assert column(rows).tolist() == [7 / 4, np.inf, -7 / 4, 7 / 8]
    rows = run(lambda m, x: (x * m.w).log(), line(w=torch.zeros(1)), points, batches, module)
    got, expected = column(rows), 3 * np.log(2) / 4
    np.testing.assert_allclose(got, [expected, -np.inf, np.nan, expected + np.log(2)], rtol=1e-7)
    assert np.isnan(column(rows, field="standard_error")[[1, 2]]).all()


def test_one_sample_that_is_nan_makes_the_mean_nan(run):
    batches = [Batch(torch.tensor([1.0, float("nan")]), 2), Batch(torch.tensor([1.0]), 1)]
    rows = run(lambda m, x: x, line(w=torch.zeros(1)), np.zeros((1, 1)), batches, toy(w=torch.zeros(1)))
    assert np.isnan(rows[0]["loss"]).all()


# one function: every point by itself


def test_two_calls_at_one_point_give_the_same_bits(run_net, mean_cross_entropy, plane, points, batches):
    twice = column(run_net(mean_cross_entropy, plane, np.concatenate([points, points]), batches))
    np.testing.assert_array_equal(twice[:11], twice[11:])
    np.testing.assert_array_equal(twice[:11], column(run_net(mean_cross_entropy, plane, points, batches)))


def test_the_order_of_the_points_does_not_matter(run_net, mean_cross_entropy, plane, points, batches):
    order = np.random.default_rng(5).permutation(11)
    straight = column(run_net(mean_cross_entropy, plane, points, batches))
    np.testing.assert_array_equal(column(run_net(mean_cross_entropy, plane, points[order], batches)), straight[order])
    alone = [column(run_net(mean_cross_entropy, plane, p[None], batches))[0] for p in points]
    np.testing.assert_array_equal(alone, straight)


def test_points_do_not_drift_over_a_long_way(run):
    steps = np.tile(np.array([[0.1], [1e4], [-0.3]]), (100, 1))
    rows = run(lambda m, x: m.w.sum(), line(w=torch.full((1,), 1 / 3)), steps, HERE, toy(w=torch.zeros(1)))
    np.testing.assert_array_equal(column(rows).reshape(100, 3), np.tile(column(rows)[:3], (100, 1)))


def noise(module, x):
    """Draws from every stream that a step may draw from, and from dropout."""
    import random

    dropped = torch.nn.functional.dropout(torch.ones(64), 0.5, training=True).sum()
    return module.w.sum() * 0 + dropped + torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002


def test_all_points_share_their_random_numbers(run):
    points, batches = np.array([[0.0], [1.0], [5.0]]), [Batch(None, 1)] * 3
    module, plane = toy(w=torch.zeros(1)), line(w=torch.zeros(1))
    values = column(run(noise, plane, points, batches, module))
    assert len(set(values)) == 1
    errors = column(run(noise, plane, points, batches, module), field="standard_error")
    assert (errors > 0).all()  # the batches of a point do not share theirs
    assert column(run(noise, plane, points, batches, module, seed=7))[0] != values[0]


def test_dropout_at_a_displaced_point_uses_the_same_mask(run):
    def kept(module, x):
        return torch.nn.functional.dropout(module.w * torch.ones(32), 0.5, training=True).double()

    plane, module = line(w=torch.ones(1)), toy(w=torch.ones(1))
    rows = run(kept, plane, np.array([[0.0], [1.0]]), [Batch(None, 32)], module)
    assert column(rows)[1] == 2 * column(rows)[0] > 0


def test_buffers_moved_by_a_step_are_restored_between_points(
    run_net, mean_cross_entropy, plane, points, batches, losses, dtype
):
    def moving(module, data):
        value = mean_cross_entropy(module, data)
        module.norm.train()
        module(data[0])  # moves the running statistics
        module.norm.eval()
        return value

    alone = [column(run_net(moving, plane, p[None], batches))[0] for p in points]
    np.testing.assert_array_equal(column(run_net(moving, plane, points, batches)), alone)
    assert np.abs(np.array(alone) - losses.mean(axis=1)).max() > 1e-3  # they do move, within a point


def test_an_integer_buffer_is_restored_between_points(run):
    module = toy(w=torch.zeros(1))
    module.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def count(m, x):
        m.calls += 1
        return m.calls.double()

    rows = run(count, line(w=torch.zeros(1)), np.zeros((3, 1)), [Batch(None, 1)] * 3, module)
    assert column(rows).tolist() == [2, 2, 2]


def test_a_buffer_rebound_by_a_step_is_restored_between_points(run):
    module = toy(w=torch.zeros(1))
    module.register_buffer("ema", torch.zeros(()))

    def rebind(m, x):
        m.ema = m.ema + 1
        return m.ema

    rows = run(rebind, line(w=torch.zeros(1)), np.zeros((3, 1)), HERE, module)
    assert column(rows).tolist() == [1, 1, 1]


def test_a_frozen_parameter_edited_by_a_step_is_restored_between_points(run):
    """A momentum encoder: no direction moves it, the training step does."""
    module = toy(w=torch.zeros(1), momentum=torch.zeros(1))
    module.momentum.requires_grad_(False)

    def follow(m, x):
        m.momentum.data.add_(1)
        return m.momentum.sum()

    rows = run(follow, line(w=torch.zeros(1)), np.zeros((3, 1)), HERE, module)
    assert column(rows).tolist() == [1, 1, 1]


def encoder(then=lambda m, x: None):
    """A module with a momentum encoder, and a step that moves it and then does something else."""
    module = toy(w=torch.zeros(1), momentum=torch.zeros(1))
    module.momentum.requires_grad_(False)

    def follow(m, x):
        m.momentum.data.add_(1)
        then(m, x)
        return m.momentum.sum()

    return module, LossFunction(follow)


def test_a_frozen_parameter_is_restored_that_only_a_later_objective_edits(make, answers):
    """As of several data sets: the validation step leaves the momentum encoder alone, the training step does not."""
    module, train = encoder()
    validate = LossFunction(lambda m, x: m.momentum.sum())
    evaluator, plane, points = make(module), line(w=torch.zeros(1)), np.zeros((ENOUGH, 1))
    with preserved():
        streams = [evaluator(objective, plane, points, HERE) for objective in (validate, train)]
        pairs = [(p["loss"].value, q["loss"].value) for p, q in zip(*streams, strict=True)]
    check_its_way(evaluator, "", answers, 2 * ENOUGH)
    assert pairs == [(0, 1)] * ENOUGH


def test_a_frozen_parameter_is_restored_that_a_step_edits_before_it_asks_for_gradients(run):
    module, objective = encoder(lambda m, x: torch.autograd.grad((m.w**3).sum(), m.w))
    rows = run(objective, line(w=torch.zeros(1)), np.zeros((3, 1)), HERE, module)
    assert column(rows).tolist() == [1, 1, 1]


def test_a_frozen_parameter_is_restored_that_a_step_edits_before_it_fails(make):
    def strict(m, x):
        if asked == ["fail"]:
            raise ValueError("not today")

    module, objective = encoder(strict)
    evaluator, plane, points = make(module), line(w=torch.zeros(1)), np.zeros((ENOUGH, 1))
    with preserved():
        asked = ["fail"]
        with pytest.raises(ValueError, match="not today"):
            list(evaluator(objective, plane, points, HERE))
        asked = []
        assert column(list(evaluator(objective, plane, points, HERE))).tolist() == [1] * ENOUGH


def test_a_parameter_at_rest_edited_by_a_step_is_restored_between_points(run):
    origin = {"w": torch.zeros(2), "bias": torch.zeros(1)}
    plane = Plane(origin, ({"w": torch.ones(2), "bias": torch.zeros(()).expand(1)},))

    def clamp(m, x):
        m.bias.data.add_(1)
        return m.bias.sum()

    assert column(run(clamp, plane, np.zeros((3, 1)), HERE, toy(**origin))).tolist() == [1, 1, 1]


def test_the_training_mode_set_by_a_step_is_restored_between_points(run):
    module = toy(w=torch.zeros(1))
    module.part = nn.Dropout()

    def wake(m, x):
        was = float(m.part.training)
        m.part.train()
        return was

    assert column(run(wake, line(w=torch.zeros(1)), np.zeros((3, 1)), HERE, module)).tolist() == [0, 0, 0]


def test_a_moving_parameter_edited_by_a_step_is_restored_between_points(run):
    def clamp(m, x):
        m.w.data.add_(1)
        return m.w.sum()

    rows = run(clamp, line(w=torch.zeros(1)), np.array([[0.0], [0.0], [2.0]]), HERE, toy(w=torch.zeros(1)))
    assert column(rows).tolist() == [1, 1, 3]


def test_all_that_a_step_edits_beside_an_affine_layer_is_restored_between_points(run):
    module = toy(momentum=torch.zeros(1))
    module.layer, module.part = nn.Linear(2, 1, bias=False), nn.Dropout()
    module.momentum.requires_grad_(False)
    module.register_buffer("calls", torch.zeros(1))

    def step(m, x):
        was = float(m.part.training)
        m.part.train()
        m.momentum.data.add_(1)
        m.calls = m.calls + 1
        return m.layer(x).exp().sum() + 10 * m.momentum.sum() + 100 * m.calls.sum() + 1000 * was

    plane = Plane({"layer.weight": torch.zeros(1, 2)}, ({"layer.weight": torch.ones(1, 2)},))
    points = np.array([[0.0], [1.0], [2.0], [-3.0], [0.5]])
    rows = run(step, plane, points, [Batch(torch.full((1, 2), 0.5), 1)], module, way="replay")
    np.testing.assert_allclose(column(rows), 110 + np.exp(points[:, 0]), rtol=1e-6)


# placement of the parameters


def test_tied_parameters_move_together(run_net, plane, batches):
    rows = run_net(lambda m, x: (m.back.weight - m.again.weight).abs().sum(), plane, np.ones((1, 2)), batches)
    assert rows[0]["loss"].value == 0


def test_the_planes_origin_counts_not_where_the_module_is(
    run_net, mean_cross_entropy, plane, points, batches, losses, dtype, net
):
    elsewhere = copy.deepcopy(net)
    for parameter in elsewhere.parameters():  # the one at rest too
        parameter.data += 1
    got = column(run_net(mean_cross_entropy, plane, points, batches, module=elsewhere))
    np.testing.assert_allclose(got, losses.mean(axis=1), rtol=TOLERANCE[dtype], atol=0)


def test_parameters_that_the_plane_does_not_name_stay_where_they_are(run):
    module = toy(w=torch.zeros(1), other=torch.full((1,), 5.0))
    rows = run(lambda m, x: m.w.sum() + m.other.sum(), line(w=torch.ones(1)), np.array([[1.0], [2.0]]), HERE, module)
    assert column(rows).tolist() == [7, 8]


def test_low_precision_is_displaced_in_float32_and_rounded_once(run):
    step = 2**-7  # of bfloat16 above 1
    origin = {"w": torch.ones(1, dtype=torch.bfloat16)}
    direction = {"w": torch.full((1,), 0.375 * step)}
    plane = Plane(origin, (direction, direction))
    points = np.array([[1, 0], [1, 1], [2, 3], [0, 0], [-1, 1]])
    rows = run(lambda m, x: m.w.double().sum(), plane, points, HERE, toy(w=torch.zeros(1, dtype=torch.bfloat16)))
    assert column(rows).tolist() == [1, 1 + step, 1 + 2 * step, 1, 1]
    assert origin["w"].item() == 1


def test_a_float32_plane_may_move_a_bfloat16_module_and_is_not_changed(run):
    plane = line(w=torch.zeros(1))
    points = np.array([[1.0], [1.0], [0.0]])
    rows = run(lambda m, x: m.w.double().sum(), plane, points, HERE, toy(w=torch.zeros(1, dtype=torch.bfloat16)))
    assert column(rows).tolist() == [1, 1, 0]
    assert plane.origin["w"].item() == 0


def test_complex_parameters_move(run):
    plane = Plane({"w": torch.tensor([1 + 1j])}, ({"w": torch.tensor([2 - 1j])},))
    rows = run(lambda m, x: m.w.abs().square().sum(), plane, np.array([[2.0]]), HERE, toy(w=torch.tensor([0j])))
    assert column(rows)[0] == pytest.approx(26, rel=1e-6)  # |1 + i + 2 (2 − i)|² = 25 + 1


def test_a_plane_of_another_module_is_refused(run_net, batches):
    with pytest.raises(ValueError, match=r"names parameters that the module does not have: \['other', 'strange'\]"):
        run_net(lambda m, x: 0.0, line(strange=torch.ones(1), other=torch.ones(1)), np.zeros((1, 1)), batches)


def test_the_plane_and_the_data_are_not_changed(run_net, mean_cross_entropy, plane, points, batches):
    tensors = [*plane.origin.values(), *(t for d in plane.directions for t in d.values())]
    tensors += [t for b in batches for t in b.data]
    before = [t.clone() for t in tensors]
    run_net(mean_cross_entropy, plane, points, batches)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


# stopping and going on


def test_points_come_one_by_one(make, request):
    seen, points = [], np.arange(1.0, ENOUGH + 1)[:, None]
    stream = make(toy(w=torch.zeros(1)))(
        LossFunction(lambda m, x: seen.append(m.w.item()) or 0.0), line(w=torch.zeros(1)), points, HERE
    )
    with preserved():
        next(stream)
        assert seen[-2:] == [0.0, 1.0]  # the rehearsal, and the first point
        assert len(seen) == 2 or "affine" in request.node.name
        first = len(seen)
        next(stream)
        next(stream)
        assert seen[first:] == ([3.0] if "forked" in request.node.name else [2.0, 3.0])
    stream.close()


def test_nothing_is_recorded_for_gradients_and_the_callers_mode_stays(make, answers):
    grad_modes, evaluator = [], make(toy(w=torch.zeros(1)))

    def objective(m, x):
        value = (m.w * 2).sum()
        grad_modes.append(value.requires_grad)
        return value

    assert torch.is_grad_enabled()
    with preserved():
        for _ in evaluator(LossFunction(objective), line(w=torch.zeros(1)), np.zeros((ENOUGH, 1)), HERE):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
    check_its_way(evaluator, "", answers, ENOUGH)
    assert not any(grad_modes)
    assert len(grad_modes) >= 1 + ENOUGH // 2  # the rehearsal, and the points, of which a worker measures half


def test_a_loss_with_derivatives_in_it_is_measured(run):
    """Of the outputs by the inputs, as in physics-informed losses, and by the weights, as in gradient penalties."""

    def residual(m, x):  # u = w x², so u' = 2 w x
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad((m.w * x**2).sum(), x, create_graph=True)
        return (slope**2).mean()

    def penalty(m, x):
        (slope,) = torch.autograd.grad((m.w**3).sum(), m.w)
        return slope.sum()

    def own_mode(m, x):
        with torch.enable_grad():
            return residual(m, x)

    batches, points = [Batch(torch.tensor([1.0, 3.0]), 2)], np.array([[1.0], [2.0]])
    for function, expected in ((residual, [20, 80]), (penalty, [3, 12]), (own_mode, [20, 80])):
        rows = run(LossFunction(function), line(w=torch.zeros(1)), points, batches, toy(w=torch.zeros(1)))
        assert [row["loss"].value for row in rows] == pytest.approx(expected)


def test_an_error_that_is_not_about_gradients_is_raised(run):
    def broken(m, x):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(LossFunction(broken), line(w=torch.zeros(1)), np.zeros((1, 1)), HERE, toy(w=torch.zeros(1)))


def test_the_objective_rehearses_on_the_first_batch_where_edits_are_counted(run, request):
    class Rehearsing(Objective):
        calls = []  # noqa: RUF012

        def rehearse(self, module, batch):
            edited = batch.data + 0
            edited.add_(1)
            self.calls.append((batch.data.item(), edited._version, edited.requires_grad))

        def __call__(self, module, batch):
            return {"loss": Observation(batch.data, batch.size)}

    batches = [Batch(torch.tensor([v], requires_grad=True), 1) for v in (3.0, 4.0)]
    run(Rehearsing(), line(w=torch.zeros(1)), np.zeros((3, 1)), batches, toy(w=torch.zeros(1)))
    assert set(Rehearsing.calls) == {(3.0, 1, False)}
    assert len(Rehearsing.calls) == 1 or "affine" in request.node.name  # which looks at the objective first


def test_streams_of_two_objectives_may_take_turns(make, answers):
    """As one pass does for several data sets: one evaluator, one module."""
    evaluator = make(toy(w=torch.zeros(1)))
    plane, points = line(w=torch.zeros(1)), np.arange(1.0, ENOUGH + 1)[:, None]
    a = evaluator(LossFunction(lambda m, x: m.w.sum()), plane, points, HERE)
    b = evaluator(LossFunction(lambda m, x: m.w.sum() ** 2), plane, points, HERE)
    with preserved():
        pairs = [(p["loss"].value, q["loss"].value) for p, q in zip(a, b, strict=True)]
    check_its_way(evaluator, "", answers, 2 * ENOUGH)
    assert pairs == [(i, i**2) for i in range(1, ENOUGH + 1)]


def test_the_graph_of_a_batch_is_gone_when_the_next_begins(make, answers):
    """A loss with derivatives in it keeps its graph, and with it the memory of its batch, as long as itself."""
    alive = []

    class Mark(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.held = Held()
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Held:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def penalty(m, x):
        count.append(len(alive))
        (slope,) = torch.autograd.grad((m.w**3).sum(), m.w, create_graph=True)
        return Mark.apply(slope.sum())

    count, evaluator = [], make(toy(w=torch.ones(1)))
    with preserved():
        list(evaluator(LossFunction(penalty), line(w=torch.ones(1)), np.zeros((ENOUGH, 1)), HERE * 5))
    check_its_way(evaluator, "", answers, ENOUGH)
    assert set(count) == {0}


def test_parameters_that_are_trained_say_so(run):
    """A regulariser may sum over those alone."""
    module = toy(w=torch.ones(1))
    module.still = nn.Parameter(torch.ones(1), requires_grad=False)
    objective = LossFunction(lambda m, x: sum(p.sum() for p in m.parameters() if p.requires_grad))
    rows = run(objective, line(w=torch.ones(1)), np.array([[1.0], [2.0]]), HERE, module)
    assert [row["loss"].value for row in rows] == [2, 3]


def test_statistics_are_recalibrated_although_the_objective_calls_eval(run):
    norm = nn.BatchNorm1d(1, affine=True).double()

    def objective(module, x):
        return module.eval()(x).square().mean()

    x = torch.tensor([[1.0], [5.0], [9.0]], dtype=torch.float64)
    plane = Plane(
        {"weight": torch.ones(1).double(), "bias": torch.zeros(1).double()},
        ({"weight": torch.ones(1).double(), "bias": torch.zeros(1).double()},),
    )
    points = np.array([[0.0], [1.0]])
    rows = run(LossFunction(objective), plane, points, [Batch(x, 3)], norm, way="replay", recalibrate=True)
    spread = ((x - x.mean()) ** 2 / (x.var() + norm.eps)).mean().item()  # the running variance is the unbiased one
    assert [row["loss"].value for row in rows] == pytest.approx([spread, 4 * spread])
