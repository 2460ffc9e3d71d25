"""The Hessian of a module's own step in a Trainer, which goes on as if nothing had been."""

from __future__ import annotations

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Grid, Random
from lightning_landscape.curvature import CurvatureSettings, hessian_curvature
from lightning_landscape.trainer.measure import Pass, Settings
from lightning_landscape.trainer.probe import probing
from lightning_landscape.trainer.undisturbed import undisturbed

from .._formula import train
from ._steps import SIZES, Physics, Recurrent, Tuple, data, exact_hessian, made


class Curved(L.Callback):
    """Measures at the end of the training."""

    def on_train_end(self, trainer, module):
        settings = Settings(Grid.from_ranges((-1, 1, 3)), Random(), max_samples=None)
        with undisturbed(trainer), probing(trainer, module) as (probe, recorder, snapshot):
            surface = Pass(trainer, probe, recorder, snapshot, settings, False).prepare()[0]
            of_top = CurvatureSettings(top_k=3)
            self.found = hessian_curvature(surface.objective, probe, surface.frozen.batches, of_top, blocks=True)
        self.weights = {name: value.clone() for name, value in module.state_dict().items()}


def fitted(kind, path, callbacks):
    module = made(kind).train()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), 0.1)
    x, y = (torch.cat(parts) for parts in zip(*data(kind), strict=True))
    return train(module, [DataLoader(TensorDataset(x, y), 16, shuffle=True)], callbacks, path)[1]


@pytest.mark.parametrize("kind", [Tuple, Physics, Recurrent], ids=lambda kind: kind.__name__)
def test_the_spectrum_of_the_step_and_a_training_that_stays_the_same(kind, tmp_path):
    curved = Curved()
    after, plain = fitted(kind, tmp_path, [curved]), fitted(kind, tmp_path, [])
    exact = torch.linalg.eigvalsh(exact_hessian(kind, SIZES, tuple(curved.weights.items()))).flip(0).numpy()
    spectrum = curved.found.spectrum
    assert abs(spectrum.eigenvalues - exact[:3]).max() <= 1e-5 * max(1, exact[0])
    assert abs(spectrum.lowest - exact[-1]) <= 1e-5 * max(1, exact[0])
    assert abs(spectrum.trace - exact.sum()) <= 3 * spectrum.trace_error + 1e-5 * max(1, exact[0])
    assert spectrum.samples == 50
    assert spectrum.method == "double backward"
    assert all(torch.equal(after["weights"][name], value) for name, value in plain["weights"].items())
    assert torch.equal(after["random"], plain["random"])
