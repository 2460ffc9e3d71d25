import itertools
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.storage import FORMATS, LandscapeFileError, load, save

from .._limits import HANG

every_format = pytest.mark.parametrize("suffix", FORMATS)


@every_format
def test_every_bit_returns(landscape, suffix, tmp_path, bits):
    form, before = FORMATS[suffix], bits(landscape)
    loaded = load(save(landscape, tmp_path / f"a{suffix}"))
    assert bits(landscape) == before
    if not form.whole:
        landscape.samples = landscape.trajectory = None
    assert bits(loaded) == bits(landscape)


@every_format
def test_an_asymmetric_surface_is_not_turned(lopsided, suffix, tmp_path):
    loaded = load(save(lopsided, tmp_path / f"a{suffix}"))
    x, y = loaded.grid.axes
    assert x.tolist() == [-3, -1, -0.5, 0, 0.25, 2, 9]
    assert y.tolist() == [-2, 0, 0.5, 1, 4]
    for i, j in np.ndindex(7, 5):
        assert loaded.loss[i, j] == 10 * x[i] + y[j]
        assert loaded.standard_errors["train_loss"][i, j] == x[i] ** 2 + 1
        assert loaded.done[i, j] == (i < 6 or j == 0)


@every_format
def test_a_second_trip_changes_nothing(lopsided, suffix, tmp_path, bits):
    once = load(save(lopsided, tmp_path / f"a{suffix}"))
    twice = load(save(once, tmp_path / f"b{suffix}"))
    assert bits(once) == bits(twice)


@every_format
def test_a_loaded_landscape_owns_its_data(lopsided, suffix, tmp_path):
    loaded = load(save(lopsided, tmp_path / f"a{suffix}"))
    (tmp_path / f"a{suffix}").unlink()
    loaded.values["train_loss"][0, 0] = 5.0
    loaded.done[0, 0] = False
    assert loaded.loss[0, 0] == 5.0


@every_format
def test_numpy_scalars_and_tuples_in_the_recipe_become_plain(lopsided, suffix, tmp_path):
    lopsided.meta = {
        "n": np.int64(3),
        "lr": np.float32(0.5),
        "ok": np.bool_(True),
        "range": (1, np.float64(2)),
    }
    loaded = load(save(lopsided, str(tmp_path / f"a{suffix}")))
    assert loaded.meta == {"n": 3, "lr": 0.5, "ok": True, "range": [1, 2.0]}
    assert [type(value) for value in loaded.meta.values()] == [int, float, bool, list]


@every_format
def test_the_path_comes_back_and_folders_are_made(lopsided, suffix, tmp_path):
    path = tmp_path / "new" / "folder" / f"a{suffix.upper()}"
    assert save(lopsided, str(path)) == path
    assert load(path).main == "train_loss"


@every_format
def test_an_older_file_is_replaced(lopsided, with_samples, suffix, tmp_path, bits):
    path = save(with_samples, tmp_path / f"a{suffix}")
    save(lopsided, path)
    assert bits(load(path)) == bits(lopsided)
    assert os.listdir(tmp_path) == [path.name]


