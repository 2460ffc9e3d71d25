"""SharpnessMonitor: right numbers at the right moments, in every logger, and a training that stays the same."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback, SharpnessMonitor, load_sharpness
from lightning_landscape.curvature.measures import MEASURES
from lightning_landscape.storage import LandscapeFileError
from lightning_landscape.survey import budget as budgets
from lightning_landscape.survey.budget import Budget
from lightning_landscape.trainer.savings import Savings

from ._limits import HANG
from ._training import RowLogger, differences, fit

CURVATURES = torch.tensor([5.0, 1.0, 0.5, -0.25])


class Quadratic(L.LightningModule):
    """½ Σ aᵢ wᵢ² times the data, whose mean is 1."""

    def __init__(self, optimizer=None, **options):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 0.01]))
        self.make = optimizer or torch.optim.SGD
        self.options = {"lr": 0.1, **options}

    def loss(self, batch):
        return 0.5 * (CURVATURES * self.w**2).sum() * batch["scale"].mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return self.make(self.parameters(), **self.options)


class Scales(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"scale": torch.tensor([0.5, 1.5])[index % 2]}


def trained(module, monitors, path, epochs=3, ckpt=None, **options):
    settings = {
        "logger": False, "accelerator": "cpu", "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": path, "max_epochs": epochs, **options,
    }  # fmt: skip
    trainer = L.Trainer(callbacks=monitors, **settings)
    trainer.fit(module, DataLoader(Scales(), 4), ckpt_path=ckpt)
    return trainer


def unlimited(**options):
    return SharpnessMonitor(budget=None, **options)


def test_the_numbers_of_a_quadratic(tmp_path):
    monitor = unlimited(measures=("lambda_max", "lambda_min", "trace", "critical", "sam", "along_gradient"), top_k=2)
    module = Quadratic()
    trained(module, [monitor], tmp_path, epochs=2)
    history = monitor.history
    assert history["step"].tolist() == [2, 4]
    assert history["epoch"].tolist() == [1, 2]
    np.testing.assert_allclose(history["lambda_max"], 5, rtol=1e-5)
    np.testing.assert_allclose(history["eigenvalue_2"], 1, rtol=1e-5)
    np.testing.assert_allclose(history["lambda_min"], -0.25, rtol=1e-4)
    np.testing.assert_allclose(history["trace"], 6.25, rtol=1e-5)
    assert history["limit"].tolist() == pytest.approx([20, 20])
    w, a = module.w.detach().double(), CURVATURES.double()
    gradient = a * w
    along = (gradient @ (a * gradient) / (gradient @ gradient)).item()
    assert history["critical"][-1] == pytest.approx(along, rel=1e-3)  # along −ηg it is gᵀHg / gᵀg
    assert history["along_gradient"][-1] == pytest.approx(along, rel=1e-5)
    moved = w + 0.05 * gradient / gradient.norm()
    assert history["sam"][-1] == pytest.approx(0.5 * ((a * moved**2).sum() - (a * w**2).sum()).item(), rel=1e-3)


def test_adams_own_curvature(tmp_path):
    """With a diagonal H, diag(p) H has the eigenvalues pᵢ aᵢ."""
    monitor, module = unlimited(measures=["lambda_max"]), Quadratic(torch.optim.Adam, eps=1e-3)
    trainer = trained(module, [monitor], tmp_path)
    state, beta = trainer.optimizers[0].state[module.w], 0.999
    scale = 1 / ((state["exp_avg_sq"] / (1 - beta ** state["step"])).sqrt() + 1e-3)
    assert monitor.history["lambda_max_preconditioned"][-1] == pytest.approx(
        (scale * CURVATURES).max().item(), rel=1e-3
    )
    assert monitor.history["limit"][-1] == pytest.approx(380)
    assert monitor.sharpness.facts["formula"] == "38/η, β₁ = 0.9"


@pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")
def test_everything_switched_on_leaves_the_training_alone(tmp_path):
    every = {"measures": [*MEASURES], "top_k": 2, "spectrum": True, "max_samples": 20}
    beside = LossLandscapeCallback(
        every_n_epochs=1, x=(-1, 1, 3), y=None, max_samples=20, samples=0, plots=[], at_train_end=False
    )
    monitors = [unlimited(**every), unlimited(every_n_epochs=None, every_n_train_steps=5, measures=["sam"], data="val")]
    without, with_it = fit(tmp_path / "without", []), fit(tmp_path / "with", [*monitors, beside])
    assert [len(monitor.history["step"]) for monitor in monitors] == [4, 4]
    assert set(MEASURES) <= monitors[0].history.keys()
    assert len(beside.landscapes) == 4
    rows = with_it["rows"]
    tags = {name for _, row in rows for name in row if name.startswith("sharpness")}
    assert {"sharpness/lambda_max", "sharpness/trace", "sharpness_2/sam"} <= tags
    assert all(
        np.isfinite(row[tag]) for _, row in rows for tag in tags & row.keys()
    )  # the noise scale is infinite here
    with_it["rows"] = [(step, row) for step, row in rows if not tags & row.keys()]
    assert differences(without, with_it) == []


@pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")
def test_the_same_moment_twice_has_the_same_numbers(tmp_path):
    """The data are those of the first moment, and so are the random numbers."""
    monitors = [unlimited(measures=[*MEASURES], max_samples=20) for _ in range(2)]
    fit(tmp_path, monitors, epochs=2)
    np.testing.assert_equal(monitors[0].history, monitors[1].history)


def test_loggers_log_files_and_pictures(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    logger, monitor = RowLogger(), unlimited(spectrum=True, dirpath=tmp_path / "files")
    trained(Quadratic(), [monitor], tmp_path, logger=logger)
    rows = [(step, row) for step, row in logger.rows if "sharpness/sam" in row]
    assert [step for step, _ in rows] == [2, 4, 6]
    assert all(np.isfinite(value) for _, row in rows for value in row.values())
    assert rows[0][1]["sharpness/limit"] == pytest.approx(20)
    assert "Sharpness at step 6: " in caplog.text
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [
        "sharpness.h5", "sharpness.png", "spectrum.png",
    ]  # fmt: skip
    read = load_sharpness(tmp_path / "files" / "sharpness.h5")
    np.testing.assert_equal(read.columns, monitor.history)
    assert read.facts == monitor.sharpness.facts
    np.testing.assert_equal(read.density(4), monitor.sharpness.density(4))
    with pytest.raises(ValueError, match="step=5 has no density; the steps with one are 2, 4, 6"):
        read.density(5)


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_sharpness(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(LandscapeFileError, match="can't be read as HDF5"):
        load_sharpness(tmp_path / "text.h5")


def test_a_training_that_goes_on(tmp_path):
    whole, first, second = (unlimited(measures=["sam", "critical"], spectrum=True) for _ in range(3))
    trained(Quadratic(), [whole], tmp_path / "whole", epochs=4)
    trained(Quadratic(), [first], tmp_path / "first", epochs=2).save_checkpoint(tmp_path / "a.ckpt")
    trained(Quadratic(), [second], tmp_path / "second", epochs=4, ckpt=tmp_path / "a.ckpt")
    assert second.history["step"].tolist() == [2, 4, 6, 8]
    np.testing.assert_equal(second.history, whole.history)
    assert list(second.sharpness.spectra) == [2, 4, 6, 8]


class Broken(Quadratic):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        return loss if self.training else loss.detach()


def test_a_measure_that_fails_does_not_fail_the_training(tmp_path):
    monitor = unlimited(measures=("sam", "average_adaptive"))
    with pytest.warns(UserWarning, match="sam could not be measured .*Return the loss.*training goes on") as seen:
        trained(Broken(), [monitor], tmp_path)
    assert len([w for w in seen if "sam could" in str(w.message)]) == 1
    assert "sam" not in monitor.history
    assert np.isfinite(monitor.history["average_adaptive"]).all()


class Silent(Quadratic):
    """Manual optimisation that returns nothing."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


