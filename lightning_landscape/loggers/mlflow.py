"""MLflow: pictures and texts among the run's artifacts (one file a step), numbers among its metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from .base import Shown, has_class


def matches(logger: object) -> bool:
    """True if the logger is Lightning's MLFlowLogger."""
    return has_class(logger, "MLFlowLogger")


def log(logger: Any, shown: Shown, step: int) -> None:
    """One artifact ``<tag>/step_<step>.png`` a picture, one metric a finite number.

    Only finite, since MLflow's databases turn inf into the largest float, which would look like a loss.
    """
    client, run_id = logger.experiment, logger.run_id
    for tag, name in safe_names(shown.images).items():
        client.log_image(run_id, shown.images[tag], artifact_file=f"{name}/step_{step:08d}.png")
    for tag, name in safe_names(shown.scalars).items():
        if math.isfinite(shown.scalars[tag]):
            client.log_metric(run_id, name, float(shown.scalars[tag]), step=step)
    for tag, name in safe_names(shown.text).items():
        client.log_text(run_id, shown.text[tag], artifact_file=f"{name}/step_{step:08d}.txt")


def safe_names(tags: Iterable[str]) -> dict[str, str]:
    """A name that MLflow accepts for each tag: letters, digits, ``_-. /``, a path that goes nowhere else.

    >>> safe_names(["landscape/acc@1", "landscape/acc_1", "../loss"])
    {'landscape/acc@1': 'landscape/acc_1', 'landscape/acc_1': 'landscape/acc_1_2', '../loss': 'loss'}
    """
    names: dict[str, str] = {}
    for tag in tags:
        parts = [re.sub(r"[^\w.\- ]", "_", part).strip(". ") for part in tag.split("/")]
        base = name = "/".join(part for part in parts if part) or "landscape"
        count = 1
        while name in names.values():
            count += 1
            name = f"{base}_{count}"
        names[tag] = name
    return names
