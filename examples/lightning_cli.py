"""LightningCLI with the callback in a YAML file: python lightning_cli.py fit --config lightning_cli.yaml."""

from lightning.pytorch.cli import LightningCLI

from lightning_landscape.models import DigitsCNN, DigitsDataModule


def main(argv: list[str] | None = None) -> LightningCLI:
    return LightningCLI(DigitsCNN, DigitsDataModule, args=argv)


if __name__ == "__main__":
    main()
