"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest

from lightning_landscape import Grid, Landscape, load, save
from lightning_landscape.cli import main
from lightning_landscape.plots import COLOR_SCALES, PLOTS, to_image
from lightning_landscape.recipe import DirectionsRecipe, Recipe
from lightning_landscape.storage import EXPORTS, FORMATS
from tests.plots.walks import walk


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--epochs", "2", "--every", "1", "--points", "3", "--max-samples", "32", "--dir", str(tmp_path)]
    assert main(["demo", *arguments]) == 0
    text = capsys.readouterr().out
    folder = tmp_path / "digits" / "version_0" / "landscape"
    assert str(folder) in text
    assert f"tensorboard --logdir {tmp_path}" in text
    for step in (20, 40):
        landscape = load(folder / f"step={step:06d}" / "landscape.h5")
        assert f"train_loss {landscape.center['train_loss']:.4f} at the centre" in text
        assert (folder / f"step={step:06d}" / "train_loss_3dsurface.png").exists()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from lightning_landscape.cli import main\n"
        "try: main(['demo', '--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tensorboard" not in result.stderr
    assert "--epochs" in result.stdout


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--points", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lightning-landscape: x=(-1, 1, 1) has 1 points")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["dome"])


# files


def bowl(ndim: int = 2, scale: float = 1.0, points: tuple[int, ...] = (7, 5, 3), **recipe: Any) -> Landscape:
    """scale · (1 + x² + 4 y² + 9 z²)."""
    grid = Grid.from_ranges(*[(-1, 1, n) for n in points[:ndim]])
    values = scale * (1 + (grid.points**2 * [1, 4, 9][:ndim]).sum(axis=1).reshape(grid.shape))
    return Landscape(grid, {"loss": values, "val_acc": 1 / values}, "loss", recipe=Recipe(**recipe))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(bowl(step=240, module="DigitsCNN", seed=4711), tmp_path / "bowl.h5")


