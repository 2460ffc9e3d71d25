"""Criteria: the loss over uneven batches is what torch gives for all data as one batch, whatever the loss."""

import copy
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction
from lightning_landscape.objectives.criterion import FrozenLoader, Unspoilt, copy_together, frozen_batches, objective_of
from lightning_landscape.weights.plane import Plane

CPU = torch.device("cpu")
CLASSES, SAMPLES = 4, 17
WEIGHTS = torch.tensor([1.0, 5.0, 0.2, 2.0], dtype=torch.float64)
X = torch.randn(SAMPLES, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(CLASSES, (SAMPLES,), generator=torch.Generator().manual_seed(1))
SHARES = torch.softmax(X[:, :CLASSES], 1)
BITS = (X[:, :CLASSES] > 0).double()
REAL = X[:, :CLASSES] * 2 + 1


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Linear(6, CLASSES).double()


def measure(net, criterion, batches, size=5):
    """The measurements at the weights themselves, over batches of 5, 5, 5 and 2."""
    loader = DataLoader(TensorDataset(*batches), batch_size=size)
    objective, _ = objective_of(criterion)
    origin = {name: p.detach().clone() for name, p in net.named_parameters()}
    plane = Plane(origin, ({name: torch.ones_like(p) for name, p in origin.items()},))
    with preserved():
        frozen = frozen_batches(objective, loader, CPU, seed=0)
        return next(iter(Sequential(copy.deepcopy(net).eval())(Unspoilt(objective), plane, np.zeros((1, 1)), frozen)))


class Head(nn.Module):
    """Outputs as a loss wants them."""

    def __init__(self, net, head):
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x):
        return self.head(self.net(x))


IGNORED = torch.where(torch.arange(SAMPLES) % 3 == 0, -100, LABELS)
LATE = torch.where(torch.arange(SAMPLES) > 12, 2, torch.where(LABELS == 2, 1, LABELS))  # class 2 in late batches only
CASES = {
    "cross entropy": (nn.CrossEntropyLoss(), LABELS, None),
    "weights": (nn.CrossEntropyLoss(weight=WEIGHTS), LABELS, None),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.2), LABELS, None),
    "weights and smoothing": (nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2), LABELS, None),
    "ignored": (nn.CrossEntropyLoss(), IGNORED, None),
    "ignored in late batches": (nn.CrossEntropyLoss(ignore_index=2), LATE, None),
    "ignored, weights, smoothing": (nn.CrossEntropyLoss(WEIGHTS, ignore_index=2, label_smoothing=0.1), LABELS, None),
    "probabilities": (nn.CrossEntropyLoss(), SHARES, None),
    "weights of probabilities": (nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2), SHARES, None),
    "nll": (nn.NLLLoss(), LABELS, lambda z: z.log_softmax(1)),
    "nll with weights": (nn.NLLLoss(weight=WEIGHTS, ignore_index=0), LABELS, lambda z: z.log_softmax(1)),
    "mse": (nn.MSELoss(), REAL, None),
    "l1": (nn.L1Loss(), REAL, None),
    "huber": (nn.HuberLoss(delta=0.3), REAL, None),
    "bce": (nn.BCELoss(), BITS, torch.sigmoid),
    "bce with logits": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), BITS, None),
    "kl": (nn.KLDivLoss(reduction="batchmean"), SHARES, lambda z: z.log_softmax(1)),
    "sum": (nn.CrossEntropyLoss(reduction="sum", weight=WEIGHTS), LABELS, None),
    "sum of squares": (nn.MSELoss(reduction="sum"), REAL, None),
    "multi-margin": (nn.MultiMarginLoss(), LABELS, None),
    "gaussian": (lambda outputs, targets: ((outputs - targets) ** 2).sum(1).mean(), REAL, None),
    "function": (F.smooth_l1_loss, REAL, None),
    "functional cross entropy": (F.cross_entropy, LABELS, None),
    "partial": (functools.partial(F.cross_entropy, label_smoothing=0.1), LABELS, None),
}  # fmt: skip


@pytest.mark.parametrize("criterion, targets, head", CASES.values(), ids=CASES)
def test_the_loss_is_that_of_all_data_as_one_batch(net, criterion, targets, head):
    net = net if head is None else Head(net, head)
    with torch.no_grad():
        expected = criterion(net(X), targets).item()
    assert measure(net, criterion, (X, targets))["train_loss"].value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "criterion, targets",
    [(nn.MSELoss(reduction="none"), REAL), (nn.CrossEntropyLoss(reduction="none"), LABELS)],
    ids=["mse", "cross entropy"],
)
def test_losses_that_are_not_reduced_are_averaged_over_the_samples(net, criterion, targets, student):
    with torch.no_grad():
        losses = criterion(net(X), targets).reshape(SAMPLES, -1).mean(1).numpy()
    measured = measure(net, criterion, (X, targets))["train_loss"]
    assert measured.value == pytest.approx(losses.mean(), rel=1e-12)
    error = losses.std(ddof=1) / np.sqrt(SAMPLES) * student(SAMPLES)
    assert measured.standard_error == pytest.approx(error, rel=1e-5)


