"""Steps that talk to other processes: the surface is that of one process, or all ranks refuse in words."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from . import _processes
from ._collectives import REFUSED, VALUES


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has to say of every step; they measure different points, one of them one more."""
    out = tmp_path_factory.mktemp("collectives") / "out"
    _processes.run("_collectives", out, "")
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("way", VALUES)
def test_the_surface_is_that_of_one_process_and_the_training_is_the_same(ranks: Any, way: str) -> None:
    first, second = (rank[way] for rank in ranks)
    assert [rank[way].get("error") for rank in ranks] == [None, None]
    assert first["surface"] == second["surface"]
    np.testing.assert_allclose(first["surface"], first["expected"], rtol=1e-5)
    assert np.std(first["surface"]) > 0
    for result in (first, second):
        assert result["weights"] == result["weights without"]


def test_a_metric_that_differs_between_the_processes_gets_no_surface(ranks: Any) -> None:
    assert [rank["a_metric_of_each_rank"]["names"] for rank in ranks] == [["train_loss", "twice"]] * 2


@pytest.mark.parametrize("way", REFUSED)
def test_what_no_single_process_can_do_is_refused_on_every_rank_in_words(ranks: Any, way: str) -> None:
    for rank in ranks:
        assert re.search(f"MisconfigurationException: LossLandscapeCallback: .*{REFUSED[way][1]}", rank[way]["error"])