@every_format
def test_a_failing_encoder_leaves_the_older_file_and_nothing_else(lopsided, suffix, tmp_path, monkeypatch):
    def fails(landscape):
        raise MemoryError("no memory")

    path = save(lopsided, tmp_path / f"a{suffix}")
    before = path.read_bytes()
    monkeypatch.setitem(FORMATS, suffix, replace(FORMATS[suffix], encode=fails))
    with pytest.raises(MemoryError, match="no memory"):
        save(lopsided, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


FULL = """
import errno, os, resource, sys
from pathlib import Path
from lightning_landscape.storage import load, save
path = Path(sys.argv[1])
landscape, before = load(path), path.read_bytes()
for size in range(0, len(before), len(before) // 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        save(landscape, path)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError(size)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(before), resource.RLIM_INFINITY))
save(landscape, path)
"""


@every_format
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_where_a_file_finds_no_room_the_older_one_stays_and_the_process_lives(lopsided, suffix, tmp_path):
    """HDF5's own writing ends the process with signal 11 at most of these sizes."""
    path = save(lopsided, tmp_path / f"a{suffix}")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr


@every_format
def test_encoding_touches_no_disk(lopsided, suffix, tmp_path, monkeypatch):
    save(lopsided, tmp_path / f"a{suffix}")  # libraries that are imported late
    monkeypatch.chdir(tmp_path)
    before = os.listdir(tmp_path)
    assert len(FORMATS[suffix].encode(lopsided)) > 300
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("suffix", [suffix for suffix, form in FORMATS.items() if form.whole])
def test_a_thumbnail_that_is_no_picture_is_refused(lopsided, suffix, tmp_path):
    path = save(lopsided, tmp_path / f"a{suffix}")
    before = path.read_bytes()
    lopsided.samples = Samples(np.zeros((1, 7, 5)), (Sample(0, 1.0, thumbnail=np.zeros((2, 2, 3))),))
    with pytest.raises(ValueError, match=r"a thumbnail must be uint8 of shape .*, got float64 \(2, 2, 3\)"):
        save(lopsided, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("call", [load, lambda path: save(None, path)])
@pytest.mark.parametrize("name, shown", [("a.txt", "'.txt'"), ("a", "''"), (".h5", "''")])
def test_an_unknown_suffix_lists_the_choices(call, name, shown):
    with pytest.raises(
        ValueError, match=rf"path='{name}' has the suffix {shown}: choose one of .h5, .npz, .json, .csv"
    ):
        call(name)


@every_format
def test_a_missing_file_is_a_missing_file(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"absent{suffix}"):
        load(tmp_path / f"absent{suffix}")


@every_format
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"not a landscape at all\n" * 99, pickle.dumps([1]), b"PK\3\4", b"\x89HDF\r\n"],
)
def test_garbage_is_no_landscape(suffix, content, tmp_path):
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    with pytest.raises(LandscapeFileError, match=f"garbage{suffix} is .*no landscape"):
        load(path)


@every_format
def test_a_folder_is_no_landscape(suffix, tmp_path):
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(LandscapeFileError, match=f"folder{suffix} is .*no landscape"):
        load(folder)


@pytest.mark.parametrize("suffix, other", [*itertools.permutations(FORMATS, 2)])
def test_a_wrong_suffix_is_no_landscape(lopsided, suffix, other, tmp_path):
    path = save(lopsided, tmp_path / f"a{other}").rename(tmp_path / f"b{suffix}")
    with pytest.raises(LandscapeFileError, match=f"b{suffix} is .*no landscape"):
        load(path)


@every_format
@pytest.mark.parametrize("kept", [1, 8, 96, 700, 0.25, 0.5, 0.75, 0.99, -1])
def test_a_truncated_file_is_told(lopsided, with_samples, suffix, kept, tmp_path):
    path = save(with_samples if FORMATS[suffix].whole else lopsided, tmp_path / f"cut{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(LandscapeFileError, match=f"cut{suffix} is .*no landscape"):
        load(path)


@every_format
@pytest.mark.parametrize(
    "change, message",
    [
        ({"meta": {"path": {1, 2}}}, r"meta\['path'\] is a set: a file holds plain JSON"),
        ({"meta": {"a": [{}, {3: 4}]}}, r"meta\['a'\]\[1\] has the key 3: the keys of JSON are text"),
        ({"meta": {"array": np.zeros(2)}}, r"meta\['array'\] is a ndarray: a file holds plain JSON"),
        ({"center": {"other": 1.0}}, "center has 'other', the metrics are: train_loss, val/acc"),
        ({"standard_errors": {"other": np.zeros((7, 5))}}, "standard_errors has 'other', the metrics are"),
        (
            {"standard_errors": {"val/acc": np.full((7, 5), None)}},
            "val/acc must hold real numbers, got dtype obj",
        ),
    ],
)
def test_what_no_format_can_hold_is_refused_before_writing(lopsided, suffix, change, message, tmp_path):
    for name, value in change.items():
        setattr(lopsided, name, value)
    with pytest.raises(ValueError, match=message):
        save(lopsided, tmp_path / f"a{suffix}")
    assert os.listdir(tmp_path) == []


@every_format
@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_is_no_text_is_refused(suffix, name, tmp_path):
    landscape = Landscape(Grid.from_ranges((-1, 1, 2), (-1, 1, 2)), {name: np.zeros((2, 2))}, name)
    with pytest.raises(ValueError, match="cannot be stored: its name is not plain text"):
        save(landscape, tmp_path / f"a{suffix}")


@every_format
def test_a_recipe_that_holds_itself_is_refused(lopsided, suffix, tmp_path):
    lopsided.meta["self"] = lopsided.meta
    with pytest.raises(ValueError, match="meta is nested deeper than 50"):
        save(lopsided, tmp_path / f"a{suffix}")


def test_files_need_no_torch():
    code = "import sys, lightning_landscape.storage; assert not {'torch', 'matplotlib', 'vtkmodules'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
