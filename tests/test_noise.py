"""What torch says of accelerations that the user did not ask for is not on the screen; the user's own words are."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lightning_landscape.isolation.effects import EffectGuard, without_foreign_noise

from ._limits import HANG

PROGRAM = Path(__file__).with_name("_noise.py")


@pytest.mark.parametrize("row", ["several_points", "compiled"])
def test_the_screen_has_the_users_warning_once_and_none_of_torch(tmp_path: Path, row: str) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path), row]
    system = {**os.environ, "CUDA_HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, env=system, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stderr.splitlines()
    assert sum("UserWarning: the user's own" in line for line in lines) == 1
    for word in ("performance drop", "batching rule", "CUDA_HOME", "inductor", "dynamo"):
        assert not [line for line in lines if word in line]


def warned_of(text: str) -> None:
    with EffectGuard(warned_of):
        warnings.warn_explicit(text, UserWarning, "a_file.py", abs(hash(text)) % 10**6)


def test_only_what_an_acceleration_brings_about_is_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    noise = "There is a performance drop because we have not yet implemented the batching rule for aten::x."
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message)
        warned_of("first words")
        with without_foreign_noise():
            warned_of(noise)
            warned_of("the user's own words")
        warned_of(noise)  # of a step that calls vmap itself
    assert capsys.readouterr().out.splitlines() == ["first words", "the user's own words", noise]
