"""Named parameters as one vector: against numpy on the flat vector."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.weights.parameters import (
    FilterLayout,
    Snapshot,
    canonical_name,
    checksum,
    dot,
    exact,
    filter_norms,
    norm,
    size_in_bytes,
    tensor_norm,
    working_dtype,
)


def test_rows_are_the_filters_of_a_transposed_convolution():
    layer = nn.ConvTranspose2d(4, 6, (2, 3), groups=2)
    layout = Snapshot.of(layer).filters["weight"]
    assert layout == FilterLayout(axis=1, groups=2)
    weight = layer.weight.detach()  # (4, 3, 2, 3): two groups of 2 inputs and 3 outputs
    rows = layout.rows(weight)
    assert rows.shape == (6, 12)
    for group in range(2):
        for out in range(3):
            expected = [weight[2 * group + i, out, y, x].item() for i in range(2) for y in range(2) for x in range(3)]
            assert rows[3 * group + out].tolist() == expected


def test_scale_multiplies_filter_i_by_factor_i():
    weight = torch.arange(4 * 3 * 2, dtype=torch.float64).reshape(4, 3, 2)
    factors = torch.tensor([1.0, 10, 100, 1000, 1e4, 1e5])
    got = FilterLayout(axis=1, groups=2).scale(weight, factors)
    for i in range(4):
        for out in range(3):
            assert torch.equal(got[i, out], weight[i, out] * 10 ** ((i // 2) * 3 + out))
    rows = FilterLayout().scale(weight, factors[:4])
    for i in range(4):
        assert torch.equal(rows[i], weight[i] * 10**i)


def test_filter_norms_are_accumulated_in_float64():
    # 1 + 4,096 numbers of 2⁻¹²: their squares add up to 2⁻¹² beside 1, one by one lost in float16.
    weight = torch.full((1, 4097), 2.0**-12, dtype=torch.float16)
    weight[0, 0] = 1
    assert filter_norms(weight, FilterLayout()).tolist() == [np.sqrt(1 + 2.0**-12)]
    assert tensor_norm(weight) == np.sqrt(1 + 2.0**-12)


def test_norm_and_dot_are_those_of_the_flat_vector():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4), "b": (5,), "c": ()}
    a, b = ({n: torch.tensor(rng.normal(size=s)) for n, s in shapes.items()} for _ in range(2))
    flat_a, flat_b = (np.concatenate([t.numpy().reshape(-1) for t in x.values()]) for x in (a, b))
    assert norm(a) == pytest.approx(np.linalg.norm(flat_a), rel=1e-14)
    assert dot(a, b) == pytest.approx(flat_a @ flat_b, rel=1e-13)
    assert norm({}) == 0


def test_dot_is_exact_where_float32_is_not():
    a = {"w": torch.tensor([2.0**24, 1.0, -(2.0**24)])}
    assert dot(a, {"w": torch.ones(3)}) == 1.0


def test_complex_dot_is_the_real_inner_product():
    a, b = {"w": torch.tensor([1 + 2j, 3j])}, {"w": torch.tensor([2 - 1j, 1 + 1j])}
    assert dot(a, b) == 1 * 2 + 2 * -1 + 0 * 1 + 3 * 1
    assert norm(a) == pytest.approx(np.sqrt(1 + 4 + 9))


def test_a_snapshot_copies_and_a_view_does_not():
    net = nn.Linear(3, 2)
    before = net.weight.detach().clone()
    copied, live = Snapshot.of(net), Snapshot.view(net)
    net.weight.data.add_(1)
    assert torch.equal(copied.params["weight"], before)
    assert live.params["weight"].data_ptr() == net.weight.data_ptr()
    for snapshot in (copied, live):
        assert not snapshot.params["weight"].requires_grad
    assert net.weight.requires_grad


def test_the_snapshot_leaves_buffers_and_frozen_parameters_out():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net[0].bias.requires_grad_(False)
    assert list(Snapshot.of(net).params) == ["0.weight", "1.weight", "1.bias"]


def test_a_parameter_tied_to_a_transposed_convolution_has_the_first_layers_filters():
    conv, up = nn.Conv2d(3, 4, 2, bias=False), nn.ConvTranspose2d(4, 3, 2, bias=False)
    up.weight = conv.weight
    assert Snapshot.of(nn.Sequential(conv, up)).filters == {"0.weight": FilterLayout()}


def test_a_lazy_parameter_says_what_to_do():
    with pytest.raises(ValueError, match=r"Parameter '0.weight' has no shape yet: run one batch"):
        Snapshot.of(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize("net", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_a_module_without_trainable_parameters_has_no_landscape(net):
    with pytest.raises(ValueError, match=r"no trainable parameter.*there is no landscape to show"):
        Snapshot.of(net)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("weight", "weight"),
        ("_orig_mod.weight", "weight"),
        ("net._orig_mod.0._orig_mod.weight", "net.0.weight"),
    ],
)
def test_canonical_names(name, expected):
    assert canonical_name(name) == expected


@pytest.mark.parametrize(
    "dtype, working, finest",
    [
        (torch.float16, torch.float32, torch.float64),
        (torch.bfloat16, torch.float32, torch.float64),
        (torch.float32, torch.float32, torch.float64),
        (torch.float64, torch.float64, torch.float64),
        (torch.complex64, torch.complex64, torch.complex128),
        (torch.complex128, torch.complex128, torch.complex128),
    ],
)
def test_dtypes(dtype, working, finest):
    assert working_dtype(dtype) == working
    assert exact(torch.ones(2, dtype=dtype)).dtype == finest


def test_the_checksum_sees_types_shapes_bits_and_order():
    base = [torch.zeros(4), torch.ones(2)]
    different = [
        [torch.zeros(2, 2), torch.ones(2)],
        [torch.zeros(4, dtype=torch.int32), torch.ones(2)],
        [torch.zeros(4), torch.ones(2), torch.zeros(0)],
        [torch.ones(2), torch.zeros(4)],
        [-torch.zeros(4), torch.ones(2)],
        [torch.zeros(4), torch.tensor([1.0, 1.0000001])],
    ]
    digests = [checksum(tensors) for tensors in [base, *different]]
    assert len(set(digests)) == len(digests)
    assert all(len(d) == 32 and int(d, 16) >= 0 for d in digests)


SPARSE = {
    "coo": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((2, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((2, 2)),
}


@pytest.mark.filterwarnings("ignore:Sparse (invariant checks|[BC]S[CR] tensor support)")
def test_sparse_tensors_have_checksums_and_sizes():
    dense = torch.tensor([[0.0, 2.0, 0, 0], [3.0, 0, 0, 0]])
    different = [dense * 2, dense.flip(1), torch.cat([dense, torch.zeros(2, 2)], 1), dense.double()]
    digests = {kind: [checksum([make(t)]) for t in [dense, *different]] for kind, make in SPARSE.items()}
    assert len({digest for kind in digests.values() for digest in kind}) == 5 * len(SPARSE)
    assert all(checksum([make(dense.clone())]) == digests[kind][0] for kind, make in SPARSE.items())
    # Two float32, and int64: 2 x 2 places; 3 row ends and 2 columns; 5 column ends and 2 rows. One block of 4 float32,
    # 2 row ends and 1 column; 3 column ends and 1 row.
    sizes = [size_in_bytes(make(dense)) for make in SPARSE.values()]
    assert sizes == [8 + 8 * 4, 8 + 8 * 5, 8 + 8 * 7, 16 + 8 * 3, 16 + 8 * 4]


def test_the_checksum_is_of_values_not_of_memory():
    matrix = torch.arange(12.0).reshape(3, 4)
    strided = torch.arange(24.0).reshape(3, 8)[:, ::2] / 2
    assert checksum([strided]) == checksum([torch.tensor(strided.tolist())])
    assert checksum([matrix.T]) == checksum([torch.tensor(matrix.T.tolist())])
    assert checksum([matrix.T]) != checksum([matrix])
    assert checksum([torch.ones(3, requires_grad=True)]) == checksum([torch.ones(3)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.complex64, torch.int64])
def test_every_type_has_a_checksum(dtype):
    assert checksum([torch.ones((), dtype=dtype)]) != checksum([torch.zeros((), dtype=dtype)])


def test_parameters_that_share_numbers_are_refused():
    """A point would give each of them its own values, and the memory has one."""

    def pair(make):
        net = nn.Module()
        net.a = nn.Parameter(torch.arange(12.0).reshape(3, 4))
        net.b = make(net.a)
        return net

    shared = {
        "whole": lambda a: nn.Parameter(a.data),
        "transposed": lambda a: nn.Parameter(a.data.t()),
        "part": lambda a: nn.Parameter(a.data[1]),
        "bits": lambda a: nn.Parameter(a.data.view(torch.float16)[:, 6:]),
    }
    for make in shared.values():
        with pytest.raises(ValueError, match="'a' and 'b' are two, but share their memory"):
            Snapshot.of(pair(make))
    whole = torch.zeros(4, 6)
    apart = nn.Module()
    apart.left, apart.right, apart.last = (nn.Parameter(whole[:, i : i + 2]) for i in (0, 2, 4))
    assert len(Snapshot.of(apart).params) == 3
    assert len(Snapshot.of(nn.LSTM(2, 3, 2)).params) == 8
    tied = pair(lambda a: a)
    assert list(Snapshot.of(tied).params) == ["a"]
