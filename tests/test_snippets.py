"""What users of LightZero's loss_landscape, PascalSun's LossLandscape and f_landscape have written runs as it is.

The calls are those of their READMEs and examples, with the same names and arguments; only the import is ours.
Small nets and random data stand in for downloads.
"""

import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import lightning.pytorch
import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Users write where they are."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def names(folder, pattern):
    return {path.name for path in folder.glob(pattern)}


# LightZero


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


@pytest.fixture
def dataloader():
    return DataLoader(TensorDataset(torch.randn(20, 3, 8, 8), torch.randint(10, (20,))), batch_size=8, shuffle=False)


def compute_custom_metrics(net, dataloader, use_cuda):
    net.eval()
    total_ce = total_smooth_l1 = 0.0
    total_correct = total_samples = 0
    criterion_ce, criterion_smooth_l1 = nn.CrossEntropyLoss(), nn.SmoothL1Loss()
    with torch.no_grad():
        for inputs, targets in dataloader:
            if use_cuda:
                inputs, targets = inputs.cuda(), targets.cuda()
            outputs = net(inputs)
            onehot = F.one_hot(targets, num_classes=outputs.size(1)).float()
            total_ce += criterion_ce(outputs, targets).item() * inputs.size(0)
            total_smooth_l1 += criterion_smooth_l1(outputs, onehot).item() * inputs.size(0)
            total_correct += (torch.max(outputs.data, 1)[1] == targets).sum().item()
            total_samples += inputs.size(0)
    return {
        "ce_loss": total_ce / total_samples,
        "smooth_l1_loss": total_smooth_l1 / total_samples,
        "accuracy": 100.0 * total_correct / total_samples,
    }


def test_lightzero_a_line(model, dataloader, tmp_path):
    from lightning_landscape import LossLandscape

    landscape = LossLandscape(
        model, dataloader, criterion=nn.CrossEntropyLoss(), use_cuda=torch.cuda.is_available(), surf_file="loss_1d.h5"
    )
    result = landscape.compute_1d(
        directions="random", xrange=(-1, 1, 5), dir_type="weights", normalize="filter", ignore="biasbn", save=True
    )
    assert 0 < result["losses"].min() < result["losses"].max()
    assert 0 < result["accuracies"].max() <= 100
    landscape.plot_1d(xmin=-1, xmax=1, loss_max=5, log=False, show=False)
    landscape.plot_1d(loss_max=5, show=True)
    assert str(landscape.surf_file) == "loss_1d.h5"
    assert result["losses"].shape == result["accuracies"].shape == (5,)
    assert len(names(tmp_path, "*_1d*.pdf")) == 2


def test_lightzero_a_surface(model, dataloader, tmp_path):
    from lightning_landscape import LossLandscape

    landscape = LossLandscape(model, dataloader, use_cuda=True)
    result = landscape.compute_2d(
        xrange=(-1, 1, 5), yrange=(-1, 1, 4), dir_type="weights", normalize="filter", ignore="biasbn",
        x_target=None, y_target=None, save=True,
    )  # fmt: skip
    landscape.plot_2d_contour(vmin=0.1, vmax=10, vlevel=0.5)
    landscape.plot_2d_contour()
    landscape.plot_2d_surface(show=True)
    f = h5py.File("loss_surface.h5", "r")
    assert {"xcoordinates", "ycoordinates", "train_loss", "train_acc"} <= set(f.keys())
    losses = f["train_loss"][:]
    f.close()
    np.testing.assert_array_equal(losses, result["losses"])
    for view in ("2dcontour", "2dheat", "3dsurface"):
        assert len(names(tmp_path, f"*_{view}.pdf")) == 1


def test_lightzero_metrics_of_ones_own(model, dataloader, tmp_path):
    from lightning_landscape import LossLandscape

    landscape = LossLandscape(model, dataloader, criterion=compute_custom_metrics, use_cuda=True)
    result = landscape.compute_1d(xrange=(-1, 1, 3))
    landscape.plot_1d(loss_max=5)
    result = landscape.compute_2d(xrange=(-1, 1, 5), yrange=(-1, 1, 4))
    assert {name: array.shape for name, array in result["losses"].items()} == dict.fromkeys(
        ("ce_loss", "smooth_l1_loss", "accuracy"), (5, 4)
    )
    landscape.plot_2d_contour(surf_name="auto", vmin=0.1, vmax=10)
    landscape.plot_2d_surface(surf_name="auto")
    landscape.plot_2d_contour(surf_name="train_loss_ce_loss", vmin=0.1, vmax=5)
    landscape.plot_2d_contour()
    assert len(names(tmp_path, "*_2d*.pdf") | names(tmp_path, "*_3d*.pdf")) == 9


