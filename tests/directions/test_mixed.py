"""The first principal component, and random directions beside it."""

import pytest
import torch
from torch import nn

from lightning_landscape import Snapshot
from lightning_landscape.directions import PCA, Mixed, Site
from lightning_landscape.weights.parameters import dot, norm


@pytest.fixture
def site():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 4)).double()
    snapshot = Snapshot.of(module)
    generator = torch.Generator().manual_seed(0)
    drift = {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in snapshot.params.items()}
    records = [
        {n: t + i * drift[n] + 0.1 * torch.randn(t.shape, generator=generator, dtype=t.dtype)
         for n, t in snapshot.params.items()}
        for i in (6, 5, 3, 2, 1)
    ]  # fmt: skip
    return Site.at(snapshot, module, None, [], records=[*records, snapshot.params])


def test_the_first_axis_is_the_first_component_in_the_length_of_the_weights(site):
    (d, e) = Mixed(ignore=None, seed=3)(site, 2)
    (axis,) = PCA(site.records)(site, 1)
    assert dot(d, axis) == pytest.approx(norm(site.params), rel=1e-9)
    assert norm(d) == pytest.approx(norm(site.params), rel=1e-9)
    assert abs(dot(d, e)) < 1e-8 * norm(d) * norm(e)


def test_the_second_is_filter_normalised(site):
    _, e = Mixed(seed=3)(site, 2)
    weight = site.params["0.weight"]
    torch.testing.assert_close(e["0.weight"].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1), rtol=1e-3, atol=0)
    assert [name for name in e if e[name].any()] == ["0.weight", "2.weight"]


def test_its_facts_are_those_of_the_component(site):
    mixed, pca = Mixed(), PCA(site.records, ignore="biasbn")
    assert mixed.recipe()["explained"] is None
    mixed(site, 3)
    (axis,) = pca(site, 1)
    assert mixed.recipe()["explained"] == pca.recipe()["explained"]
    assert mixed.labels == (*pca.labels, "random", "random")
    length = norm({n: site.params[n] for n in ("0.weight", "2.weight")})
    assert mixed.reach == pytest.approx((pca.reach[0] / length,))
    del axis


def test_without_records_it_says_what_to_do(site):
    with pytest.raises(ValueError, match="none are recorded here"):
        Mixed()(Snapshot(site.params), 2)
