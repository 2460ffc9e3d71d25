"""Principal components of recorded weights, against scikit-learn's on flat vectors."""

import numpy as np
import pytest
import torch

from lightning_landscape.directions import PCA, Site, random_walk_shares
from lightning_landscape.directions import gram as module
from lightning_landscape.weights.parameters import Snapshot
from lightning_landscape.weights.plane import Plane

SHAPES = {"a": (3, 4), "b": (5,), "c": ()}


def split(rows, dtype=torch.float64):
    """Flat rows as sets of weights."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])
    pieces = [np.split(row, ends[:-1]) for row in rows]
    return [
        {n: torch.tensor(p.reshape(s), dtype=dtype) for (n, s), p in zip(SHAPES.items(), parts, strict=True)}
        for parts in pieces
    ]


def flat(params):
    return np.concatenate([params[name].double().numpy().reshape(-1) for name in SHAPES])


@pytest.fixture
def rows():
    """9 points around a curve, far from the origin."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 9)[:, None]
    return 50 + t * rng.normal(size=18) * 3 + t**2 * rng.normal(size=18) + 0.1 * rng.normal(size=(9, 18))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_is_scikit_learns(rows, k):
    sklearn = pytest.importorskip("sklearn.decomposition")
    weights = split(rows)
    pca = PCA(weights)
    directions = [flat(d) for d in pca(Snapshot(weights[-1]), k)]
    expected = sklearn.PCA(n_components=k).fit(rows)
    signs = np.sign((rows[0] - rows[-1]) @ expected.components_.T)
    np.testing.assert_allclose(directions, expected.components_ * signs[:, None], atol=1e-9)
    np.testing.assert_allclose(pca.explained, expected.explained_variance_ratio_, rtol=1e-9)
    assert all((rows[0] - rows[-1]) @ d >= 0 for d in directions)


def test_uncentred_they_are_the_singular_vectors_of_the_rows(rows):
    weights = split(rows)
    pca = PCA(weights, center=False)
    d, e = (flat(v) for v in pca(Snapshot(weights[-1]), 2))
    _, values, vectors = np.linalg.svd(rows - rows[-1])
    np.testing.assert_allclose(abs(np.stack([d, e]) @ vectors[:2].T), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(pca.explained, values[:2] ** 2 / (values**2).sum(), rtol=1e-9)


def test_they_are_orthonormal_and_the_final_model_is_at_the_origin(rows):
    weights = split(rows, torch.float32)
    plane = Plane(weights[-1], PCA(weights)(Snapshot(weights[-1]), 3))
    matrix = np.stack([flat(d) for d in plane.directions])
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert plane.project(weights[-1]).tolist() == [0, 0, 0]


def test_many_parameters_come_piece_by_piece(rows, monkeypatch):
    """A chunk is of all rows together."""
    weights, sizes = split(rows), []
    whole = PCA(weights)(Snapshot(weights[-1]), 2)
    monkeypatch.setattr(module, "CHUNK", 5 * len(rows))
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: sizes.append(sum(t.numel() for t in tensors)) or stack(tensors))
    for a, b in zip(whole, PCA(weights)(Snapshot(weights[-1]), 2), strict=True):
        np.testing.assert_allclose(flat(a), flat(b), atol=1e-12)
    assert max(sizes) == 5 * len(rows)


def test_complex_weights_are_real_ones_of_twice_the_length():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(6, 8)) + 1j * rng.normal(size=(6, 8))
    weights = [{"w": torch.tensor(row)} for row in rows]
    pca = PCA(weights)
    d, _ = pca(Snapshot(weights[-1]), 2)
    real = np.concatenate([rows.real, rows.imag], axis=1)
    _, values, vectors = np.linalg.svd(real - real.mean(0))
    got = np.concatenate([d["w"].numpy().real, d["w"].numpy().imag])
    assert abs(got @ vectors[0]) == pytest.approx(1)
    np.testing.assert_allclose(pca.explained, values[:2] ** 2 / (values**2).sum())


def test_the_directions_of_other_precision_fit_the_snapshot(rows):
    weights = split(rows)
    low = {name: tensor.bfloat16() for name, tensor in weights[-1].items()}
    (d,) = PCA(weights)(Snapshot(low), 1)
    assert {t.dtype for t in d.values()} == {torch.float32}