def test_manual_optimisation_without_a_loss_is_refused_in_words(tmp_path):
    monitor = unlimited()
    with pytest.warns(
        UserWarning,
        match="Nothing is measured in this training .*Return the loss from the step, also in manual optimisation",
    ):
        trained(Silent(), [monitor], tmp_path)
    assert monitor.history == {}


def test_sharded_parameters_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_landscape.trainer.sharpness.is_sharded", lambda module: True)
    monitor = unlimited()
    with pytest.warns(UserWarning, match="Nothing is measured .*divided among processes .*Train by DDP"):
        trained(Quadratic(), [monitor], tmp_path)
    assert monitor.history == {}


class Lazy(Quadratic):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(1, bias=False)

    def training_step(self, batch, batch_idx):
        return self.loss(batch) + self.layer(batch["scale"][:, None]).square().mean()


def test_a_module_whose_weights_come_with_the_first_batch(tmp_path):
    monitor = unlimited(measures=["sam"])
    trained(Lazy(), [monitor], tmp_path)
    assert np.isfinite(monitor.history["sam"]).all()
    assert monitor.history["step"].tolist() == [2, 4, 6]


class Normed(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_weight_norm_has_the_curvature_that_differences_of_gradients_have(tmp_path):
    module, monitor = Normed(), unlimited(measures=["lambda_max"])
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[monitor], default_root_dir=tmp_path,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(x), 8))
    module = module.double()
    params = list(module.parameters())

    def gradient():
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(module.training_step([x.double()], 0), params)])

    rows, step = [], 1e-5
    for parameter in params:
        for i in range(parameter.numel()):
            ends = []
            for sign in (1, -2):
                parameter.data.view(-1)[i] += sign * step
                ends.append(gradient())
            parameter.data.view(-1)[i] += step
            rows.append((ends[0] - ends[1]) / (2 * step))
    expected = torch.linalg.eigvalsh(torch.stack(rows))[-1].item()
    assert monitor.history["lambda_max"][0] == pytest.approx(expected, rel=1e-4)


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    monitor = SharpnessMonitor(budget="0.000001s")
    trained(Quadratic(), [monitor], tmp_path)
    assert monitor.history == {}
    said = "of 3 moments there was no time for critical at 3, sam at 3, eigenvalues at 3, trace at 3"
    assert said in caplog.text


