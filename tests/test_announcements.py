"""The lines that a user reads, word by word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.trainer.announcements import closing_line, cost_line, duration, ended_line


def bowl(lowest: float = 0.0, ndim: int = 2) -> Landscape:
    """(x − lowest)² + y² + 0.231 on [-1, 1], whose curvature is 2 along both axes."""
    grid = Grid.from_ranges(*[(-1, 1, 5), (-1, 1, 3)][:ndim])
    x, y = grid.points[:, 0], grid.points[:, 1] if ndim > 1 else 0
    return Landscape(grid, {"train_loss": ((x - lowest) ** 2 + y**2 + 0.231).reshape(grid.shape)}, "train_loss")


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0.0, "0 s"), (0.004, "0 s"), (0.05, "0.05 s"), (0.5, "0.5 s"), (9.94, "9.9 s"), (9.96, "10 s"),
        (59.4, "59 s"), (59.6, "1 min"), (90, "1.5 min"), (3569, "59 min"), (3571, "1 h"), (86_400, "24 h"),
    ],
)  # fmt: skip
def test_a_time_has_one_or_two_digits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    "given, line",
    [
        (
            ((51, 51), 1024, 180.0, "every 5 epochs", 0.4, "limited to 10 % by budget='auto'"),
            "landscape: 51 × 51 points × 1,024 samples ≈ 3 min, every 5 epochs ≈ 40 % of the training; "
            "limited to 10 % by budget='auto'",
        ),
        (((5, 3), 64, 9.0, "every epoch", 2.5), "landscape: 5 × 3 points × 64 samples ≈ 9 s, every epoch ≈ 2.5 times "
         "the training"),
        (((9,), 64, 9.0, "at the end"), "landscape: 9 points × 64 samples ≈ 9 s, at the end"),
        (((9,), None, None, "at the end", 0.1), "landscape: 9 points, at the end"),
    ],
)  # fmt: skip
def test_the_cost_is_one_line_with_what_is_known(given: tuple, line: str) -> None:
    assert cost_line(*given) == line


def test_the_end_says_where_what_and_how_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs" / "step=000480"
    assert closing_line(bowl(), 480, folder, 21.0, 3.0) == (
        "landscape of step 480: logs/step=000480 · train_loss 0.231 at the centre, the lowest point · curvature 2, 2 · "
        "21 s (3 s drawing)"
    )
    elsewhere = Path("/elsewhere/step=000480")
    assert closing_line(bowl(), 480, elsewhere, 21.0, 3.0).startswith(f"landscape of step 480: {elsewhere} · ")


def test_the_end_names_the_lowest_point_with_the_digits_that_tell() -> None:
    assert closing_line(bowl(0.5), 1, None, 2.0, 0.5, ("max_samples=256",)) == (
        "landscape of step 1 · train_loss 0.481 at the centre, 0.231 the lowest, at (0.5, 0) · curvature 2, 2 · "
        "max_samples=256 · 2 s (0.5 s drawing)"
    )
    line = bowl(ndim=1)
    line.values["train_loss"][3] = 0.23099
    assert "train_loss 0.231 at the centre, 0.23099 the lowest, at 0.5 ·" in closing_line(line, 1, None, 2.0, 0.5)


def test_the_end_says_nothing_that_is_unknown() -> None:
    part = bowl()
    part.done[0] = False
    part.values["train_loss"][1, 1] = np.nan
    assert closing_line(part, 1, None, 2.0, 0.5) == (
        "landscape of step 1 · 12 of 15 points · train_loss 0.231 at the centre, the lowest point · 2 s (0.5 s drawing)"
    )
    part.values["train_loss"][:] = part.center["train_loss"] = np.nan
    assert "train_loss nan at the centre · 2 s" in closing_line(part, 1, None, 2.0, 0.5)


def test_ctrl_c_is_said_with_what_is_left() -> None:
    assert ended_line(480, 512, 2601) == (
        "Ctrl-C ended the landscape of step 480: its 512 of 2,601 points are kept and drawn. The training goes on; "
        "press Ctrl-C twice within 3 s to stop it."
    )
    assert ended_line(8, 0, 9, "the program") == (
        "Ctrl-C ended the landscape of step 8: it had no points yet. The program goes on; "
        "press Ctrl-C twice within 3 s to stop it."
    )
