"""Files of drawn landscapes: every bit returns, and a damaged file is a landscape or one clear error."""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples, equal
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe, Recipe
from lightning_landscape.report import Interpolation, Report, RoundingError
from lightning_landscape.storage import FORMATS, LandscapeFileError, load, save
from lightning_landscape.trajectory import Trajectory

from .._limits import HANG
from ._strategies import grids, masks, samples, surfaces, trajectories

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
REAL = st.sampled_from(["<f8", ">f8", "<f4", "<f2", "<i8", "|u1"])


WORD = st.none() | st.text(max_size=8)
WHOLE, NUMBER = st.none() | st.integers(), st.none() | st.floats()
NUMBERS = st.dictionaries(st.text(max_size=8), st.floats(), max_size=2)
SETTINGS = st.dictionaries(st.text(max_size=8), JSON, max_size=2)
RECIPES = st.builds(
    Recipe,
    module=WORD,
    seed=WHOLE,
    data=st.dictionaries(st.text(max_size=8), st.builds(DataRecipe, st.integers(), WHOLE, WORD, WORD), max_size=2),
    directions=st.none()
    | st.builds(
        DirectionsRecipe, st.text(max_size=8), st.dictionaries(st.text(max_size=8), JSON, max_size=2), st.floats()
    ),
    tolerance=NUMBER,
)
REPORTS = st.builds(
    Report,
    seconds=NUMBER,
    interpolation=st.none() | st.builds(Interpolation, NUMBER, errors=NUMBERS),
    rounding_error=st.none() | st.builds(RoundingError, st.integers(), st.integers(), NUMBERS, NUMBERS),
    failure=WORD,
)


@st.composite
def wide_grids(draw: Any) -> Grid:
    """Axes of any finite numbers, up to four of them."""
    axis = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=4, unique=True).map(sorted)
    return Grid(tuple(np.array(a) for a in draw(st.lists(axis, min_size=1, max_size=4))))


@st.composite
def landscapes(draw: Any) -> Landscape:
    """Any landscape at all."""
    grid = draw(grids() | wide_grids())
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))

    def numbers() -> np.ndarray:
        if draw(st.booleans()):
            return draw(surfaces(grid.shape))
        return draw(hnp.arrays(draw(REAL), grid.shape))

    done = draw(masks(grid.shape))
    return Landscape(
        grid,
        {name: numbers() for name in names},
        draw(st.sampled_from(names)),
        {name: numbers() for name in names if draw(st.booleans())},
        done,
        {name: draw(st.floats()) for name in names if draw(st.booleans())},
        draw(st.none() | samples(grid.shape)),
        draw(st.dictionaries(st.text(max_size=8), JSON, max_size=4)),
        done & draw(masks(grid.shape)),
        draw(RECIPES),
        draw(REPORTS),
        draw(st.none() | trajectories(grid.ndim, TEXT)),
    )


