"""Landscapes that are hard to keep: one for each thing that a format could lose."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe, Recipe
from lightning_landscape.report import Interpolation, Report, RoundingError, TrainModeLoss
from lightning_landscape.spectrum import Spectrum
from lightning_landscape.trajectory import Trajectory


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers, none like another."""
    return np.random.default_rng(seed).normal(size=shape)


def lopsided() -> Landscape:
    """A 7 × 5 surface f(x, y) = 10x + y that no transpose or reflection maps to itself."""
    grid = Grid((np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0, 9.0]), np.array([-2.0, 0.0, 0.5, 1.0, 4.0])))
    x, y = grid.points.T
    done = np.ones(grid.shape, dtype=bool)
    done[6, 1:] = False
    return Landscape(
        grid,
        {"train_loss": (10 * x + y).reshape(grid.shape), "val/acc": (x - 100 * y).reshape(grid.shape)},
        main="train_loss",
        standard_errors={"train_loss": (x**2 + 1).reshape(grid.shape)},
        done=done,
        center={"train_loss": 0.125, "val/acc": 0.75},
        meta={"seed": 7, "reduction": "mean over samples", "lr": 0.1, "resumed": False, "axes": [[1], None]},
    )


def spared() -> Landscape:
    """Points of three kinds: evaluated, interpolated, without a value."""
    landscape = lopsided()
    landscape.interpolated[1:6, ::2] = True
    landscape.report.interpolation = Interpolation(1e-3, errors={"train_loss": 4e-4, "val/acc": float("inf")})
    return landscape


def told() -> Landscape:
    """Every entry of the recipe and the report is known."""
    landscape = lopsided()
    landscape.recipe = Recipe(
        "Net", "training_step", "train", 7, 12, 3, "averaged by EMA", "w" * 32,
        {"train": DataRecipe(8, 2, "a" * 32, "the first", 60_000, 1024), "val": DataRecipe(4)},
        {"train_loss": "train", "val/acc": "val"},
        DirectionsRecipe("pca", {"explained": [0.5, 0.25]}, -0.5, 2, [1.5, 2.0], ["net.weight"], 2, 30, 1, "d" * 32),
        "16-mixed", "bf16", 1e-3, 2.5, 10, "states", True, {"torch": "2.2.0"},
    )  # fmt: skip
    landscape.report = Report(
        1.5, {"bf16": 2.0, "affine, closed form": None}, 4,
        Interpolation(1e-3, ["loss"], {"loss": 1e-4}, {"loss": np.nan}, {"loss": "cubic"}, [0.1]),
        RoundingError(9, 2, {"train_loss": 0.1}, {"train_loss": np.inf}), TrainModeLoss(0.5, np.nan, "dropout"),
        "ValueError: no", "no loss a sample", ["seconds"], "the time was over",
    )  # fmt: skip
    return landscape


def odd_floats() -> Landscape:
    grid = Grid((np.array([-1.0, -0.0, 5e-324]), np.array([0.0, 1e308])))
    values = np.array([[np.nan, np.inf], [-np.inf, -0.0], [5e-324, 0.1 + 0.2]])
    return Landscape(grid, {"loss": values, "b": -values}, "loss", {"b": values[::-1]}, center={"b": -0.0})


def with_samples() -> Landscape:
    grid = Grid.from_ranges((-1, 1, 3), (0, 1, 2))
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    items = (
        Sample(5, 0.5, label=0, prediction=-1, probability=float("nan"), thumbnail=picture),
        Sample(5, float("inf")),
        Sample(2**40, -0.0, label=None, prediction=3, probability=0.1, thumbnail=picture[:1, :3] + 99),
        Sample(0, float("nan"), label=2, thumbnail=np.zeros((7, 1, 3), dtype=np.uint8)),
    )
    return Landscape(grid, {"loss": numbers(3, 2)}, "loss", samples=Samples(numbers(4, 3, 2, seed=1), items))


