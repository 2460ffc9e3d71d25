"""The barriers between every two models: a naive loop, real digits, names, and their picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import BarrierMatrix, barriers
from lightning_landscape.alignment import align as room
from lightning_landscape.plots import draw_barriers

X = torch.randn(14, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(14, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
BATCHES = [(X[:6], Y[:6]), (X[6:], Y[6:])]


def net(seed: int, norm: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [nn.Linear(3, 5), *([nn.BatchNorm1d(5)] if norm else []), nn.Tanh(), nn.Linear(5, 1)]
        return nn.Sequential(*parts).double()


def test_a_matrix_is_the_naive_loop() -> None:
    nets = [net(seed) for seed in range(3)]
    weights = [{name: p.detach().clone() for name, p in model.named_parameters()} for model in nets]
    matrix = barriers(nets[2], nets, BATCHES, nn.MSELoss(), points=5)
    for i, j in np.ndindex(3, 3):
        losses = []
        for t in np.linspace(0, 1, 5):
            mixed = {name: (1 - t) * w + t * weights[j][name] for name, w in weights[i].items()}
            losses.append(F.mse_loss(torch.func.functional_call(nets[0], mixed, (X,)), Y).item())
        np.testing.assert_allclose(matrix.lines[i, j], losses, rtol=1e-6)
        expected = np.array(losses) - np.linspace(losses[0], losses[-1], 5)
        assert matrix.barriers[i, j] == pytest.approx(expected.max(), rel=1e-5, abs=1e-9)
        assert matrix.losses[i] == pytest.approx(losses[0])
    assert matrix.names == ("1", "2", "3")
    assert not matrix.aligned
    assert not matrix.recalibrated
    for model, state in zip(nets, weights, strict=True):  # nobody was moved
        assert all(torch.equal(p, state[name]) for name, p in model.named_parameters())


def test_a_barriers_error_is_that_of_its_three_losses() -> None:
    t = np.linspace(0, 1, 3)
    lines = np.array([[[1.0, 1, 1], [1, 4, 2]], [[2, 4, 1], [2, 2, 2]]])
    errors = np.array([[[0.1] * 3, [0.1, 0.3, 0.2]], [[0.2, 0.3, 0.1], [0.2] * 3]])
    matrix = BarrierMatrix(("a", "b"), "loss", t, lines, errors)
    assert matrix.standard_errors[0, 1] == pytest.approx(np.sqrt(0.3**2 + 0.05**2 + 0.1**2))
    assert matrix.standard_errors[0, 0] == 0


def test_statistics_of_batchnorm_are_computed_anew() -> None:
    """With one batch they are those of that batch, up to n / (n − 1) in the variance."""
    nets = [net(seed, norm=True) for seed in range(2)]
    matrix = barriers(nets[0], nets, [(X, Y)], nn.MSELoss(), points=3)
    assert matrix.recalibrated
    first, second = (dict(model.named_parameters()) for model in nets)
    mixed = {name: (0.5 * w + 0.5 * second[name]).detach() for name, w in first.items()}
    hidden = F.linear(X, mixed["0.weight"], mixed["0.bias"])
    normal = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0) + 1e-5) * mixed["1.weight"] + mixed["1.bias"]
    expected = F.mse_loss(F.linear(normal.tanh(), mixed["3.weight"], mixed["3.bias"]), Y).item()
    assert matrix.lines[0, 1, 1] == pytest.approx(expected, rel=5e-3)
    fixed = barriers(nets[0], nets, [(X, Y)], nn.MSELoss(), points=3, recalibrate=False)
    assert not fixed.recalibrated
    assert abs(fixed.lines[0, 1, 1] - expected) > 0.02 * expected


def trained(make: Callable[[], nn.Module], seed: int, data: TensorDataset, epochs: int, lr: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in DataLoader(data, 128, shuffle=True, generator=torch.Generator().manual_seed(seed)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def digits() -> TensorDataset:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))


def test_alignment_lowers_the_barrier_of_digits_tenfold() -> None:
    """Two nets of different seeds, on real handwritten digits (Ainsworth et al. 2023, section 5)."""
    data = digits()
    nets = {str(seed): trained(perceptron, seed, data, epochs=15, lr=5e-3) for seed in (0, 1)}
    loader = DataLoader(data, 256)
    before, after = (barriers(nets["0"], nets, loader, points=11, align=align) for align in (False, True))
    np.testing.assert_allclose(after.losses, before.losses, rtol=1e-5)
    assert before.barriers[0, 1] > 0.05
    assert after.barriers[0, 1] < before.barriers[0, 1] / 10
    assert after.aligned
    assert before.names == ("0", "1")


def test_checkpoints_have_the_names_of_their_files(tmp_path) -> None:
    files = []
    for seed in range(3):
        files.append(tmp_path / f"seed-{seed}.pt")
        torch.save(net(seed).state_dict(), files[-1])
    matrix = barriers(net(9), files, BATCHES, nn.MSELoss(), points=3, align=True)
    assert matrix.names == ("seed-0", "seed-1", "seed-2")
    assert np.isfinite(matrix.lines).all()
    assert not list(tmp_path.glob("*.h5"))


def test_errors_name_the_argument(monkeypatch) -> None:
    with pytest.raises(ValueError, match="checkpoints holds 1: a barrier is between two, so give at least 2"):
        barriers(net(0), [net(0)], BATCHES, nn.MSELoss())
    with pytest.raises(ValueError, match=r"Checkpoint '2' does not fit: The target model has no '0\.weight'"):
        barriers(net(0), [net(0), nn.Linear(3, 5)], BATCHES, nn.MSELoss())
    with pytest.raises(ValueError, match=r"points=1: give the points of a line, at least 3, e\.g\. 11"):
        barriers(net(0), [net(0), net(1)], BATCHES, nn.MSELoss(), points=1)
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'align=True needs scipy: pip install "lightning-landscape\[align\]"'):
        barriers(net(0), [net(0), net(1)], BATCHES, nn.MSELoss(), align=True)


def test_a_matrix_has_lines_of_its_shape() -> None:
    with pytest.raises(ValueError, match=r"lines has shape \(2, 2, 4\), and there are 2 names and 3 points: give"):
        BarrierMatrix(("a", "b"), "loss", np.linspace(0, 1, 3), np.zeros((2, 2, 4)), np.zeros((2, 2, 4)))


# the picture


def matrix_of(rises: list[list[float]], **fields: object) -> BarrierMatrix:
    n = len(rises)
    lines = np.ones((n, n, 3))
    lines[..., 1] += np.array(rises)
    names = tuple(f"seed {i}" for i in range(n))
    return BarrierMatrix(names, "train_loss", np.linspace(0, 1, 3), lines, np.full(lines.shape, 0.25), **fields)


def cells(figure) -> dict[tuple[int, int], str]:
    """The text of each cell, by row and column."""
    found = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        found[int(y), int(x)] = text.get_text().split("\n")[0]
    return found


RISES = [[0, 0.5, 0.25], [0.5, 0, 0.75], [0.25, 0.75, 0]]


def test_the_picture_has_each_barrier_in_its_cell() -> None:
    found = cells(draw_barriers(matrix_of(RISES)))
    for i, j in np.ndindex(3, 3):
        assert found[i, j] == ("1" if i == j else f"{RISES[i][j]:g}")


def test_aligned_barriers_are_above_the_diagonal() -> None:
    aligned = matrix_of([[r / 5 for r in row] for row in RISES], aligned=True)
    figure = draw_barriers(matrix_of(RISES), aligned)
    found = cells(figure)
    assert (found[1, 0], found[0, 1]) == ("0.5", "0.1")
    assert (found[2, 1], found[1, 2]) == ("0.75", "0.15")
    assert any("above: the second one aligned" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_no_barriers_are_drawn_too() -> None:
    draw_barriers(matrix_of([[0, 0], [0, 0]])).canvas.draw()


def test_matrices_of_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="aligned is of train_loss of seed 0, seed 1, matrix is of train_loss of seed"):
        draw_barriers(matrix_of(RISES), matrix_of([[0, 0], [0, 0]]))
