"""The LightningModule that every bundled classifier extends: cross-entropy and accuracy, logged."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    import lightning.pytorch as L
else:
    # A Trainer takes modules of its own namespace only: whoever uses pytorch_lightning imports it first.
    from ..trainer.compat import lightning_pytorch

    L = lightning_pytorch()


class Classifier(L.LightningModule):
    """A LightningModule that needs only `forward` (images to logits) and `configure_optimizers`.

    Each step returns the loss and logs it with the accuracy, both as means over the samples of an
    epoch: `train_loss`, `train_acc`, `val_loss`, `val_acc`, `test_loss`, `test_acc`.
    """

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The cross-entropy of one training batch, see `measure`."""
        return self.measure(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The cross-entropy of one validation batch, see `measure`."""
        return self.measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The cross-entropy of one test batch, see `measure`."""
        return self.measure(batch, "test")

    def measure(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        """The mean cross-entropy of a batch, logged as `{stage}_loss` beside `{stage}_acc`.

        Args:
            batch: images of shape (B, ...) and integer labels of shape (B,).
            stage: the prefix of the logged names: "train", "val" or "test".

        Returns:
            The loss in nats, mean over the B samples, a scalar.
        """
        images, labels = batch
        logits = self(images)
        loss = cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        # One number an epoch in every stage, so that the curves compare; B weighs an uneven last batch.
        self.log_dict(
            {f"{stage}_loss": loss, f"{stage}_acc": accuracy},
            prog_bar=True,
            on_step=False,
            on_epoch=True,
            batch_size=len(labels),
            sync_dist=True,
        )
        return loss