def of_one_axis(ndim: int) -> Landscape:
    grid = Grid.from_ranges(*[(-1, 1, 3 + i) for i in range(ndim)])
    samples = Samples(numbers(1, *grid.shape), (Sample(0, 1.0),))
    return Landscape(grid, {"loss": numbers(*grid.shape, seed=ndim)}, "loss", samples=samples)


def with_path(ndim: int = 2, records: int = 4) -> Landscape:
    """Every part of a path, its records off the plane, one not measured; and names that are hard to keep."""
    landscape = of_one_axis(ndim)
    landscape.samples = None
    landscape.trajectory = Trajectory(
        np.arange(records) * 10.0 + 0.5,
        numbers(records, ndim, seed=1),
        np.abs(numbers(records, seed=2)),
        np.abs(numbers(records, seed=3)),
        {"loss": numbers(records, seed=4), "val/acc": np.full(records, np.nan)},
        {"loss": np.array([np.inf, -0.0, 5e-324, np.nan])[:records]},
        {"lr": numbers(records, seed=5), "val_acc": numbers(records, seed=6), "val/acc": numbers(records, seed=7)},
        {"step": np.arange(9.0), "norm": numbers(9, seed=8), "record": numbers(9, seed=9), "精度": np.zeros(9)},
        np.array([20.0, 40.0]),
        np.arange(records) != 2,
    )
    return landscape


def with_spectrum() -> Landscape:
    """Every number of a spectrum, hard ones among them, a density of uneven probes, and a bare block."""
    landscape = lopsided()
    block = Spectrum(7, np.array([0.1 + 0.2]), np.array([5e-324]))
    landscape.spectrum = Spectrum(
        53, np.array([3.0, -0.0, np.inf]), numbers(3), -0.25, 1e-9, 1.5, np.nan,
        (numbers(4, seed=1), numbers(2, seed=2)), (numbers(4, seed=3), numbers(2, seed=4)), 0.5, 1e-3, -2.0, 3e-9,
        "double backward", 37, 256, 42, {"net.0": block, "$": block},
    )  # fmt: skip
    return landscape


def with_bare_path() -> Landscape:
    landscape = with_path()
    landscape.trajectory = Trajectory(np.zeros(1), np.zeros((1, 2)), np.zeros(1), np.zeros(1))
    return landscape


def named(*names: str) -> Landscape:
    """One metric a name, the last one the main loss, every second one with a standard error."""
    grid = Grid.from_ranges((-1, 1, 3), (-1, 1, 2))
    values = {name: numbers(3, 2, seed=i) for i, name in enumerate(names)}
    errors = {name: numbers(3, 2, seed=100 + i) for i, name in enumerate(names) if i % 2}
    return Landscape(grid, values, names[-1], errors)


def with_meta(**meta: Any) -> Landscape:
    return Landscape(Grid.from_ranges((-1, 1, 2), (0, 1, 2)), {"loss": np.eye(2)}, "loss", meta=meta)


