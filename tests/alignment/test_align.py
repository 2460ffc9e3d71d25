"""Alignment: models permuted by hand come back, parts without a rule are refused, and the proof finds what is wrong."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from lightning_landscape import align
from lightning_landscape.alignment import align as room
from lightning_landscape.alignment.units import Placed, Units, join


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A net with weights and statistics that tell all of its units apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make()
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                nn.init.normal_(part.weight, 1, 0.3)
                nn.init.normal_(part.bias, 0, 0.3)
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    return net.eval()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1),
        nn.PReLU(6), nn.Flatten(), nn.Linear(6 * 4 * 4, 8), nn.GELU(), nn.Linear(8, 3),
    )  # fmt: skip


def residual(block: type[nn.Module], planes: int) -> nn.Module:
    """A stem, two blocks of torchvision's on one stream, one that makes it narrower, and a head."""
    width, wide = planes * block.expansion, 2 * planes * block.expansion
    down = nn.Sequential(nn.Conv2d(width, wide, 1, 2, bias=False), nn.BatchNorm2d(wide))
    return nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), block(width, planes), block(width, planes),
        block(width, 2 * planes, 2, down), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 3),
    )  # fmt: skip


class Transformer(nn.Module):
    """Tokens or features, a position for each, a class token, two layers, and a head."""

    def __init__(self, norm_first: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 10, batch_first=batch_first, norm_first=norm_first)
        self.features, self.batch_first = nn.Linear(6, 12), batch_first
        self.position, self.first = nn.Parameter(torch.randn(1, 6, 12)), nn.Parameter(torch.randn(1, 1, 12))
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x) * math.sqrt(12)
        h = torch.cat([self.first.expand(len(h), -1, -1), h], dim=1) + self.position
        if not self.batch_first:
            return self.head(self.layers(h.transpose(0, 1))[0])
        return self.head(self.layers(h)[:, 0])


class Crossed(nn.Module):
    """A decoder's layer, and attention from features of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.other = nn.Embedding(11, 8), nn.Linear(8, 10)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 9, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, kdim=10, vdim=10, add_bias_kv=True, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x)
        h = self.decoder(h, h)
        other = self.other(h)
        return self.head(self.attention(h, other, other)[0].mean(dim=1))


IMAGES, ROWS = torch.randn(4, 2, 8, 8), torch.randn(5, 6)
NETS: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {  # with the number of permutations that are free
    "perceptron": (mlp, ROWS, 2),
    "convolutions": (cnn, IMAGES, 3),
    "basic blocks": (lambda: residual(BasicBlock, 4), IMAGES, 5),  # two streams, one inside each block
    "bottlenecks": (lambda: residual(Bottleneck, 2), IMAGES, 8),  # two streams, two inside each block
    "transformer": (Transformer, torch.randn(4, 5, 6), 5),  # the stream; heads and units of each layer
    "norm first": (lambda: Transformer(norm_first=True), torch.randn(4, 5, 6), 5),
    "sequence first": (lambda: Transformer(batch_first=False), torch.randn(4, 5, 6), 5),
    "decoder": (Crossed, torch.randint(0, 11, (4, 5)), 7),  # the stream, 3 attentions, 9, 10, and the last 8
}
nets = pytest.mark.parametrize("make, inputs, blocks", NETS.values(), ids=NETS)


@nets
def test_the_function_stays_and_the_distance_falls(make, inputs, blocks):
    """The outputs are computed here, with `load_state_dict`, on other data than those of the proof."""
    first, second = seeded(make, 0), seeded(make, 1)
    before = [{name: t.clone() for name, t in net.state_dict().items()} for net in (first, second)]
    alignment = align(first, second, [inputs])
    aligned = copy.deepcopy(second)
    aligned.load_state_dict(dict(alignment.weights))
    fresh = inputs.roll(1, 0) if not inputs.is_floating_point() else torch.randn_like(inputs)
    torch.testing.assert_close(aligned(fresh), second(fresh), rtol=1e-4, atol=1e-5)
    distances = [
        sum(float((w[name] - p.detach()).square().sum()) for name, p in first.named_parameters()) ** 0.5
        for w in (before[1], alignment.weights)
    ]
    assert (alignment.distance_before, alignment.distance) == pytest.approx(distances, rel=1e-5)
    assert alignment.distance < alignment.distance_before
    assert alignment.moved > 0
    assert alignment.error < 1e-12
    for net, weights in zip((first, second), before, strict=True):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


@nets
def test_every_permutation_is_seen(make, inputs, blocks):
    net = seeded(make, 0)
    structure = room.watch(net, room.rule_of, lambda: net(inputs))
    assert len(structure.blocks) == blocks


def hand_permuted(net: nn.Module) -> dict[str, Tensor]:
    """A transformer's layer whose heads are swapped, whose entries are turned within heads, and units reversed."""
    state = {name: t.clone() for name, t in net.state_dict().items()}
    heads = torch.arange(12).reshape(3, 4)
    queries = torch.cat([heads[h].roll(shift) for h, shift in ((2, 1), (0, 3), (1, 2))])
    values = torch.cat([heads[h].flip(0) for h in (2, 0, 1)])
    for name, prefix in ((n, n.removesuffix("linear1.weight")) for n in list(state) if n.endswith("linear1.weight")):
        for key, order in (("linear1.weight", range(9, -1, -1)), ("linear1.bias", range(9, -1, -1))):
            state[prefix + key] = state[prefix + key][list(order)]
        state[f"{prefix}linear2.weight"] = state[f"{prefix}linear2.weight"].flip(1)
        for key in ("in_proj_weight", "in_proj_bias"):
            q, k, v = state[f"{prefix}self_attn.{key}"].chunk(3)
            state[f"{prefix}self_attn.{key}"] = torch.cat([q[queries], k[queries], v[values]])
        out = f"{prefix}self_attn.out_proj.weight"
        state[out] = state[out][:, values]
        assert name in state
    return state