def test_a_mean_has_the_standard_error_over_single_samples(net, student):
    with torch.no_grad():
        losses = F.cross_entropy(net(X), LABELS, reduction="none").numpy()
    for criterion in (nn.CrossEntropyLoss(), F.cross_entropy):
        error = measure(net, criterion, (X, LABELS))["train_loss"].standard_error
        assert error == pytest.approx(losses.std(ddof=1) / np.sqrt(SAMPLES) * student(SAMPLES), rel=1e-5)


def test_a_batch_of_ignored_targets_alone_counts_for_nothing(net):
    targets = torch.where(torch.arange(SAMPLES) < 5, -100, LABELS)  # the whole first batch
    with torch.no_grad():
        expected = F.cross_entropy(net(X), targets).item()
        right = (net(X)[5:].argmax(1) == LABELS[5:]).double().mean().item()
    measured = measure(net, nn.CrossEntropyLoss(), (X, targets))
    assert measured["train_loss"].value == pytest.approx(expected, rel=1e-12)
    assert measured["train_acc"].value == pytest.approx(100 * right, rel=1e-12)


def test_pixels_and_tokens_count_singly():
    """Outputs of shape (B, classes, T), some positions padded."""
    net = nn.Conv1d(3, CLASSES, 1).double()
    x, y = torch.randn(7, 3, 9, dtype=torch.float64), torch.randint(CLASSES, (7, 9))
    y[2:, 4:] = -100
    with torch.no_grad():
        expected = F.cross_entropy(net(x), y).item()
        right = (net(x).argmax(1) == y)[y != -100].double().mean().item()
    measured = measure(net, nn.CrossEntropyLoss(), (x, y), size=2)
    assert measured["train_loss"].value == pytest.approx(expected, rel=1e-12)
    assert measured["train_acc"].value == pytest.approx(100 * right, rel=1e-6)


ACCURACIES = {
    "classes": (nn.CrossEntropyLoss(), LABELS, lambda z: z.argmax(1) == LABELS),
    "probabilities": (nn.CrossEntropyLoss(), SHARES, lambda z: z.argmax(1) == SHARES.argmax(1)),
    "nll": (nn.NLLLoss(), LABELS, lambda z: z.argmax(1) == LABELS),
    "logits": (nn.BCEWithLogitsLoss(), BITS, lambda z: (z > 0) == BITS.bool()),
    "bce": (nn.BCELoss(), BITS, lambda z: (z.sigmoid() > 0.5) == BITS.bool()),
}


@pytest.mark.parametrize("criterion, targets, right", ACCURACIES.values(), ids=ACCURACIES)
def test_a_classifier_has_an_accuracy_in_percent(net, criterion, targets, right):
    with torch.no_grad():
        expected = 100 * right(net(X)).double().mean().item()
    head = torch.sigmoid if isinstance(criterion, nn.BCELoss) else nn.Identity()
    assert 0 < expected < 100
    assert measure(Head(net, head), criterion, (X, targets))["train_acc"].value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "criterion", [nn.MSELoss(), nn.L1Loss(), F.mse_loss, nn.HuberLoss()], ids=lambda c: getattr(c, "__name__", str(c))
)
def test_a_regression_has_no_accuracy(net, criterion):
    assert set(measure(net, criterion, (X, REAL))) == {"train_loss"}


# what a criterion is


class OfModel(nn.Module):
    def forward(self, model, inputs, targets):
        return F.mse_loss(model(inputs), targets)