def test_too_little_is_told(rows):
    weights = split(rows)
    with pytest.raises(ValueError, match="PCA of 2 directions needs at least 3 recorded sets of weights, got 2"):
        PCA(weights[:2])(Snapshot(weights[1]), 2)
    line = split(np.outer(np.arange(5.0), rows[0]))
    with pytest.raises(ValueError, match="The recorded weights lie in 1 directions only, not in 2"):
        PCA(line)(Snapshot(line[-1]), 2)
    with pytest.raises(ValueError, match="lie in 0 directions only"):
        PCA([weights[0]] * 4)(Snapshot(weights[0]), 1)
    lacking = [{k: v for k, v in w.items() if k != "b"} for w in weights]
    with pytest.raises(ValueError, match="The recorded weights 0 have no 'b': they are of another module"):
        PCA(lacking)(Snapshot(weights[-1]), 2)


def test_its_recipe_is_plain(rows):
    pca = PCA(split(rows))
    assert pca.recipe() == {
        "kind": "pca", "recorded": 9, "center": True, "ignore": None, "explained": None, "random_walk": None
    }  # fmt: skip
    pca(Snapshot(pca.weights[-1]), 2)
    assert pca.recipe()["explained"] == pca.explained.tolist()
    assert pca.recipe()["random_walk"] == random_walk_shares(9, 2).tolist()
    assert PCA(pca.weights, center=False).recipe()["random_walk"] is None


def test_the_shares_of_a_random_walk_are_those_of_its_covariance():
    """Of T points of a walk, centred: the eigenvalues of the covariance of the steps' running sums."""
    steps = 30
    sums = np.tril(np.ones((steps, steps)))  # point t is the sum of t steps
    middle = np.eye(steps) - 1 / steps
    values = np.linalg.eigvalsh(middle @ sums @ sums.T @ middle)[::-1]
    np.testing.assert_allclose(random_walk_shares(steps, 5), values[:5] / values.sum(), rtol=1e-9)


def test_a_weak_component_beside_a_strong_one_is_found():
    """Where the eigenvector of the second mixes with that of the mean, whose eigenvalue is 0."""
    rng = np.random.default_rng(2)
    strong, weak = np.linalg.qr(rng.normal(size=(18, 2)))[0].T
    weights = split(np.outer(np.linspace(5, 0, 9) ** 2, strong) + 1e-4 * np.outer([1, -2, 1, 1, -2, 1, 1, -2, 1], weak))
    directions = PCA(weights)(Snapshot(weights[-1]), 2)
    np.testing.assert_allclose(
        abs(np.stack([flat(d) for d in directions]) @ np.stack([strong, weak]).T), np.eye(2), atol=3e-5
    )
    assert np.linalg.norm(flat(directions[1])) == pytest.approx(1, abs=1e-6)


def test_a_random_walk_has_the_shares_of_the_theory():
    """60.8 % and 15.2 % (Antognini and Sohl-Dickstein 2018): the chance that a real path must beat."""
    rng = np.random.default_rng(3)
    walk = np.cumsum(rng.normal(size=(400, 20_000)), axis=0)
    pca = PCA([{"w": torch.tensor(row)} for row in walk])
    pca(Snapshot({"w": torch.tensor(walk[-1])}), 2)
    np.testing.assert_allclose(pca.explained, [0.608, 0.152], atol=0.004)
    assert pca.labels == ("PCA 1 (61 %; random walk 61 %)", "PCA 2 (15 %; random walk 15 %)")


def test_the_records_of_a_site_are_taken_where_none_are_given(rows):
    weights = split(rows)
    snapshot = Snapshot(weights[-1])
    site = Site(snapshot.params, records=weights)
    pca = PCA()
    assert pca.needs == ("records",)
    assert PCA(weights).needs == ()
    for ours, expected in zip(pca(site, 2), PCA(weights)(snapshot, 2), strict=True):
        np.testing.assert_array_equal(flat(ours), flat(expected))
    with pytest.raises(ValueError, match=r"none are recorded here.*records=recorder\.weights"):
        PCA()(snapshot, 2)


def test_what_rests_counts_for_nothing(rows):
    """As if the records had no other parameters."""
    weights = split(rows)
    pca = PCA(weights, ignore="b")
    d, e = pca(Snapshot(weights[-1]), 2)
    without = PCA([{n: t for n, t in row.items() if n != "b"} for row in weights])
    expected = without(Snapshot({n: t for n, t in weights[-1].items() if n != "b"}), 2)
    for ours, other in zip((d, e), expected, strict=True):
        assert not ours["b"].any()
        assert all(torch.equal(ours[n], t) for n, t in other.items())
    np.testing.assert_array_equal(pca.explained, without.explained)


def test_it_says_how_far_the_path_reaches(rows):
    weights = split(rows)
    pca = PCA(weights)
    directions = [flat(d) for d in pca(Snapshot(weights[-1]), 2)]
    np.testing.assert_allclose(pca.reach, abs((rows - rows[-1]) @ np.stack(directions).T).max(axis=0), rtol=1e-9)
