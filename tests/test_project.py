"""The projection of weights onto a plane: exact on any axes, against least squares on flat vectors."""

import numpy as np
import pytest
import torch

from lightning_landscape import Plane
from lightning_landscape.paths.project import Recorded, trajectory_of
from lightning_landscape.weights import plane as planes

SHAPES = {"a": (7, 5), "b": (11,), "c": ()}


def random_weights(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {n: scale * torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in SHAPES.items()}


def flat(weights):
    return np.concatenate([weights[name].double().numpy().reshape(-1) for name in SHAPES])


def combined(plane, coordinates):
    """θ* + Σ cᵢ dᵢ, a tensor at a time."""
    terms = list(zip(coordinates, plane.directions, strict=True))
    return {name: origin + sum(c * d[name] for c, d in terms) for name, origin in plane.origin.items()}


def skew(closeness):
    """Two directions of unlike lengths, the nearer to parallel the larger `closeness`."""
    first = random_weights(1)
    second = {name: 1e3 * (closeness * first[name] + tensor) for name, tensor in random_weights(2).items()}
    return Plane(random_weights(0), (first, second))


@pytest.mark.parametrize("closeness", [0.0, 10.0, 1e4])
def test_a_path_in_the_plane_comes_back_exactly(closeness):
    plane = skew(closeness)
    places = np.array([[3.0, -0.004], [-2.0, 0.001], [0.5, 0.0], [0.0, 0.0]])
    path = trajectory_of(range(4), [combined(plane, place) for place in places], plane)
    # Of directions with 1e4 parts in common, the weights themselves lose four digits.
    np.testing.assert_allclose(path.points * [1, 1e3], places * [1, 1e3], atol=1e-13 * max(closeness, 1))
    assert (path.residuals <= 1e-12 * np.maximum(path.distances, 1)).all()
    assert path.points[-1].tolist() == [0, 0]
    assert path.residuals[-1] == path.distances[-1] == 0


@pytest.mark.parametrize("closeness", [0.0, 10.0])
def test_beside_the_plane_it_is_least_squares_on_flat_vectors(closeness):
    plane = skew(closeness)
    matrix = np.stack([flat(direction) for direction in plane.directions], axis=1)
    records = [random_weights(seed, 5.0) for seed in (5, 6, 7)]
    path = trajectory_of([0, 4, 9], records, plane)
    for t, record in enumerate(records):
        offset = flat(record) - flat(plane.origin)
        expected, *_ = np.linalg.lstsq(matrix, offset, rcond=None)
        np.testing.assert_allclose(path.points[t], expected, rtol=1e-9)
        assert path.residuals[t] == pytest.approx(np.linalg.norm(offset - matrix @ expected), rel=1e-12)
        assert path.distances[t] == pytest.approx(np.linalg.norm(offset), rel=1e-12)
    assert path.steps.tolist() == [0, 4, 9]


def test_it_is_not_the_projection_on_each_axis_alone():
    """On skew axes the cosine with each axis gives another place: that of Li et al.'s code."""
    plane = Plane({"w": torch.zeros(2)}, ({"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([3.0, 4.0])}))
    path = trajectory_of([0], [{"w": torch.tensor([5.0, 4.0])}], plane)
    np.testing.assert_allclose(path.points, [[1, 1]], atol=1e-15)


def test_large_tensors_are_taken_in_pieces(monkeypatch):
    plane, record = skew(1.0), random_weights(8)
    whole = trajectory_of([0], [record], plane)
    monkeypatch.setattr(planes, "CHUNK", 4)
    pieces = trajectory_of([0], [record], plane)
    np.testing.assert_allclose(pieces.points, whole.points, rtol=1e-12)
    np.testing.assert_allclose(pieces.residuals, whole.residuals, rtol=1e-12)


def test_weights_in_single_precision_are_projected_in_double():
    """In float32 arithmetic the distance of 1e-3 from weights of size 1e3 would be lost."""
    origin = {"w": torch.full((3,), 1000.0)}
    plane = Plane(origin, ({"w": torch.tensor([1.0, 0.0, 0.0])},))
    moved = torch.tensor([1000.0625, 1000.0, 1000.0009765625])
    path = trajectory_of([0], [{"w": moved}], plane)
    assert path.points.tolist() == [[0.0625]]
    assert path.residuals.tolist() == [0.0009765625]


def test_one_record_is_read_at_a_time():
    class Files:
        """Records that are read when asked for; no two of them live at once."""

        def __init__(self):
            self.reads = []

        def __len__(self):
            return 3

        def __getitem__(self, t):
            self.reads.append(t)
            return random_weights(t)

    files = Files()
    path = Recorded([0, 1, 2], files, {"lr": [1, 2, 3]}, {"norm": [4.0, 5.0]}, [2]).trajectory(skew(0.0))
    assert files.reads == [0, 1, 2]
    assert path.metrics["lr"].tolist() == [1, 2, 3]
    assert path.history["norm"].tolist() == [4, 5]
    assert path.checkpoints.tolist() == [2]
    assert not path.measured.any()


def test_what_can_not_be_projected_is_told():
    plane, record = skew(0.0), random_weights(3)
    with pytest.raises(ValueError, match=r"Nothing was recorded: call record\(module, step\) during the training"):
        trajectory_of([], [], plane)
    with pytest.raises(ValueError, match="There are 2 steps and 1 sets of weights: give one step a record"):
        trajectory_of([0, 1], [record], plane)
    with pytest.raises(ValueError, match="recorded at step 7 have no 'b': they are of another module"):
        trajectory_of([7], [{"a": record["a"], "c": record["c"]}], plane)
    with pytest.raises(ValueError, match=r"step 7 have shape \(5, 7\) for 'a', the plane has \(7, 5\)"):
        trajectory_of([7], [{**record, "a": record["a"].T}], plane)
