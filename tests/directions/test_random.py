"""Random directions: what their noise depends on, and what Gram–Schmidt leaves."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.directions import NORMALIZATIONS, Random, recipe
from lightning_landscape.weights.parameters import FilterLayout, Snapshot
from lightning_landscape.weights.plane import Plane


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def gram(directions) -> np.ndarray:
    """The matrix of cosines, over flat numpy vectors."""
    rows = np.stack([np.concatenate([t.double().numpy().reshape(-1) for t in d.values()]) for d in directions])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


# what the noise depends on


def test_the_noise_is_gaussian_and_its_own_in_every_tensor_and_direction():
    net = nn.Sequential(nn.Linear(100, 80), nn.Linear(80, 100))
    d, e = Random(normalize="none")(Snapshot.of(net), 2)
    tensors = [t[n].numpy().reshape(-1) for t in (d, e) for n in ("0.weight", "1.weight")]
    for tensor in tensors:
        # 5 standard errors of the mean, the deviation and the kurtosis of 8,000 normal numbers
        assert abs(tensor.mean()) < 5 / np.sqrt(8000)
        assert abs(tensor.std() - 1) < 5 / np.sqrt(2 * 8000)
        assert abs((tensor**4).mean() - 3) < 5 * np.sqrt(96 / 8000)
    correlations = np.corrcoef(tensors) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(8000)


def test_two_checkpoints_of_one_model_share_their_raw_directions(zoo):
    directions = Random(normalize="none", ignore=None, seed=3)
    first = directions(Snapshot.of(zoo), 2)
    for parameter in zoo.parameters():
        parameter.data.mul_(-1.7)
    second = directions(Snapshot.of(zoo), 2)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_the_first_directions_do_not_depend_on_how_many_follow(zoo):
    snapshot = Snapshot.of(zoo)
    one, three = Random()(snapshot, 1), Random()(snapshot, 3)
    assert same(one[0], three[0])
    assert not same(three[1], three[0])
    assert not same(three[1], three[2])


def test_the_noise_of_a_layer_depends_on_its_name_alone():
    a = nn.Sequential()
    a.add_module("head", nn.Linear(3, 2))
    b = nn.Sequential()
    b.add_module("new", nn.Linear(7, 3))
    b.add_module("head", nn.Linear(3, 2))
    c = nn.Sequential()
    c.add_module("renamed", nn.Linear(3, 2))
    noise = [Random(normalize="none")(Snapshot.of(net), 1)[0] for net in (a, b, c)]
    assert torch.equal(noise[0]["head.weight"], noise[1]["head.weight"])
    assert not torch.equal(noise[0]["head.weight"], noise[2]["renamed.weight"])


def test_another_seed_is_another_direction(zoo):
    snapshot = Snapshot.of(zoo)
    results = [Random(seed=s)(snapshot, 1)[0] for s in (0, 1, 0)]
    assert same(results[0], results[2])
    for name in ("conv.weight", "embedding.weight"):
        assert not torch.equal(results[0][name], results[1][name])


def test_the_global_stream_does_not_matter(zoo):
    snapshot = Snapshot.of(zoo)
    torch.manual_seed(1)
    first = Random()(snapshot, 2)
    torch.manual_seed(2)
    assert all(same(a, b) for a, b in zip(first, Random()(snapshot, 2), strict=True))


def test_what_torch_compile_puts_into_names_does_not_change_the_noise():
    class Compiled(nn.Module):
        """The names of a module with a compiled part, without paying for the compiler."""

        def __init__(self, net):
            super().__init__()
            self.net = nn.Module()
            self.net._orig_mod = net

    class Plain(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    compiled, plain = Snapshot.of(Compiled(net)), Snapshot.of(Plain(net))
    assert next(iter(dict(Compiled(net).named_parameters()))) == "net._orig_mod.0.weight"
    assert list(compiled.params) == ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]
    assert same(Random()(compiled, 1)[0], Random()(plain, 1)[0])


@pytest.mark.parametrize(
    "dtype, working",
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_every_precision_has_the_same_noise(dtype, working):
    reference = Random(normalize="none")(Snapshot.of(nn.Linear(5, 3)), 1)[0]["weight"]
    got = Random(normalize="none", ignore=None)(Snapshot.of(nn.Linear(5, 3).to(dtype)), 1)[0]
    assert got["weight"].dtype == got["bias"].dtype == working
    np.testing.assert_array_equal(got["weight"].double().numpy(), reference.double().numpy())


def test_bfloat16_weights_are_measured_in_float32():
    net = nn.Linear(500, 3).to(torch.bfloat16)
    direction = Random()(Snapshot.of(net), 1)[0]["weight"].double().numpy()
    weight = net.weight.detach().double().numpy()
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), np.linalg.norm(weight, axis=1), rtol=1e-6)


def test_complex_parameters_get_complex_noise():
    class Wave(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.full((3, 4), 1 + 2j))

    direction = Random()(Snapshot.of(Wave()), 1)[0]["w"]
    assert direction.dtype == torch.complex64
    assert direction.real.any()
    assert direction.imag.any()
    np.testing.assert_allclose(np.linalg.norm(direction.numpy(), axis=1), np.sqrt(4 * 5) * np.ones(3), rtol=1e-6)


# which parameters take part


def test_tied_parameters_appear_once():
    net = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    net["head"].weight = net["embedding"].weight
    snapshot = Snapshot.of(net)
    assert list(snapshot.params) == ["embedding.weight"]
    assert list(Random()(snapshot, 1)[0]) == ["embedding.weight"]


def test_frozen_parameters_do_not_take_part(zoo):
    zoo.conv.requires_grad_(False)
    zoo.head.bias.requires_grad_(False)
    names = Random()(Snapshot.of(zoo), 1)[0].keys()
    assert names == {n for n, _ in zoo.named_parameters()} - {"conv.weight", "conv.bias", "head.bias"}


# vectors


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_copied_vectors_are_the_weights_themselves_in_every_direction(how, zoo):
    snapshot = Snapshot.of(zoo)
    for direction in Random(normalize=how, ignore=None, vectors="copy")(snapshot, 3):
        for name, weight in snapshot.params.items():
            assert torch.equal(direction[name], weight) == (weight.ndim <= 1), name


def test_copying_vectors_raises_the_cosine_of_two_directions():
    net = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    for layer in net:
        layer.bias.data.fill_(3.0)
    snapshot = Snapshot.of(net)
    cosines = {
        v: gram(Random(ignore=None, vectors=v, normalize="layer")(snapshot, 2))[0, 1] for v in ("random", "copy")
    }
    assert abs(cosines["random"]) < 0.3
    assert cosines["copy"] > 0.7


def test_an_ignored_vector_is_not_copied(zoo):
    assert not Random(ignore="biasbn", vectors="copy")(Snapshot.of(zoo), 1)[0]["head.bias"].any()


# orthogonal directions


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("k", [2, 3])
def test_orthogonal_directions_are_so_and_still_normalised(how, k, zoo):
    snapshot = Snapshot.of(zoo)
    plain = np.abs(gram(Random(normalize=how, seed=1)(snapshot, k)) - np.eye(k)).max()
    directions = Random(normalize=how, seed=1, orthogonalize=True)(snapshot, k)
    left = np.abs(gram(directions) - np.eye(k)).max()
    bound = 1e-12 if how in ("none", "model") else 0.2 * plain
    if how != "weight":  # multiplying by the weights once more is no normalisation: nothing is promised
        assert left < bound
    for direction in directions:
        for name in ("conv.weight", "head.weight", "embedding.weight"):
            got = direction[name].flatten(1).norm(dim=1)
            wanted = {"filter": snapshot.params[name].flatten(1).norm(dim=1), "dfilter": torch.ones_like(got)}.get(how)
            if wanted is not None:
                torch.testing.assert_close(got, wanted, rtol=1e-8, atol=0)


def test_the_first_direction_is_not_changed_by_orthogonalising(zoo):
    snapshot = Snapshot.of(zoo)
    first = Random(orthogonalize=True)(snapshot, 2)[0]
    for name, tensor in Random()(snapshot, 2)[0].items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-8, atol=0)


def test_filter_normalised_directions_of_a_larger_net_are_orthogonal_to_a_thousandth():
    net = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 40), nn.Linear(40, 10))
    cosines = gram(Random(orthogonalize=True)(Snapshot.of(net), 3)) - np.eye(3)
    assert np.abs(cosines).max() < 1e-3


@pytest.mark.parametrize("how", ["none", "model", "filter"])
@pytest.mark.parametrize("weight, k", [((1, 1), 2), ((1, 2), 3), ((3, 1), 4)])
def test_more_orthogonal_directions_than_weights_are_refused(how, weight, k):
    snapshot = Snapshot({"weight": torch.ones(weight)}, {"weight": FilterLayout()}, frozenset())
    assert len(Random(how)(snapshot, k)) == k
    with pytest.raises(ValueError, match=rf"Direction \d cannot be made orthogonal to the \d before it: .* k={k} dir"):
        Random(how, orthogonalize=True)(snapshot, k)


def test_dead_weights_leave_no_room_for_orthogonal_directions():
    weight = torch.zeros(4, 1)
    weight[0] = 2.0
    snapshot = Snapshot({"weight": weight}, {"weight": FilterLayout()}, frozenset())
    with pytest.raises(ValueError, match="Direction 1 cannot be made orthogonal to the 1 before it"):
        Random("filter", orthogonalize=True)(snapshot, 2)


# errors and the recipe


def test_wrong_settings_list_the_choices():
    with pytest.raises(ValueError, match="normalize='filters' is unknown; the choices are filter, layer"):
        Random(normalize="filters")
    with pytest.raises(ValueError, match="vectors='zero' is unknown; the choices are random, copy"):
        Random(vectors="zero")


def test_all_weights_zero_leaves_no_direction():
    net = nn.Linear(3, 2)
    net.weight.data.zero_()
    with pytest.raises(ValueError, match=r"Direction 0 is zero: every weight that may move is zero.*'filter'"):
        Random()(Snapshot.of(net), 1)
    assert Random(normalize="dfilter")(Snapshot.of(net), 1)[0]["weight"].norm(dim=1).tolist() == pytest.approx([1, 1])


def test_weights_that_are_not_finite_are_not_called_zero():
    net = nn.Linear(3, 2)
    net.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"finite|NaN"):
        Random()(Snapshot.of(net), 1)


def test_the_recipe_holds_every_setting_as_json():
    made = recipe(Random(normalize="layer", ignore=("biasbn", "a.*"), orthogonalize=True, seed=7, vectors="copy"))
    assert made == {
        "kind": "random",
        "normalize": "layer",
        "ignore": ["biasbn", "a.*"],
        "orthogonalize": True,
        "seed": 7,
        "vectors": "copy",
    }
    assert json.loads(json.dumps(made)) == made
    assert recipe(Random())["ignore"] == "biasbn"
    assert recipe(Random(ignore=None))["ignore"] is None


def test_the_recipe_of_a_users_own_directions_is_their_name():
    def mine(snapshot, k):
        return ()

    class Own:
        def __call__(self, snapshot, k):
            return ()

    assert recipe(mine) == {"kind": "mine"}
    assert recipe(Own()) == {"kind": "Own"}


AXES = {  # net, what it must give along its two numbers
    "w and b": (nn.Linear(1, 1), ["weight", "bias"]),
    "two weights": (nn.Linear(2, 1, bias=False), ["weight[0, 0]", "weight[0, 1]"]),
    "a vector": (nn.ParameterList([torch.tensor([3.0, -4.0])]), ["0[0]", "0[1]"]),
    "a complex number": (nn.ParameterList([torch.tensor([3 - 4j])]), []),
}


@pytest.mark.parametrize("orthogonalize", [False, True])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("net, names", AXES.values(), ids=AXES)
def test_as_many_numbers_as_directions_are_the_axes_themselves(net, names, normalize, orthogonalize):
    snapshot = Snapshot.of(net)
    plane = Plane(snapshot.params, Random(normalize, ignore=None, orthogonalize=orthogonalize)(snapshot, 2))
    assert plane.axes() == names
    assert plane.cosine() == 0
    assert min(plane.norms()) > 0


def test_axes_are_as_long_as_the_weights_and_one_where_these_are_zero():
    net = nn.Linear(1, 1)
    net.weight.data.fill_(-3.0)
    net.bias.data.zero_()
    w, b = Random(ignore=None)(Snapshot.of(net), 2)
    assert (w["weight"].item(), w["bias"].item()) == pytest.approx((3.0, 0.0))
    assert (b["weight"].item(), b["bias"].item()) == (0.0, 1.0)
    w, b = Random("none", ignore=None)(Snapshot.of(net), 2)
    assert (w["weight"].item(), b["bias"].item()) == (1.0, 1.0)


def test_more_numbers_than_directions_are_drawn_at_random():
    snapshot = Snapshot.of(nn.Linear(1, 1))
    (line,) = Random(ignore=None)(snapshot, 1)
    assert all(tensor.any() for tensor in line.values())
    net = nn.Linear(2, 1)
    assert Plane(Snapshot.of(net).params, Random(ignore=None)(Snapshot.of(net), 2)).axes() == []
    assert Plane(Snapshot.of(net).params, Random()(Snapshot.of(net), 2)).axes() == ["weight[0, 0]", "weight[0, 1]"]
    net = nn.Linear(3, 1)  # one tensor moves, and more than one of its numbers
    assert Plane(Snapshot.of(net).params, Random()(Snapshot.of(net), 2)).axes() == []