CASES: dict[str, Callable[[], Landscape]] = {
    "lopsided": lopsided,
    "interpolated": spared,
    "odd floats": odd_floats,
    "1-D": lambda: of_one_axis(1),
    "2-D": lambda: of_one_axis(2),
    "3-D": lambda: of_one_axis(3),
    "4-D": lambda: of_one_axis(4),
    "nothing done": lambda: Landscape.empty(Grid.from_ranges((-1, 1, 3), (0, 1, 2)), ["loss"], "loss"),
    "samples": with_samples,
    "path": with_path,
    "path on a line": lambda: with_path(1),
    "path in a volume": lambda: with_path(3),
    "path of one record": with_bare_path,
    "spectrum": with_spectrum,
    "no sample in samples": lambda: Landscape(
        Grid.from_ranges((-1, 1, 2)), {"loss": np.zeros(2)}, "loss", samples=Samples(np.zeros((0, 2)), ())
    ),
    "reserved names": lambda: named(
        *(
            "done",
            "interpolated",
            "xcoordinates",
            "ycoordinates",
            "axis3coordinates",
            "samples",
            "standard_errors",
            "center",
        ),
        *("header", "file", "metrics", "format", "main", "meta", "values", "index", "arr_0", "allow_pickle"),
    ),
    "names of paths": lambda: named("a/b", "a_b", "/", "a//b", ".", "..", "a.npy", "a", "a/", "A", "", " ", "_"),
    "unicode names": lambda: named("Verlust θ*", "精度", "🙂", "é", "e\u0301", "new\nline", "x" * 300),
    "nested meta": lambda: with_meta(
        nested={"a": [1, 2.5, None, True, {"b": []}], "": {}},
        text='quote " back \\ \0 θ \ud800',
        **{"main": "a clash", "a/b": 1, "θ\0": "x", "long" * 100: 1, "nothing": None},
        big=2**80,
        float=0.1 + 0.2,
    ),
    "meta of odd floats": lambda: with_meta(a=float("nan"), b=[float("inf"), -float("inf")], c=-0.0),
    "long meta": lambda: with_meta(text="x" * 200_000, **{f"key{i}": i for i in range(500)}),
    "single precision": lambda: Landscape(
        Grid.from_ranges((-1, 1, 2), (0, 1, 2)),
        {"loss": np.array([[0.1, 2], [np.nan, -1e30]], dtype=np.float32)},
        "loss",
    ),
    "types": lambda: Landscape(
        Grid.from_ranges((-1, 1, 2), (0, 1, 2)),
        {t: np.array([[0, 1], [100, 3]], dtype=t) for t in ("<f2", ">f8", "i1", "<u8", ">i4")}
        | {"most": np.array([[2**64 - 1, 0], [1, 2**53 + 1]], dtype=np.uint64)},
        "most",
    ),
}


def exact(value: Any) -> Any:
    """A spectrum's fields, so that repr tells every bit and type."""
    if isinstance(value, dict):
        return {name: exact(vars(part) if isinstance(part, Spectrum) else part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


def bits(landscape: Landscape) -> dict[str, Any]:
    """Everything that a landscape holds, so that == compares bit by bit, types and order included."""

    def array(a: np.ndarray) -> tuple[Any, ...]:
        same = a.copy()
        if a.dtype.kind == "f":
            same[np.isnan(a)] = np.nan  # a NaN has many bits, and one word in text
        return a.dtype.str, a.shape, same.tobytes()

    samples = landscape.samples
    return {
        "axes": [array(axis) for axis in landscape.grid.axes],
        "values": [(name, *array(a)) for name, a in landscape.values.items()],
        "errors": [(name, *array(a)) for name, a in landscape.standard_errors.items()],
        "center": {name: np.float64(c).tobytes() for name, c in landscape.center.items()},
        "main": landscape.main,
        "done": array(landscape.done),
        "interpolated": array(landscape.interpolated),
        # NaN is itself, -0.0 is not 0.0, True is not 1
        "words": repr([landscape.recipe, landscape.report, landscape.meta]),
        "samples": samples and array(samples.values),
        "items": samples and [repr(item) for item in samples.items],
        "path": landscape.trajectory
        and {
            name: array(value) if isinstance(value, np.ndarray) else [(n, *array(a)) for n, a in value.items()]
            for name, value in vars(landscape.trajectory).items()
        },
        "spectrum": landscape.spectrum and repr(exact(vars(landscape.spectrum))),
        "pictures": samples and [i.thumbnail is not None and array(i.thumbnail) for i in samples.items],
    }


@pytest.fixture(params=CASES)
def landscape(request: pytest.FixtureRequest) -> Landscape:
    """Each of the landscapes that are hard to keep."""
    return CASES[request.param]()


@pytest.fixture(name="lopsided")
def _lopsided() -> Landscape:
    return lopsided()


@pytest.fixture(name="with_samples")
def _with_samples() -> Landscape:
    return with_samples()


@pytest.fixture(name="with_path")
def _with_path() -> Landscape:
    return with_path()


@pytest.fixture(name="bits")
def _bits() -> Callable[[Landscape], dict[str, Any]]:
    return bits
