"""Every normalisation against loops over filters in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.directions.normalize import NORMALIZATIONS, dead_filters, rescale
from lightning_landscape.weights.parameters import FilterLayout, Snapshot


def normalized(direction, snapshot, how):
    result = {name: tensor.clone() for name, tensor in direction.items()}
    rescale(result, snapshot, how)
    return result


# The filters of every weight by hand: index tuples that select the weights of one output unit.
FILTERS = {
    "embedding.weight": [(i,) for i in range(6)],
    "conv.weight": [(o,) for o in range(6)],
    "grouped.weight": [(o,) for o in range(4)],
    "up.weight": [(slice(None), o) for o in range(3)],  # (in, out, h, w)
    "up_grouped.weight": [(slice(2 * g, 2 * g + 2), o) for g in range(2) for o in range(3)],  # (in, out / 2, h, w)
    "layer_norm.weight": [(o,) for o in range(5)],
    "layer_norm.bias": [(o,) for o in range(5)],
    "head.weight": [(o,) for o in range(5)],
}


def length(x) -> float:
    """The Euclidean norm, one number after the other."""
    return math.sqrt(math.fsum(float(v) ** 2 for v in np.asarray(x).flat))


def naive(how: str, name: str, d: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The formulas of the paper, filter by filter; tensors of one dimension are one filter."""
    result = np.array(d)
    filters = FILTERS.get(name, [...])
    if how == "filter":
        for f in filters:
            result[f] = d[f] * length(w[f]) / length(d[f])
    elif how == "layer":
        result = d * length(w) / length(d)
    elif how == "weight":
        for index in np.ndindex(*d.shape):
            result[index] = d[index] * w[index]
    elif how == "dfilter":
        for f in filters:
            result[f] = d[f] / length(d[f])
    elif how == "dlayer":
        result = d / length(d)
    else:
        assert how == "none"
    return result


def raw_noise(snapshot: Snapshot) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in snapshot.params.items()}


def test_the_table_is_the_one_of_the_formulas():
    assert set(NORMALIZATIONS) == {"filter", "layer", "weight", "dfilter", "dlayer", "model", "none"}


@pytest.mark.parametrize("how", [h for h in NORMALIZATIONS if h != "model"])
def test_it_equals_the_naive_loop_for_every_layer(how, zoo, numpy_params):
    snapshot = Snapshot.of(zoo)
    noise = raw_noise(snapshot)
    got = numpy_params(normalized(noise, snapshot, how))
    noise, weights = numpy_params(noise), numpy_params(snapshot.params)
    assert got.keys() == weights.keys()
    for name, tensor in got.items():
        expected = naive(how, name, noise[name], weights[name])
        np.testing.assert_allclose(tensor, expected, rtol=1e-9, atol=0, err_msg=f"{how} of {name}")


def test_model_uses_one_norm_over_all_tensors_that_move(zoo, numpy_params):
    snapshot = Snapshot.of(zoo)
    some = {n: t for n, t in raw_noise(snapshot).items() if n in ("conv.weight", "head.weight", "head.bias")}
    got = numpy_params(normalized(some, snapshot, "model"))
    weights, noise = numpy_params(snapshot.params), numpy_params(some)
    factor = length([length(weights[n]) for n in some]) / length([length(noise[n]) for n in some])
    assert got.keys() == some.keys()
    for name, tensor in got.items():
        np.testing.assert_allclose(tensor, noise[name] * factor, rtol=1e-9)


def test_a_transposed_convolution_is_not_split_along_its_input(zoo):
    snapshot = Snapshot.of(zoo)
    result = normalized(raw_noise(snapshot), snapshot, "filter")["up.weight"]
    weight = snapshot.params["up.weight"]
    lengths = torch.linalg.vector_norm
    torch.testing.assert_close(lengths(result, dim=(0, 2, 3)), lengths(weight, dim=(0, 2, 3)), rtol=1e-9, atol=0)
    assert not torch.allclose(lengths(result, dim=(1, 2, 3)), lengths(weight, dim=(1, 2, 3)), rtol=1e-2)


@pytest.mark.parametrize(
    "layer, filters",
    [
        (nn.ConvTranspose1d(4, 6, 3, groups=2), [(slice(0, 2), 0), (slice(0, 2), 1), (slice(2, 4), 2)]),
        (nn.ConvTranspose3d(3, 2, 2), [(slice(None), 0), (slice(None), 1)]),
    ],
)
def test_transposed_convolutions_of_other_ranks_split_along_their_output(layer, filters):
    snapshot = Snapshot.of(layer.double())
    result = normalized(raw_noise(snapshot), snapshot, "filter")["weight"]
    for f in filters:
        assert length(result[f].numpy()) == pytest.approx(length(snapshot.params["weight"][f].numpy()), rel=1e-9)


def test_the_transposed_filter_of_torch_is_the_output_channel():
    """Zeroing our filter i of a ConvTranspose2d zeroes output channel i, and nothing else."""
    layer = nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False)
    layout = Snapshot.of(layer).filters["weight"]
    x = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1, generator=torch.Generator().manual_seed(0))
        whole = layer.weight.clone()
        for i in range(6):
            factors = torch.ones(6)
            factors[i] = 0
            layer.weight.copy_(layout.scale(whole, factors))
            alive = [c for c in range(6) if layer(x)[0, c].abs().sum() > 0]
            assert alive == [c for c in range(6) if c != i]


def test_complex_weights_have_real_filter_lengths():
    rng = np.random.default_rng(0)
    w, d = rng.normal(size=(2, 3, 4)) + 1j * rng.normal(size=(2, 3, 4))
    snapshot = Snapshot({"w": torch.tensor(w)}, {"w": FilterLayout()})
    got = normalized({"w": torch.tensor(d)}, snapshot, "filter")["w"].numpy()
    for i in range(3):
        expected = d[i] * np.sqrt((abs(w[i]) ** 2).sum()) / np.sqrt((abs(d[i]) ** 2).sum())
        np.testing.assert_allclose(got[i], expected, rtol=1e-9)


@pytest.mark.parametrize("how", ["filter", "weight"])
def test_a_dead_filter_stays_at_rest_and_is_counted(how, zoo):
    zoo.conv.weight.data[2] = 0
    zoo.head.weight.data[0] = zoo.head.weight.data[4] = 0
    zoo.up.weight.data[:, 1] = 0
    zoo.up.weight.data[3] = 0  # an input, not a filter
    zoo.head.bias.data[:] = 0  # a vector, not a filter
    snapshot = Snapshot.of(zoo)
    result = normalized(raw_noise(snapshot), snapshot, how)
    assert not result["conv.weight"][2].any()
    assert not result["head.weight"][[0, 4]].any()
    assert not result["up.weight"][:, 1].any()
    assert result["conv.weight"][[0, 1, 3, 4, 5]].abs().sum(dim=(1, 2, 3)).all()
    assert dead_filters(snapshot, snapshot.params) == 4
    assert dead_filters(snapshot, ["conv.weight", "head.bias"]) == 1


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_zero_noise_stays_zero(how, zoo):
    snapshot = Snapshot.of(zoo)
    zeros = {n: torch.zeros_like(t) for n, t in snapshot.params.items()}
    assert not any(t.any() for t in normalized(zeros, snapshot, how).values())


def test_an_unknown_normalisation_lists_the_choices(zoo):
    with pytest.raises(ValueError, match="normalize='filters' is unknown; the choices are filter, layer, weight"):
        normalized({}, Snapshot.of(zoo), "filters")