class OfOutputs:
    """Callable, and not hashable."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, outputs, targets):
        return F.mse_loss(outputs, targets)


def of_model_with_a_default(net, inputs, targets, weight=1.0):
    return weight * F.mse_loss(net(inputs), targets)


def metrics_with_a_default(net, dataloader, use_cuda=False):
    return {"loss": 0.0}


KINDS = {
    "(outputs, targets)": [nn.MSELoss(), F.mse_loss, OfOutputs(), lambda a, b: 0, lambda *both: 0, torch.dist],
    "(model, inputs, targets)": [
        OfModel(), lambda m, x, y: 0, of_model_with_a_default, lambda model, inputs, targets=None: 0,
        functools.partial(of_model_with_a_default, weight=2.0),
    ],
    "(net, dataloader, use_cuda)": [
        lambda net, dataloader, use_cuda: {}, lambda a, loader, b: {}, lambda a, b, use_cuda: {},
        metrics_with_a_default,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind, criterion", [(kind, c) for kind, given in KINDS.items() for c in given])
def test_a_criterion_is_recognised_by_its_arguments(kind, criterion):
    assert objective_of(criterion)[1].endswith(kind)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, "mse", None, 3], ids=str)
def test_what_is_no_loss_is_told(criterion):
    with pytest.raises(
        TypeError, match=r"is neither a loss module nor a function: give e\.g\. nn\.CrossEntropyLoss\(\)"
    ):
        objective_of(criterion)


def test_a_function_of_other_arguments_is_told():
    with pytest.raises(TypeError, match=r"criterion takes 1 arguments: give a function of \(outputs, targets\)"):
        objective_of(lambda outputs: 0)


def test_a_loss_of_another_shape_is_told(net):
    with pytest.raises(CannotMeasureError, match=r"gives torch.Size\(\[4\]\) for a batch of 5: give one that returns"):
        measure(net, lambda outputs, targets: outputs.sum(0), (X, LABELS))


def test_batches_that_are_no_pairs(net):
    with pytest.raises(
        CannotMeasureError, match=r"gives list of 3, not pairs .* inputs is the whole batch and targets"
    ):
        measure(net, nn.MSELoss(), (X, torch.arange(SAMPLES), REAL))  # is the second a target, or a length?
    whole = measure(net, lambda model, batch, _: F.mse_loss(model(batch[0]), batch[2]), (X, LABELS, REAL))
    assert whole == measure(net, lambda m, x, y: F.mse_loss(m(x), y), (X, REAL))
    alone = measure(net, lambda model, inputs, targets: model(inputs).square().mean() + (targets is None), (X,))
    with torch.no_grad():
        assert alone["train_loss"].value == pytest.approx(net(X).square().mean().item() + 1, rel=1e-12)


def test_a_metrics_function_must_return_a_dict(net):
    with pytest.raises(CannotMeasureError, match=r"criterion returned float: .* must return a dict"):
        measure(net, lambda net, dataloader, use_cuda: 1.0, (X, REAL))


def test_metrics_may_be_tensors_that_want_gradients(net):
    def metrics(net, dataloader, use_cuda):
        (slope,) = torch.autograd.grad(net(X).sum(), net.bias)
        return {"loss": net(X).square().mean(), "slope": slope.norm(), "count": torch.tensor(3)}

    measured = measure(net, metrics, (X, REAL))
    assert measured["train_loss_slope"].value == pytest.approx(SAMPLES * np.sqrt(CLASSES))
    assert measured["train_loss_count"].value == 3


# the frozen batches


def test_a_frozen_loader_is_the_loader_with_other_batches():
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=5)
    frozen = FrozenLoader([1, 2, 3], loader)
    assert list(frozen) == [1, 2, 3] == list(frozen)
    assert len(frozen) == 3
    assert frozen.dataset is loader.dataset
    assert frozen.batch_size == 5
    twin = copy.deepcopy(frozen)
    assert list(twin) == [1, 2, 3]
    assert twin.dataset is loader.dataset
    assert not hasattr(frozen, "_nothing")


def test_batches_are_our_own_and_want_the_gradients_that_the_loaders_want():
    wanted, plain = torch.ones(3, 1, requires_grad=True), torch.ones(3, 1)
    (batch,) = frozen_batches(LossFunction(lambda m, b: 0), [(wanted, plain)], CPU, seed=0)
    assert [part.requires_grad for part in batch.data] == [True, False]
    plain.fill_(7)
    assert batch.data[1].eq(1).all()
    points = TensorDataset(torch.ones(3, 1, requires_grad=True))  # collating makes no leaf of them
    (batch,) = frozen_batches(LossFunction(lambda m, b: 0), DataLoader(points, batch_size=3), CPU, seed=0)
    assert batch.data[0].requires_grad
    assert batch.data[0].is_leaf


def test_an_empty_loader_is_told():
    with pytest.raises(CannotMeasureError, match="loader is empty"):
        frozen_batches(LossFunction(lambda m, b: 0), [], CPU, seed=0)


@pytest.mark.parametrize("edit", ["in place", "asks for gradients"])
def test_an_objective_that_spoils_its_batches_gets_copies(edit):
    seen = []

    def loss(model, inputs, targets):
        seen.append(inputs.requires_grad or inputs.grad is not None)
        if edit == "in place":
            inputs.mul_(2)
        else:
            inputs.requires_grad_()
        return model(inputs).mean()

    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    batches = [Batch((torch.ones(2, 1), torch.ones(2, 1)), 2)]
    plane = Plane({"weight": torch.ones(1, 1)}, ({"weight": torch.ones(1, 1)},))
    with preserved():
        rows = list(Sequential(net)(Unspoilt(objective_of(loss)[0]), plane, np.array([[0.0], [1.0], [0.0]]), batches))
    factor = 2 if edit == "in place" else 1
    assert [row["train_loss"].value for row in rows] == [factor, 2 * factor, factor]
    assert not any(seen)
    assert batches[0].data[0].eq(1).all()
    assert not batches[0].data[0].requires_grad


def test_a_loss_module_that_holds_the_net_holds_the_copy():
    class Regularised(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, outputs, targets):
            return F.mse_loss(outputs, targets) + self.net.weight.square().sum()

    net = nn.Linear(2, 1)
    probe, criterion = copy_together(net, Regularised(net), CPU)
    assert criterion.net is probe
    assert probe is not net
    function = lambda outputs, targets: 0  # noqa: E731
    assert copy_together(net, function, CPU)[1] is function