def test_lightzero_paraview(model, dataloader):
    pytest.importorskip("vtk")
    from lightning_landscape import LossLandscape

    landscape = LossLandscape(model, dataloader, criterion=compute_custom_metrics, surf_file="loss_2d.h5")
    landscape.compute_2d(xrange=(-1, 1, 4), yrange=(-1, 1, 4))
    vtp_file = landscape.export_paraview(surf_name="train_loss_ce_loss", log=False, zmax=10, interp=-1)
    assert vtp_file.endswith(".vtp")
    landscape.export_paraview()
    landscape.export_paraview(surf_name="train_loss_accuracy", log=True, zmax=-1, interp=8)


def test_lightzero_between_two_models(model, dataloader):
    from lightning_landscape import LossLandscape

    model2 = nn.Sequential(*[type(m)(*a) for m, a in zip(model, [(3, 4, 3), (4,), (), (), (144, 10)], strict=True)])
    landscape = LossLandscape(model, dataloader)
    result = landscape.compute_1d(directions="target", target_model=model2, xrange=(0, 1, 3))
    assert result["xcoordinates"].tolist() == [0, 0.5, 1]
    result = landscape.compute_2d(xrange=(0, 1, 2), yrange=(0, 1, 2), dir_type="states", x_target=model2, y_target=None)
    assert result["losses"].shape == (2, 2)


class ReplayLoader:
    """As UniZeroDataLoader: anything with __iter__ and __len__, new random batches at each pass."""

    def __iter__(self):
        return iter([(torch.randn(6, 3, 8, 8), torch.randint(10, (6,))) for _ in range(len(self))])

    def __len__(self):
        return 3


def test_lightzero_a_loader_that_draws_anew(model):
    from lightning_landscape import LossLandscape

    landscape = LossLandscape(
        net=model, dataloader=ReplayLoader(), criterion=compute_custom_metrics, use_cuda=False, surf_file="a.h5"
    )
    result = landscape.compute_2d(
        xrange=(-1, 1, 5), yrange=(-1, 1, 5), dir_type="weights", normalize="filter", ignore="biasbn", save=True
    )
    landscape.plot_2d_contour(surf_name="auto", vmin=None, vmax=None)
    center = landscape.landscape.center["train_loss_ce_loss"]
    assert result["losses"]["ce_loss"][2, 2] == center  # the same batches at every point


# PascalSun


@pytest.fixture
def regression():
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    return model, DataLoader(TensorDataset(torch.randn(40, 10), torch.randn(40, 1)), batch_size=16)


def loss_fn(model, inputs, targets):
    return nn.MSELoss()(model(inputs), targets)


def loss_with_reg(model, inputs, targets):
    return loss_fn(model, inputs, targets) + 0.01 * sum(p.norm() ** 2 for p in model.parameters())


def pde_loss(model, inputs, targets):
    inputs = inputs.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
    return loss_fn(model, inputs, targets) + 0.1 * slope.pow(2).mean()


def content(*folders):
    from pathlib import Path

    return json.loads(Path(*folders, "landscape.json").read_text())


def test_pascalsun_one_line(regression):
    from lightning_landscape import sample_landscape

    model, data_loader = regression
    sample_landscape(model, data_loader, loss_fn, "./outputs/landscape.json", grid_size=4)
    assert np.shape(content("outputs")["loss_grid_2d"]) == (4, 4)


@pytest.mark.parametrize("loss", [loss_fn, loss_with_reg, pde_loss])
def test_pascalsun_the_writer(regression, loss):
    from lightning_landscape import LossLandscapeWriter

    model, data_loader = regression
    writer = LossLandscapeWriter("./runs/experiment1")
    writer.sample_landscape(model, data_loader, loss, grid_size=4)
    writer.close()
    assert {"X", "Y", "loss_grid_2d", "baseline_loss", "grid_size", "mode"} <= content("runs", "experiment1").keys()


@pytest.mark.parametrize("mode", ["1d", "2d", "3d"])
def test_pascalsun_every_argument(regression, mode):
    from lightning_landscape import LossLandscapeWriter

    model, data_loader = regression
    with LossLandscapeWriter(log_dir="./runs/exp1", seed=42, auto_export=True) as writer:
        writer.sample_landscape(
            model, data_loader, loss_fn, mode=mode, grid_size=3, range_scale=0.1, directions=None,
            direction_mode="random", regularizer=None, regularizer_weight=1.0, custom_loss_fn=None, model_mode="eval",
            max_batches=10, pre_batch_hook=None, post_batch_hook=None,
        )  # fmt: skip
        writer.sample_landscape(model, data_loader, custom_loss_fn=pde_loss, grid_size=3)
        writer.sample_landscape(
            model, data_loader, loss_fn, grid_size=3, regularizer=lambda m: sum(p.norm() ** 2 for p in m.parameters()),
            regularizer_weight=0.01,
        )  # fmt: skip
    assert content("runs", "exp1")["metadata"]