def content(landscape: Landscape) -> list[Any]:
    """Everything that a landscape holds, down to types, order and bits."""

    def bits(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            same = value.copy()
            if value.dtype.kind == "f":
                same[np.isnan(value)] = np.nan  # a NaN has many bits, and one word in text
            return value.dtype.str, value.shape, same.tobytes()
        if isinstance(value, float):
            return "nan" if np.isnan(value) else value.hex()  # a NaN has many bits, Python's floats one repr
        if isinstance(value, dict):
            return [(key, bits(item)) for key, item in value.items()]
        if isinstance(value, list | tuple):
            return [bits(item) for item in value]
        if isinstance(value, Sample):
            return bits(vars(value))
        return type(value).__name__, value

    parts = landscape.samples
    center = {name: landscape.center[name] for name in landscape.values}
    everything = [landscape.grid.axes, landscape.values, landscape.standard_errors, landscape.main]
    return bits(
        [
            *everything,
            landscape.done,
            landscape.interpolated,
            center,
            landscape.meta,
            asdict(landscape.recipe),
            asdict(landscape.report),
            None if parts is None else [parts.values, parts.items],
            None if landscape.trajectory is None else vars(landscape.trajectory),
        ]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("suffix", FORMATS)
@given(landscape=landscapes())
def test_every_bit_returns(suffix: str, folder: Path, landscape: Landscape) -> None:
    form, before = FORMATS[suffix], content(landscape)
    again = load(save(landscape, folder / f"a{suffix}"))
    assert content(landscape) == before
    if not form.whole:
        landscape.samples = landscape.trajectory = None
    assert content(again) == content(landscape)
    assert equal(landscape, again)


# Damage -----------------------------------------------------------------------------------------------------------


def victim() -> Landscape:
    """A landscape with something in every part of a file."""
    grid = Grid.from_ranges((-1, 1, 5), (0, 2, 4))
    values = np.random.default_rng(0).normal(size=(4, *grid.shape))
    done = np.ones(grid.shape, dtype=bool)
    done[4] = False
    items = (Sample(3, 0.5, 1, 1, 0.9, np.full((2, 3, 3), 7, np.uint8)), Sample(4, 0.25))
    errors = {"loss": values[2], "val/acc": values[3]}
    recipe = Recipe(
        seed=7, data={"train": DataRecipe(8)}, directions=DirectionsRecipe("random", {"normalize": "filter"})
    )
    report = Report(1.5, interpolation=Interpolation(1e-3, errors={"loss": 0.1}), rounding_error=RoundingError(9, 2))
    return Landscape(
        grid,
        {"loss": values[0], "val/acc": values[1]},
        "loss",
        errors,
        done,
        {},
        Samples(values[2:], items),
        {"note": [1]},
        recipe=recipe,
        report=report,
        trajectory=Trajectory(
            *(np.arange(3.0), values[0, :3, :2], values[1, :3, 0], values[1, :3, 1]),
            *({"loss": values[2, :3, 0]}, {"loss": values[2, :3, 1]}, {"lr": values[2, :3, 2]}, {"norm": values[3, 0]}),
            *(np.array([1.0]), np.array([True, True, False])),
        ),
    )


def kept_of_victim(suffix: str) -> Landscape:
    """What a file of that format keeps of the victim."""
    landscape = victim()
    if not FORMATS[suffix].whole:
        landscape.samples = landscape.trajectory = None
    return landscape


@pytest.fixture(scope="module")
def intact(folder: Path) -> dict[str, Path]:
    """A good file of each format."""
    return {suffix: save(victim(), folder / f"intact{suffix}") for suffix in FORMATS}


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was unpickled so far, which should be nothing."""
    seen: list[str] = []
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, name=name, **__: seen.append(name))
    return seen


def told(path: Path) -> Landscape | None:
    """The landscape in a file, or None for one clear error; anything else is raised."""
    try:
        return load(path)
    except LandscapeFileError as error:
        message = str(error)
    assert path.name in message
    assert "no landscape" in message or "newer version" in message
    return None


FLIPS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=4)


@settings(max_examples=100)
@given(flips=FLIPS, directory=st.booleans())
def test_flipped_bytes_of_an_archive_are_told_or_do_no_harm(
    folder: Path, intact: dict[str, Path], unpickled: list[str], flips: list[tuple[int, int]], directory: bool
) -> None:
    data = bytearray(intact[".npz"].read_bytes())
    start = data.index(b"PK\1\2") if directory else 0  # the list of contents, which no checksum protects
    for place, mask in flips:
        data[start + place % (len(data) - start)] ^= mask
    path = folder / "flipped.npz"
    path.write_bytes(data)
    found = told(path)
    assert found is None or content(found) == content(victim())
    assert not unpickled


@pytest.mark.parametrize("suffix", FORMATS)
@given(kept=st.floats(0, 1, exclude_max=True), tail=st.binary(max_size=40))
def test_a_truncated_file_is_told(suffix: str, folder: Path, intact: dict[str, Path], kept: float, tail: bytes) -> None:
    data = intact[suffix].read_bytes()
    path = folder / f"cut{suffix}"
    path.write_bytes(data[: int(kept * len(data))])
    assert told(path) is None
    if suffix != ".h5":  # HDF5 with bytes in it that are not its own can take the process down
        path.write_bytes(data[: int(kept * len(data))] + tail)
        found = told(path)
        assert found is None or content(found) == content(kept_of_victim(suffix))


@pytest.mark.parametrize("suffix", FORMATS)
@given(data=st.binary(max_size=300), head=st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x93NUMPY\1\0", b"\x80\4"]))
def test_random_bytes_are_no_landscape(
    suffix: str, folder: Path, unpickled: list[str], data: bytes, head: bytes
) -> None:
    path = folder / f"random{suffix}"
    path.write_bytes(head + data)
    assert told(path) is None
    assert not unpickled


@given(landscape=landscapes(), suffix=st.permutations(list(FORMATS)))
def test_a_file_of_another_format_is_told(folder: Path, landscape: Landscape, suffix: list[str]) -> None:
    path = folder / f"renamed{suffix[1]}"
    path.unlink(missing_ok=True)
    save(landscape, folder / f"original{suffix[0]}").rename(path)
    assert told(path) is None


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every part of a JSON value but the whole, by the keys that lead there."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*where, key)
        yield from places(value[key], (*where, key))


@settings(max_examples=100)
@given(data=st.data())
def test_json_that_says_anything_is_told_or_read(folder: Path, intact: dict[str, Path], data: st.DataObject) -> None:
    said = json.loads(intact[".json"].read_text())
    where = data.draw(st.sampled_from([place for place in places(said) if len(place) < 5]), "where")
    inner = said
    for key in where[:-1]:
        inner = inner[key]
    if data.draw(st.booleans(), "leave it out"):
        del inner[where[-1]]
    else:
        inner[where[-1]] = data.draw(JUNK | st.sampled_from(["NaN", "O", "V8", "<U4", [[1]]]), "junk")
    path = folder / "said.json"
    path.write_text(json.dumps(said))
    found = told(path)
    if found is not None:
        assert isinstance(found.meta, dict)
        assert isinstance(found.grid, Grid)
        again = load(save(found, folder / "again.json"))
        assert content(again) == content(found)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@given(flips=FLIPS)
def test_flipped_bytes_of_text_are_told_or_read(
    suffix: str, folder: Path, intact: dict[str, Path], unpickled: list[str], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(intact[suffix].read_bytes())
    for place, mask in flips:
        data[place % len(data)] ^= mask
    path = folder / f"flipped{suffix}"
    path.write_bytes(data)
    told(path)
    assert not unpickled


class Trap:
    """Something that a pickle would execute."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('the pickle was executed')",)


def bodies() -> Iterator[tuple[str, bytes]]:
    """Members of an archive that hide a pickle, by how they hide it."""
    yield "a bare pickle", pickle.dumps(Trap())
    for version in ((1, 0), (2, 0), (3, 0)):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.array([Trap()], dtype=object), version)
        yield f"objects, version {version}", file.getvalue()
    file = io.BytesIO()
    np.save(file, np.array([(1, Trap())], dtype=[("number", int), ("object", object)]))
    yield "a structure with an object in it", file.getvalue()


