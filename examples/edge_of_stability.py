"""Full-batch gradient descent rises to the edge of stability, λ_max = 2/η, and stays there (Cohen et al. 2021)."""

import argparse

import lightning.pytorch as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import SharpnessMonitor
from lightning_landscape.models import DigitsDataModule


class GradientDescent(L.LightningModule):
    """A net of one smooth hidden layer with the squared error, and plain gradient descent."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr, self.net = lr, nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        errors = self.net(images) - nn.functional.one_hot(labels, 10)
        return 0.5 * errors.square().sum(dim=1).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main(argv: list[str] | None = None) -> SharpnessMonitor:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--lr", type=float, default=0.2, help="learning rate η")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=10, help="steps between two measurements")
    parser.add_argument("--samples", type=int, default=512, help="digits, all in one batch")
    parser.add_argument("--out", default="edge_of_stability")
    arguments = parser.parse_args(argv)

    L.seed_everything(0)
    data = DigitsDataModule()
    data.setup("fit")
    images, labels = zip(*(data.train_dataloader().dataset[i] for i in range(arguments.samples)), strict=True)
    batch = TensorDataset(torch.stack(images), torch.as_tensor(labels))
    monitor = SharpnessMonitor(
        every_n_epochs=None,
        every_n_train_steps=arguments.every,
        measures=("lambda_max", "critical"),
        max_samples=None,  # all that gradient descent sees
        budget=None,
        dirpath=arguments.out,
    )
    options = {"logger": False, "enable_checkpointing": False, "default_root_dir": arguments.out}
    trainer = L.Trainer(max_steps=arguments.steps, max_epochs=-1, callbacks=[monitor], accelerator="cpu", **options)
    trainer.fit(GradientDescent(arguments.lr), DataLoader(batch, arguments.samples))
    print(f"Picture: {arguments.out}/sharpness.png")
    return monitor


if __name__ == "__main__":
    main()