def test_a_permuted_transformer_comes_back_bit_by_bit():
    net = seeded(Transformer, 0)
    other = hand_permuted(net)
    inputs = torch.randn(4, 5, 6)
    torch.testing.assert_close(torch.func.functional_call(net, other, (inputs,)), net(inputs), rtol=1e-4, atol=1e-5)
    alignment = align(net, other, [inputs])
    assert alignment.distance_before > 1
    assert alignment.distance == 0
    assert all(torch.equal(alignment.weights[name], tensor) for name, tensor in net.state_dict().items())


def test_a_permuted_convolution_comes_back_through_flatten():
    net = seeded(cnn, 0)
    other = {name: t.clone() for name, t in net.state_dict().items()}
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for name in ("4.weight", "4.bias", "5.weight"):
        other[name] = other[name][order]
    other["7.weight"] = other["7.weight"].reshape(8, 6, 16)[:, order].reshape(8, 96)
    statistics = torch.tensor([1, 2, 3, 4, 0])
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        other[name] = other[name][statistics]
    other["4.weight"] = other["4.weight"][:, statistics]
    alignment = align(net, other, [IMAGES])
    assert all(torch.equal(alignment.weights[name], tensor) for name, tensor in net.state_dict().items())


def test_a_permuted_residual_stream_comes_back():
    net = seeded(lambda: residual(BasicBlock, 4), 0)
    other = {name: t.clone() for name, t in net.state_dict().items()}
    order = torch.tensor([2, 0, 3, 1])
    out = ["0", *(f"{block}.conv2" for block in (3, 4))]
    norms = ["1", *(f"{block}.bn2" for block in (3, 4))]
    keys = [f"{norm}.{key}" for norm in norms for key in ("weight", "bias", "running_mean", "running_var")]
    for name in (*(f"{conv}.weight" for conv in out), "0.bias", *keys):
        other[name] = other[name][order]
    for name in ("3.conv1", "4.conv1", "5.conv1", "5.downsample.0"):
        other[f"{name}.weight"] = other[f"{name}.weight"][:, order]
    alignment = align(net, other, [IMAGES])
    assert alignment.distance == 0
    assert all(torch.equal(alignment.weights[name], tensor) for name, tensor in net.state_dict().items())


# what is refused


class Wrapped(nn.Module):
    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self._run = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def hidden() -> dict[str, nn.Module]:
    return {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)}


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(128, 3))


REFUSED = {
    "recurrent": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.LSTM(4, 5)),
        torch.randn(3, 4, 6),
        r"The units of '1' \(LSTM\) can't be aligned: lstm has no rule\. Alignment knows linear",
    ),
    "groups": (grouped, IMAGES, r"The units of '1' \(Conv2d\) .*: a convolution in 2 groups keeps each group apart"),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.GroupNorm(4, 8), nn.Flatten(), nn.Linear(288, 3)),
        IMAGES,
        r"The units of '1' \(GroupNorm\) .*: a normalisation of 4 groups keeps each group apart",
    ),
    "place": (
        lambda: Wrapped(lambda net, x: net.b(net.a(x)[:, [1, 0, 2, 3, 4, 5, 6, 7]]), **hidden()),
        ROWS,
        r"The units of Wrapped can't be aligned: it picks entries by their place",
    ),
    "slice": (
        lambda: Wrapped(lambda net, x: net.b(F.pad(net.a(x)[:, :4], (0, 4))), **hidden()),
        ROWS,
        "it picks units by their place",
    ),
    "sorted": (lambda: Wrapped(lambda net, x: net.b(net.a(x).cumsum(1)), **hidden()), ROWS, "cumsum has no rule"),
    "split": (
        lambda: Wrapped(lambda net, x: net.b(net.a(x).view(-1, 2, 4).flip(1).flatten(1)), **hidden()),
        ROWS,
        "it splits the units of an axis over several",
    ),
    "beside": (
        lambda: Wrapped(
            lambda net, x: net.b(torch.cat([net.a(x), net.c(x)], 1)),
            a=nn.Linear(6, 5),
            b=nn.Linear(8, 3),
            c=nn.Linear(6, 3),
        ),
        ROWS,
        "it puts several kinds of units side by side",
    ),
    "nothing hidden": (lambda: nn.Linear(6, 3), ROWS, "Linear has no hidden units whose order is free"),
}


