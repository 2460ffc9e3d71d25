import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape.models import Classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's, under newer torch
]


class Frozen(Classifier):
    """Passes images on as logits, and trains a weight that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + 0 * self.weight

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(logits: torch.Tensor, labels: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(logits, labels), batch_size=3)


def test_each_stage_logs_means_over_the_samples_of_uneven_batches(quiet_trainer):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    data = loader(logits, labels)
    trainer = quiet_trainer(max_epochs=1)
    model = Frozen()
    trainer.fit(model, data, data)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    logged |= trainer.test(model, data, verbose=False)[0]

    probabilities = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    loss = -sum(probabilities[i, label].log().item() for i, label in enumerate(labels)) / 7
    accuracy = sum(int(logits[i].argmax() == label) for i, label in enumerate(labels)) / 7
    assert logged == {
        f"{stage}_{name}": pytest.approx(value, rel=1e-5)
        for stage in ("train", "val", "test")
        for name, value in (("loss", loss), ("acc", accuracy))
    }


def test_the_steps_return_the_mean_cross_entropy():
    batch = (torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 0]))
    model = Frozen()
    model.log_dict = lambda *args, **kwargs: None
    for step in (model.training_step, model.validation_step, model.test_step):
        assert step(batch).item() == pytest.approx(torch.tensor(4.0).log().item())