def test_pascalsun_a_training(regression):
    from lightning_landscape import LossLandscapeWriter

    model, train_loader = regression
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    writer = LossLandscapeWriter("./runs/training")
    for epoch in range(5):
        train_loss = 0.0
        for batch_x, batch_y in train_loader:
            optimizer.zero_grad()
            loss = nn.MSELoss()(model(batch_x), batch_y)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
        writer.record_checkpoint(model, epoch, train_loss=train_loss / len(train_loader))
    writer.build_trajectory(model, train_loader, loss_fn)
    writer.build_trajectory(model, train_loader, loss_fn, mode="pca")
    writer.sample_landscape(model, train_loader, loss_fn, grid_size=4, direction_mode="pca")
    writer.close()
    path = content("runs", "training")["trajectory_data"]
    assert path["epochs"] == [0, 1, 2, 3, 4]
    assert {"traj_1", "traj_2", "traj_3", "losses"} <= path.keys()


def test_pascalsun_two_models(regression):
    from lightning_landscape import LossLandscapeWriter

    model_a, loader = regression
    model_b = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    writer_a = LossLandscapeWriter("./runs/a", seed=42)
    writer_a.sample_landscape(model_a, loader, loss_fn, grid_size=3)
    directions = writer_a.get_directions()
    writer_a.close()
    writer_b = LossLandscapeWriter("./runs/b")
    writer_b.sample_landscape(model_b, loader, loss_fn, grid_size=3, directions=directions)
    writer_b.close()
    assert content("runs", "a")["X"] == content("runs", "b")["X"]


# f_landscape


class TheirLinear(nn.Module):
    """The parameters of f_landscape's LinearMNIST, by name and shape."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        return self.fc(x.view(-1, 784))


class TheirCNN(nn.Module):
    """Those of its TinyCNN."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.conv3, self.fc = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(512, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2, 2)
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize(
    "name, theirs, shape", [("LinearMNIST", TheirLinear, (1, 28, 28)), ("TinyCNN", TheirCNN, (3, 32, 32))]
)
def test_f_landscape_a_trained_model(name, theirs, shape):
    import lightning_landscape.models

    trained = theirs()
    torch.save({"epoch": 10, "model_state_dict": trained.state_dict(), "test_accuracy": 92.5}, "model.pth")
    model = getattr(lightning_landscape.models, name)()
    checkpoint = torch.load("model.pth")
    model.load_state_dict(checkpoint["model_state_dict"])
    model.eval()
    images = torch.randn(5, *shape)
    torch.testing.assert_close(model(images), trained(images))


def test_f_landscape_a_checkpoint_as_the_other_end_of_a_line():
    from lightning_landscape import LossLandscape
    from lightning_landscape.models import LinearMNIST

    trained = TheirLinear()
    torch.save({"epoch": 10, "model_state_dict": trained.state_dict()}, "model.pth")
    images, labels = torch.randn(6, 1, 28, 28), torch.randint(10, (6,))
    landscape = LossLandscape(LinearMNIST(), [(images, labels)], nn.CrossEntropyLoss())
    line = landscape.compute_1d("target", xrange=(0, 1, 2), target_model="model.pth")
    assert line["losses"][1] == pytest.approx(F.cross_entropy(trained(images), labels).item(), rel=1e-5)


# our own README


def readme_block(section):
    """The only code of a section of the README."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    text = readme.partition(f"## {section}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


def test_the_readmes_section_in_a_trainer(tmp_path):
    """On few points; the Trainer is that of the README, but for five short epochs on the CPU."""
    from lightning_landscape.models import DigitsDataModule, DigitsMLP

    options = {"max_epochs": 5, "limit_train_batches": 2, "accelerator": "cpu", "enable_progress_bar": False}
    trainer = functools.partial(lightning.pytorch.Trainer, **options, default_root_dir=tmp_path)
    few = "every_n_epochs=5, x=(-1, 1, 5), y=(-1, 1, 5), max_samples=32, samples=0"
    namespace = {"L": SimpleNamespace(Trainer=trainer), "model": DigitsMLP(), "datamodule": DigitsDataModule()}
    exec(readme_block("Use it").replace("every_n_epochs=5", few), namespace)
    folder, of_path = sorted(tmp_path.glob("lightning_logs/version_0/landscape/step=*"))
    assert of_path.name == f"{folder.name}-path"
    assert {"landscape.h5", "log.txt", "train_loss_2dcontour.png"} <= {path.name for path in folder.iterdir()}


def test_the_readmes_section_without_a_trainer(model, dataloader):
    """On few points."""
    block = readme_block("Without a Trainer")
    exec(block.replace(", 51)", ", 5)"), {"net": model, "dataloader": dataloader, "nn": nn})
    assert {"loss_surface.h5", "loss_surface_train_loss_3dsurface.pdf"} <= {path.name for path in Path().iterdir()}
