"""Which parameters stay at rest: names listed by hand."""

import pytest
import torch
from torch import nn

from lightning_landscape.directions import Random, ignored_names
from lightning_landscape.weights.parameters import Snapshot

BIASES = {"conv.bias", "grouped.bias", "up.bias", "up_grouped.bias", "head.bias", "scale"}
WEIGHTS = {
    f"{layer}.weight" for layer in ("embedding", "conv", "grouped", "up", "up_grouped", "norm", "layer_norm", "head")
}
NORMS = {"norm.weight", "norm.bias", "layer_norm.weight", "layer_norm.bias"}


@pytest.mark.parametrize(
    "ignore, expected",
    [
        (None, set()),
        ([], set()),
        ("biasbn", BIASES | NORMS),
        ("head.*", {"head.weight", "head.bias"}),
        ("scale", {"scale"}),
        (["up*", "conv.weight"], {"up.weight", "up.bias", "up_grouped.weight", "up_grouped.bias", "conv.weight"}),
        (("biasbn", "embedding.*"), BIASES | NORMS | {"embedding.weight"}),
        ("*.weight", WEIGHTS),
    ],
)
def test_the_names_that_stay_at_rest(ignore, expected, zoo):
    assert ignored_names(Snapshot.of(zoo), ignore) == expected


def test_ignored_parameters_have_zero_directions_and_the_others_do_not(zoo):
    for direction in Random(ignore=("biasbn", "embedding.*"))(Snapshot.of(zoo), 2):
        resting = {name for name, tensor in direction.items() if not tensor.any()}
        assert resting == BIASES | NORMS | {"embedding.weight"}


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm3d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm((4, 2)),
        getattr(nn, "RMSNorm", nn.LayerNorm)((4, 2)),  # torch before 2.4 has none
        nn.SyncBatchNorm(4),
    ],
)
def test_every_normalisation_layer_is_known(layer):
    snapshot = Snapshot.of(nn.Sequential(nn.Linear(2, 4), layer))
    assert snapshot.normalization == {f"1.{name}" for name, _ in layer.named_parameters()}
    assert ignored_names(snapshot, "biasbn") >= snapshot.normalization
    assert "0.weight" not in ignored_names(snapshot, "biasbn")


def test_a_users_subclass_of_a_norm_layer_counts_too():
    class MyNorm(nn.LayerNorm):
        pass

    assert Snapshot.of(nn.Sequential(nn.Linear(2, 2), MyNorm((2, 2)))).normalization == {"1.weight", "1.bias"}


@pytest.mark.parametrize("ignore", ["embeding.*", ["biasbn", "embeding.*"], "Head.*"])
def test_a_pattern_that_matches_nothing_is_an_error(ignore, zoo):
    pattern = ignore if isinstance(ignore, str) else ignore[-1]
    with pytest.raises(ValueError, match=rf"ignore='{pattern}' matches no trainable parameter.*'biasbn', None"):
        ignored_names(Snapshot.of(zoo), ignore)


def test_a_frozen_parameter_can_not_be_ignored_by_name(zoo):
    zoo.head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"ignore='head\.\*' matches no trainable parameter"):
        Random(ignore="head.*")(Snapshot.of(zoo), 1)


@pytest.mark.parametrize("ignore", ["*", ["biasbn", "*.weight"]])
def test_leaving_nothing_to_perturb_is_an_error(ignore, zoo):
    with pytest.raises(ValueError, match="leaves none of the 16 trainable parameters to perturb"):
        ignored_names(Snapshot.of(zoo), ignore)


def test_a_module_of_vectors_needs_ignore_none():
    class Vectors(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.ones(3))

    with pytest.raises(ValueError, match="leaves none of the 1 trainable parameters to perturb: give None"):
        Random()(Snapshot.of(Vectors()), 1)
    assert Random(ignore=None)(Snapshot.of(Vectors()), 1)[0]["a"].norm() == pytest.approx(3**0.5, rel=1e-6)