@given(data=st.data())
def test_no_pickle_in_an_archive_is_executed(
    folder: Path, intact: dict[str, Path], unpickled: list[str], data: st.DataObject
) -> None:
    with zipfile.ZipFile(intact[".npz"]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    _, body = data.draw(st.sampled_from([*bodies()]), "body")
    places = data.draw(st.sets(st.sampled_from([*members, "strange.npy", "samples.strange.npy"]), min_size=1))
    path = folder / "trap.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, whole in {**members, **dict.fromkeys(places, body)}.items():
            archive.writestr(name, whole)
    found = told(path)
    assert found is None or places == {"strange.npy"}
    assert not unpickled


JUNK = st.one_of(
    JSON,
    st.sampled_from(
        ["loss", "val/acc", [], None, {}, 1, 2, -1, "1", 1e300, {"loss": "loss"}, {"loss": 3}, {"a": "a"}, 3]
    ),
)


KEYS = st.sampled_from(["format_version", "main", "metrics", "meta"])


@settings(max_examples=100)
@given(st.dictionaries(KEYS, JUNK, min_size=1, max_size=2))
def test_a_header_that_says_anything_is_told_or_read(
    folder: Path, intact: dict[str, Path], header: dict[str, Any]
) -> None:
    with np.load(intact[".npz"]) as archive:
        arrays = {name: archive[name] for name in archive.files}
    said = json.loads(arrays["header"].item()) | header
    arrays["header"] = np.array(json.dumps(said).encode("ascii"))
    path = folder / "header.npz"
    np.savez(path, **arrays)
    found = told(path)
    if found is not None:
        assert isinstance(found.meta, dict)
        assert all(isinstance(name, str) for name in found.values)
        again = load(save(found, folder / "again.npz"))
        assert content(again) == content(found)


@given(data=st.data())
def test_arrays_that_are_anything_are_told_or_read(folder: Path, intact: dict[str, Path], data: st.DataObject) -> None:
    with np.load(intact[".npz"]) as archive:
        arrays = {name: archive[name] for name in archive.files}
    dtypes = st.one_of(hnp.scalar_dtypes(), REAL)
    for name in data.draw(st.sets(st.sampled_from([*arrays]), min_size=1, max_size=3), "names"):
        shape = data.draw(st.one_of(st.just(arrays[name].shape), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)))
        arrays[name] = data.draw(hnp.arrays(data.draw(dtypes), shape), name)
    path = folder / "arrays.npz"
    np.savez(path, **arrays)
    found = told(path)
    if found is not None:
        assert isinstance(found.meta, dict)
        assert all(isinstance(name, str) for name in found.values)
        again = load(save(found, folder / "again.npz"))
        assert content(again) == content(found)