def run(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def test_view_tells_centre_minimum_curvature_and_recipe(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("view", file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(file)
    assert lines[2].split() == ["centre", "lowest", "at", "highest", "curvature"]
    assert lines[3].split() == ["loss", "1", "1", "0,", "0", "6", "2,", "8"]
    assert lines[4].split()[:5] == ["val_acc", "1", "0.1667", "-1,", "-1"]
    assert lines[6].startswith("- No point of the grid is lower than the centre, where loss is 1.")
    text = "\n".join(lines[5:])
    for part in ("loss of DigitsCNN", "7 points in [-1, 1] × 5 points in [-1, 1]", "35 of 35 points (100%)", "4711"):
        assert part in text
    assert "?" not in text.replace("(?", "").splitlines()[-1]
    assert max(len(line) for line in lines[1:]) <= 80


def test_view_reads_the_landscape_as_the_log_does(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 + x² + 4 y² along y on 5 points: 1.1 a tenth of the first step, 2 at its end."""
    assert run("view", file) == 0
    text = capsys.readouterr().out
    assert f"\n\n{load(file).reading()}\n\n" in text
    assert "Along y (β) the loss has risen by 10 % at about -0.05 and about 0.05; by 1 at -0.5 and 0.5." in " ".join(
        text.split()
    )


def test_view_keeps_to_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"normalize": "filter", "ignore": "biasbn", "seed": 1234567}
    directions = DirectionsRecipe("random", settings, dead_filters=3, lengths=[12.3456, 1.5, 2.0], checksum="0" * 32)
    landscape = bowl(3, directions=directions, versions={"torch": "2.15.0+cu130", "lightning": "2.6.6", "numpy": "2.4"})
    assert run("view", save(landscape, tmp_path / "a.npz")) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert max(map(len, lines)) <= 80
    assert "[-1, 1]" in [line.strip() for line in lines]  # a range is not broken


def test_plot_draws_what_the_landscape_has(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plot", file) == 0
    paths = {Path(line) for line in capsys.readouterr().out.splitlines()}
    kinds = ("2dcontour", "2dheat", "3dsurface", "1dslices")
    assert paths == {file.parent / "bowl" / f"{name}_{kind}.png" for name in ("loss", "val_acc") for kind in kinds}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_plot_takes_kinds_metric_format_and_folder(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.parent / "out"
    options = ["--kinds", "heat", "slices", "--metric", "val_acc", "--format", "svg", "--color-scale", "log"]
    assert run("plot", file, "--out", out, *options) == 0
    assert sorted(p.name for p in out.iterdir()) == ["val_acc_1dslices.svg", "val_acc_2dheat.svg"]
    assert "logarithmic colours" in (out / "val_acc_2dheat.svg").read_text(encoding="utf-8")


def test_film_of_one_landscape_shows_its_path(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    landscape = bowl(2)
    landscape.trajectory = walk(2)
    monkeypatch.setattr("lightning_landscape.storage.load", lambda path: landscape)
    for options, path in (([], file.with_suffix(".gif")), (["--out", file.parent / "a.webp"], file.parent / "a.webp")):
        assert run("film", file, "--frames", "4", "--kind", "heat", *options) == 0
        assert Path(capsys.readouterr().out.strip()) == path
        with PIL.Image.open(path) as image:
            assert image.n_frames == 4
    landscape.trajectory = None
    assert run("film", file) == 1
    assert "this landscape has no path of a training" in capsys.readouterr().err
    assert run("film", file, "--out", "a.avi") == 1
    assert "films are written as .gif, .webp, .mp4, not as '.avi'" in capsys.readouterr().err


def test_film_of_several_landscapes_has_a_frame_each_in_their_order_and_on_one_scale(tmp_path: Path) -> None:
    """The lowest and the highest value of all are 1 and 12: the colours of each frame say so."""
    files = [save(bowl(step=step, scale=scale), tmp_path / f"{step}.h5") for step, scale in ((20, 2.0), (3, 1.0))]
    assert run("film", *files, "--kind", "heat", "--out", tmp_path / "a.webp") == 0
    with PIL.Image.open(tmp_path / "a.webp") as image:
        found = [np.asarray(frame.convert("RGB")) for frame in PIL.ImageSequence.Iterator(image)]
    for frame, step, scale in zip(found, (3, 20), (1.0, 2.0), strict=True):
        expected = to_image(bowl(step=step, scale=scale).plot("heat", vmin=1.0, vmax=12.0))
        np.testing.assert_array_equal(frame, expected)


def test_plot_gives_each_of_several_files_a_folder(tmp_path: Path) -> None:
    files = [save(bowl(1), tmp_path / f"step={n}" / "landscape.h5") for n in (10, 20)]
    assert run("plot", *files, "--out", tmp_path / "out", "--metric", "loss") == 0
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png"))
    assert found == ["step=10/loss_1dslices.png", "step=20/loss_1dslices.png"]


def test_a_kind_that_does_not_fit_is_an_error_if_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plot", file, "--kinds", "sections", "heat") == 1
    output = capsys.readouterr()
    assert "sections draws 3-D landscapes, this one is 2-D" in output.err
    assert output.out.count("2dheat.png") == 2


@pytest.mark.parametrize("suffix", [s.removeprefix(".") for s in FORMATS])
def test_export_writes_every_format(file: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.with_name(f"copy.{suffix}")
    assert run("export", file, "--to", suffix, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    np.testing.assert_array_equal(load(out).loss, load(file).loss)


def test_export_goes_beside_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", file, "--to", "npz") == 0
    assert load(file.with_suffix(".npz")).recipe.step == 240
    for options, said in ((["--to", "h5"], "is FILE itself"), (["--to", "npz", "--out", "a.csv"], "not end in .npz")):
        assert run("export", file, *options) == 1
        assert said in capsys.readouterr().err


def test_help_lists_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (("plot", [*PLOTS, *COLOR_SCALES]), ("export", [s[1:] for s in (*FORMATS, *EXPORTS)])):
        with pytest.raises(SystemExit, match="0"):
            run(command, "--help")
        text = capsys.readouterr().out
        assert "examples:\n  lightning-landscape" in text
        assert all(word in text for word in words)


def test_compare_prints_both_and_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [save(bowl(2, s), tmp_path / f"{name}.h5") for name, s in (("sgd", 1.0), ("adam", 3.0))]
    assert run("compare", *files, "--out", tmp_path / "c.png") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[:6] == [
        ["loss", "sgd", "adam", "difference"],
        ["centre", "1", "3", "+2"],
        ["lowest", "on", "the", "grid", "1", "3", "+2"],
        ["at", "0,", "0", "0,", "0"],
        ["curvature", "1", "2", "6", "+4"],
        ["curvature", "2", "8", "24", "+16"],
    ]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["view", "none.h5"], "none.h5: No such file or directory"),
        (["view", "{bad}"], "bad.h5 is damaged or is no landscape"),
        (["plot", "{file}", "--metric", "nope"], "metric='nope' is not in this landscape; it has: loss, val_acc"),
        (["compare", "{file}", "{other}"], "the grids differ: bowl has 7 points"),
        (["compare", "{file}", "{file}", "--out", "c.txt"], "ends in one of png, pdf, svg"),
        (["export", "{file}", "--to", "npz", "--out", "{bad}/a.npz"], "bad.h5"),
    ],
)
def test_errors_of_files_are_one_line(
    file: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(bowl(2, points=(3, 3)), file.parent / "other.h5")
    bad = file.parent / "bad.h5"
    bad.write_text("no landscape")
    assert run(*(argument.format(file=file, other=other, bad=bad) for argument in arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("lightning-landscape: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["plot", "a.h5", "--kinds", "hot"], "invalid choice: 'hot' (choose from"),
        (["export", "a.h5"], "the following arguments are required: --to"),
        (["export", "a.h5", "--to", "xls"], "invalid choice: 'xls'"),
        (["compare", "a.h5"], "the following arguments are required: B"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_files_need_no_torch(file: Path) -> None:
    code = f"""
import sys
for name in ("torch", "lightning", "pytorch_lightning", "torchvision"):
    sys.modules[name] = None
from lightning_landscape.cli import main
file, out = {str(file)!r}, {str(file.parent)!r}
for command in (["view", file], ["plot", file, "--kinds", "heat"], ["export", file, "--to", "npz"],
                ["film", file, file, "--kind", "heat"], ["compare", file, file, "--out", out + "/c.png"]):
    assert main(command) == 0, command
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_parser_imports_nothing_heavy() -> None:
    code = "import sys; from lightning_landscape.cli import parser; parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "numpy", "matplotlib", "h5py"} & set(loaded) == set()