def test_savings_keep_to_the_share(monkeypatch):
    """Quick measures are taken at more moments than slow ones, and all together within 5 % of the time trained."""
    clock = [0.0]
    monkeypatch.setattr(budgets, "clock", lambda: clock[0])
    costs = {"quick": 0.1, "slow": 2.0}
    savings = Savings(Budget("auto", share=0.05), costs)
    savings.expect(costs, 0.05)
    taken, spent = [], 0.0
    for _ in range(100):
        clock[0] += 1.0
        due = savings.due()
        seconds = {name: costs[name] for name in due}
        total = sum(seconds.values()) + (0.05 if due else 0.0)
        clock[0] += total
        spent += total
        savings.pay(seconds, total)
        taken += due
    assert spent <= 0.05 * 100
    assert taken.count("slow") == 1
    assert 15 <= taken.count("quick") <= 17


def test_what_quick_measures_do_not_need_goes_to_slow_ones(monkeypatch):
    """Of 5 s, a quick measure at each of 100 moments takes 1 s, and slow ones of 1 s the rest."""
    clock = [0.0]
    monkeypatch.setattr(budgets, "clock", lambda: clock[0])
    costs = {"quick": 0.01, "slow": 1.0}
    savings = Savings(Budget("auto", share=0.05), costs)
    savings.expect(costs, 0.0)
    taken = []
    for _ in range(100):
        clock[0] += 1.0
        due = savings.due()
        seconds = {name: costs[name] for name in due}
        clock[0] += sum(seconds.values())
        savings.pay(seconds, sum(seconds.values()))
        taken += due
    assert taken.count("quick") == 100
    assert taken.count("slow") in (3, 4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"measures": ["lambda"]}, "measures.*'lambda'"),
        ({"top_k": 0}, "top_k=0"),
        ({"data": "tests"}, "data='tests' is unknown"),
        ({"every_n_epochs": None}, "measure nothing"),
        ({"budget": "soon"}, "budget='soon'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SharpnessMonitor(**options)


def test_a_module_without_that_step_is_refused(tmp_path):
    with pytest.raises(Exception, match="data='test' needs test_step, which Quadratic does not implement"):
        trained(Quadratic(), [SharpnessMonitor(data="test")], tmp_path)


def test_pickled_and_of_both_namespaces():
    program = (
        "import json, pickle, lightning.pytorch as a, pytorch_lightning as b\n"
        "from lightning_landscape import SharpnessMonitor\n"
        "one = SharpnessMonitor(top_k=3)\n"
        "two = pickle.loads(pickle.dumps(one))\n"
        "print(json.dumps([isinstance(m, c.Callback) for m in (one, two) for c in (a, b)] + [two.settings.top_k]))\n"
    )
    pytest.importorskip("pytorch_lightning")
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=HANG)
    assert json.loads(run.stdout.splitlines()[-1]) == [True, True, True, True, 3], run.stderr[-2000:]
    monitor = pickle.loads(pickle.dumps(unlimited(measures=["sam"])))
    assert monitor.settings.measures == ("sam",)


@pytest.mark.filterwarnings("ignore")  # LightningCLI and jsonargparse warn of their own versions
def test_on_a_command_line(tmp_path: Path):
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.demos.boring_classes import BoringModel

    (tmp_path / "c.yaml").write_text(
        "trainer:\n  accelerator: cpu\n  logger: false\n  callbacks:\n"
        "    - class_path: lightning_landscape.SharpnessMonitor\n      init_args:\n"
        "          every_n_epochs: null\n          every_n_train_steps: 7\n          measures: [sam, critical]\n"
        "          top_k: 2\n          spectrum: true\n          data: val\n          max_samples: null\n"
        "          budget: 0.1\n          dirpath: somewhere\n"
    )
    cli = LightningCLI(BoringModel, run=False, args=["--config", str(tmp_path / "c.yaml")])
    (monitor,) = [c for c in cli.trainer.callbacks if isinstance(c, SharpnessMonitor)]
    by_hand = SharpnessMonitor(None, 7, ["sam", "critical"], 2, True, "val", None, 0.1, "somewhere")
    for name in ("every_n_epochs", "every_n_train_steps", "settings", "budget", "dirpath"):
        assert getattr(monitor, name) == getattr(by_hand, name), name