@pytest.mark.parametrize("make, inputs, message", REFUSED.values(), ids=REFUSED)
def test_parts_without_a_rule_are_refused_by_name(make, inputs, message):
    with pytest.raises(ValueError, match=message):
        align(seeded(make, 0), seeded(make, 1), [inputs])


def test_the_proof_finds_what_the_rules_do_not_see():
    """The hidden units leave torch, so that no rule follows them."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        left = torch.from_numpy(net.a(x).detach().numpy())
        return net.b(net.c(left).relu() + torch.arange(8))

    def make() -> nn.Module:
        return Wrapped(forward, **hidden(), c=nn.Linear(8, 8))

    with pytest.raises(
        ValueError, match=r"Wrapped can't be aligned: with its units in another order its outputs change"
    ):
        align(seeded(make, 0), seeded(make, 1), [ROWS])


def test_weights_of_zero_hide_nothing_from_the_proof():
    """Units that no rule follows, behind a head of zeros: the outputs are zero in any order."""

    def make() -> nn.Module:
        net = Wrapped(lambda net, x: net.b(torch.from_numpy(net.a(x).detach().numpy()) + torch.arange(8)), **hidden())
        nn.init.zeros_(net.b.weight)
        nn.init.zeros_(net.b.bias)
        return net

    with pytest.raises(ValueError, match="with its units in another order its outputs change by"):
        align(seeded(make, 0), seeded(make, 1), [ROWS])


def test_outputs_that_are_not_finite_prove_nothing():
    first, second = seeded(mlp, 0), seeded(mlp, 1)
    with pytest.raises(ValueError, match="with its units in another order its outputs change by nan"):
        align(first, second, [torch.full((4, 6), float("inf"))])


def test_what_tells_units_apart_keeps_them_in_place():
    """A constant that is added to the units, and a frozen layer, fix their order; that of the others is free."""

    def make() -> nn.Module:
        return Wrapped(lambda net, x: net.b(net.c(net.a(x) + torch.arange(8.0)).relu()), **hidden(), c=nn.Linear(8, 8))

    first, second = seeded(make, 0), seeded(make, 1)
    alignment = align(first, second, [ROWS])
    assert torch.equal(alignment.weights["a.weight"], second.a.weight)
    assert not torch.equal(alignment.weights["b.weight"], second.b.weight)
    for net in (first, second):
        net.b.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="Wrapped has no hidden units whose order is free"):
        align(first, second, [ROWS])


def test_errors_name_what_does_not_fit(monkeypatch):
    with pytest.raises(ValueError, match=r"The target model has no '1\.weight': it must be of the same"):
        align(mlp(), nn.Sequential(nn.Linear(6, 9)), [ROWS])
    with pytest.raises(ValueError, match=r"has shape \(9, 5\) for '0\.weight', the model has \(9, 6\)"):
        align(mlp(), nn.Sequential(nn.Linear(5, 9)), [ROWS])
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'align needs scipy: pip install "lightning-landscape\[align\]"'):
        align(mlp(), mlp(), [ROWS])
    assert importlib.util.find_spec("scipy")


def test_files_and_named_inputs(tmp_path):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, features: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(features)}

    first, second = seeded(Named, 0), seeded(Named, 1)
    torch.save({"state_dict": second.state_dict()}, tmp_path / "second.ckpt")
    stream = torch.get_rng_state()
    from_file = align(first, tmp_path / "second.ckpt", [{"features": ROWS}])
    assert torch.equal(torch.get_rng_state(), stream)
    assert from_file.distance == align(first, second, [{"features": ROWS}]).distance


def test_units_within_units_share_one_order():
    channels, flat, other = Placed(Units(4), inner=6), Placed(Units(24)), Placed(Units(24))
    assert join(flat, other) == other.resolve()
    assert join(channels, other) == channels
    assert flat.resolve() == channels
    fours, sixes = Placed(Units(4), inner=6), Placed(Units(6), inner=4)
    join(fours, sixes)  # no order of the one is an order of the other
    assert fours.units.pinned
    assert sixes.units.pinned
