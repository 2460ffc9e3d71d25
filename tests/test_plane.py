"""Plane: the affine map and its least-squares inverse, against numpy on flat vectors."""

import numpy as np
import pytest
import torch

from lightning_landscape.weights.plane import Plane

SHAPES = {"a": (3, 4), "b": (5,), "c": (), "d": (2, 3, 1, 2)}
TOTAL = 12 + 5 + 1 + 12


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=TOTAL)


def unflatten(flat: np.ndarray, dtype=torch.float64) -> dict[str, torch.Tensor]:
    params, start = {}, 0
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        params[name] = torch.tensor(flat[start : start + count].reshape(shape), dtype=dtype)
        start += count
    return params


def flatten(params) -> np.ndarray:
    return np.concatenate([params[name].double().numpy().reshape(-1) for name in SHAPES])


def make(k: int, dtype=torch.float64) -> tuple[Plane, np.ndarray, np.ndarray]:
    """A plane of k directions far from orthogonal, its origin and its (P, k) matrix."""
    origin = vector(0)
    columns = [vector(1)]
    for i in range(1, k):
        columns.append(0.9 * columns[0] + 0.4 * (i + 1) * vector(i + 1))
    matrix = np.stack(columns, axis=1)
    return Plane(unflatten(origin, dtype), tuple(unflatten(c, dtype) for c in columns)), origin, matrix


@pytest.mark.parametrize("k", [1, 2, 3])
def test_at_is_the_affine_map(k):
    plane, origin, matrix = make(k)
    assert plane.ndim == k
    for seed in range(5):
        point = np.random.default_rng(100 + seed).normal(size=k)
        np.testing.assert_allclose(flatten(plane.at(point)), origin + matrix @ point, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_at_is_affine_in_its_point(k):
    plane, _, _ = make(k)
    a, b = np.random.default_rng(7).normal(size=(2, k))
    both = flatten(plane.at(a + b)) - flatten(plane.at(np.zeros(k)))
    each = [flatten(plane.at(p)) - flatten(plane.at(np.zeros(k))) for p in (a, b)]
    np.testing.assert_allclose(both, each[0] + each[1], atol=1e-13)


def test_at_zero_is_a_copy_of_the_origin_in_its_own_types():
    plane, _, _ = make(2)
    origin = {**plane.origin, "a": plane.origin["a"].to(torch.bfloat16), "b": plane.origin["b"].to(torch.float32)}
    plane = Plane(origin, tuple({n: t.float() for n, t in d.items()} for d in plane.directions))
    centre = plane.at([0, 0])
    for name, tensor in origin.items():
        assert centre[name].dtype == tensor.dtype
        assert torch.equal(centre[name], tensor)
        centre[name].fill_(17)
        assert not torch.equal(centre[name], plane.origin[name])


def test_low_precision_is_displaced_in_float32_and_rounded_once():
    # bfloat16 has steps of 2⁻⁷ above 1: each displacement alone would round back to 1.
    step = 2**-7
    origin = {"w": torch.ones(1, dtype=torch.bfloat16)}
    direction = {"w": torch.full((1,), 0.375 * step)}
    at = Plane(origin, (direction, direction)).at([1.0, 1.0])["w"]
    assert at.dtype == torch.bfloat16
    assert at.item() == 1 + step


@pytest.mark.parametrize("k", [1, 2, 3])
def test_project_inverts_at_on_directions_that_are_not_orthogonal(k):
    plane, _, matrix = make(k)
    if k > 1:
        unit = matrix / np.linalg.norm(matrix, axis=0)
        assert abs((unit.T @ unit)[0, 1]) > 0.5
    for seed in range(5):
        point = np.random.default_rng(200 + seed).normal(size=k)
        np.testing.assert_allclose(plane.project(plane.at(point)), point, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_project_is_least_squares_off_the_plane(k):
    plane, origin, matrix = make(k)
    off = vector(50)
    expected = np.linalg.lstsq(matrix, off - origin, rcond=None)[0]
    assert np.linalg.norm(matrix @ expected - (off - origin)) > 1  # off the plane indeed
    np.testing.assert_allclose(plane.project(unflatten(off)), expected, rtol=1e-10)


def test_project_of_the_origin_is_zero_and_float32_is_close():
    plane, _, _ = make(3, torch.float32)
    np.testing.assert_array_equal(plane.project(plane.origin), np.zeros(3))
    np.testing.assert_allclose(plane.project(plane.at([0.5, -1.25, 2])), [0.5, -1.25, 2], atol=1e-5)


def test_project_on_parallel_directions_takes_the_shortest_coordinates():
    plane, _, _ = make(1)
    twice = Plane(plane.origin, (plane.directions[0], plane.directions[0]))
    np.testing.assert_allclose(twice.project(plane.at([1.0])), [0.5, 0.5], rtol=1e-10)


def test_complex_parameters_are_real_vectors_of_twice_the_length():
    rng = np.random.default_rng(3)
    flat = rng.normal(size=(4, 6)) + 1j * rng.normal(size=(4, 6))
    origin, d, e, off = ({"w": torch.tensor(row)} for row in flat)
    plane = Plane(origin, (d, e))
    real = np.concatenate([flat.real, flat.imag], axis=1)
    expected = np.linalg.lstsq(real[1:3].T, real[3] - real[0], rcond=None)[0]
    np.testing.assert_allclose(plane.project(off), expected, rtol=1e-11)
    np.testing.assert_allclose(plane.at([2.0, -3.0])["w"].numpy(), flat[0] + 2 * flat[1] - 3 * flat[2], rtol=1e-14)
    np.testing.assert_allclose(plane.norms(), np.linalg.norm(real[1:3], axis=1), rtol=1e-14)


def test_norms_and_cosine():
    plane, _, matrix = make(3)
    np.testing.assert_allclose(plane.norms(), np.linalg.norm(matrix, axis=0), rtol=1e-13)
    unit = matrix / np.linalg.norm(matrix, axis=0)
    off_diagonal = (unit.T @ unit)[np.triu_indices(3, 1)]
    assert plane.cosine() == pytest.approx(off_diagonal[np.argmax(np.abs(off_diagonal))], rel=1e-12)
    assert make(1)[0].cosine() == 0.0
    opposite = Plane(plane.origin, (plane.directions[0], {n: -t for n, t in plane.directions[0].items()}))
    assert opposite.cosine() == pytest.approx(-1)


def test_a_plane_refuses_what_does_not_fit():
    origin = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    with pytest.raises(ValueError, match="at least one direction, got none"):
        Plane(origin, ())
    with pytest.raises(
        ValueError, match=r"Direction 1 and the origin do not name the same parameters: \['b', 'extra'\]"
    ):
        Plane(origin, (origin, {"w": torch.zeros(2, 3), "extra": torch.zeros(2)}))
    with pytest.raises(ValueError, match=r"Direction 0 has shape \(3, 2\) for 'w', the origin has \(2, 3\)"):
        Plane(origin, ({"w": torch.zeros(3, 2), "b": torch.zeros(2)},))


def test_a_point_needs_one_coordinate_a_direction():
    plane, _, _ = make(2)
    for point in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="coordinates"):
            plane.at(point)