READ_ALL = """
import sys
from lightning_landscape.landscape import equal
from lightning_landscape.storage import LandscapeFileError, load
intact = load(sys.argv[1])
for path in sys.argv[2:]:
    print(path, flush=True)
    try:
        found = load(path)
    except LandscapeFileError:
        continue
    assert equal(found, intact)
"""


def damaged(data: bytes, seed: int) -> bytes:
    """The bytes of an HDF5 file, some changed: anywhere, in the first 2 kB, or all of the first 96."""
    generator, changed = np.random.default_rng(seed), np.frombuffer(data, dtype=np.uint8).copy()
    if seed % 8 == 0:
        changed[8:96] = generator.integers(0, 256, 88)
        return changed.tobytes()
    reach = len(data) if seed % 2 else 2048
    for _ in range(generator.integers(1, 5)):
        changed[generator.integers(reach)] ^= generator.integers(1, 256, dtype=np.uint8)
    return changed.tobytes()


def survives(intact: Path, files: list[Path]) -> None:
    """Asserts that a process of its own reads all of them, each as the intact one or as a `LandscapeFileError`."""
    command = [sys.executable, "-c", READ_ALL, str(intact), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-500:]}"


def test_damaged_hdf5_is_told_or_read(folder: Path, intact: dict[str, Path]) -> None:
    data = intact[".h5"].read_bytes()
    files = [folder / f"damaged{seed}.h5" for seed in range(150)]
    for seed, path in enumerate(files):
        path.write_bytes(damaged(data, seed))
    survives(intact[".h5"], files)


def test_an_hdf5_text_of_another_type_does_not_end_the_process(folder: Path, intact: dict[str, Path]) -> None:
    # The type of the attribute "format": variable-length (0x19) text (1), which becomes neither text nor sequence.
    pattern = rb"(format\0+\x19)\x01"
    data, count = re.subn(pattern, b"\\1\x1e", intact[".h5"].read_bytes())
    (folder / "text.h5").write_bytes(data)
    survives(intact[".h5"], [folder / "text.h5"])
    assert count <= 1  # 0 where no text has a variable length


def test_an_hdf5_heap_that_never_ends_does_not_hang(folder: Path, intact: dict[str, Path]) -> None:
    data = bytearray(intact[".h5"].read_bytes())
    heap = data.find(b"GCOL")
    if heap >= 0:  # the size of its first object, with which the walk through the heap stays where it is
        data[heap + 24 : heap + 32] = (2**64 - 16).to_bytes(8, "little")
    (folder / "heap.h5").write_bytes(data)
    survives(intact[".h5"], [folder / "heap.h5"])
