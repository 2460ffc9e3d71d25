"""The floors: what may import what, which file alone knows a library, and what an import costs."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
import textwrap
import traceback
import typing
from functools import cache
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, TensorDataset

import lightning_landscape

from ._formula import callback, train
from ._steps import BATCH, Automatic, X, Y

ROOT = Path(lightning_landscape.__file__).parent
PACKAGE = "lightning_landscape"

# From the ground up; an import may only point down, or stay on its floor.
FLOORS = {
    "values": {
        "version", "recipe", "report", "topology", "trajectory", "landscape", "scalars", "local_paths", "interpolation",
        "arguments", "storage", "loggers", "plots", "output", "phases", "reading", "redraw", "notebook", "summary",
        "barrier_matrix", "comparison", "spectrum", "sharpness",
    },
    "torch core": {
        "weights", "isolation", "objectives", "directions", "evaluators", "accelerations", "survey", "paths",
        "loss_landscape", "writer", "alignment", "curvature",
    },
    "Lightning": {"trainer", "distributed"},
    "callback, CLI": {"callback", "sharpness_monitor", "cli", "models"},
}  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(FLOORS.values()) for room in rooms}

# Libraries beside the standard library: the lowest floor that may know them.
LIBRARIES = {
    **dict.fromkeys(["numpy", "matplotlib", "mpl_toolkits", "PIL", "h5py", "msgspec", "wandb"], 0),
    **dict.fromkeys(["tensorboard", "plotly", "vtkmodules", "skimage", "imageio_ffmpeg"], 0),
    **dict.fromkeys(["torch", "curvlinops", "lightning_utilities"], 1),  # the last knows neither torch nor Lightning
    **dict.fromkeys(["tqdm", "xxhash", "scipy"], 1),
    "IPython": 0,
    **dict.fromkeys(["lightning", "pytorch_lightning", "torchmetrics", "rich"], 2),
    **dict.fromkeys(["torchvision", "sklearn", "jsonargparse"], 3),
}
# Libraries that one room alone may know.
HOMES = {
    "h5py": "storage",
    "msgspec": "storage",
    "matplotlib": "plots",
    "mpl_toolkits": "plots",
    "PIL": "plots",
    "vtkmodules": "storage",
    "skimage": "plots",
    "imageio_ffmpeg": "plots",
    "wandb": "loggers",
    "torchvision": "models",
    "sklearn": "models",
    "xxhash": "weights",
    "scipy": "alignment",
}
# Private names of other libraries than Lightning, which have no public way: torch, torchmetrics, matplotlib, os.
FOREIGN_PRIVATE = {
    "_version",
    "_orig_mod",
    "_torchdynamo_orig_callable",
    "_to_sync",
    "_axinfo",
    "_get_fsdp_state",
    "_get_iterator",
    "_indices",
    "_values",
    "_schema",
    "_exit",
    "_add_batch_dim",
    "_parameters",  # tables of nn.Module and hooks of tensors
    "_buffers",
    "_backward_hooks",
    "_forward_pre_hooks",
    "_c",
    "_type",
    "_post_accumulate_grad_hooks",
    "_getframe",  # of sys
    "_normal_accessor",  # of pathlib in Python 3.10
    "_distributed_c10d",  # of torch.distributed, which has no public way to stand for one process
    "_create_work_from_future",
    "_dispatch_get_all_op_names",
    "_op_dk",
    "_world",
    "_fields",  # of named tuples, whose public names these are
    "_replace",
    "_maybe_set_eval_frame",
}

# Imports within functions alone, of rooms that import each other: a landscape and a spectrum draw themselves, and
# pictures are of them.
LATE = {"landscape": {"plots"}, "spectrum": {"plots"}}
COMPAT = "trainer/compat.py"  # the one file that knows private names of Lightning
FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """The room of a file: its folder, or its own name."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, anywhere in it, by absolute name."""
    package = [PACKAGE, *path.relative_to(ROOT).parts[:-1]]
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return tuple(found)


def rooms_imported(path: Path) -> set[str]:
    own = [name.split(".")[1] for name in imports(path) if name.startswith(f"{PACKAGE}.")]
    return {room for room in own if not room.startswith("__")}  # `__version__` is the package's own


files = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_the_imports_are_read_as_they_are():
    """The test below tests nothing if this is wrong."""
    assert f"{PACKAGE}.isolation.rng.seed_streams" in imports(ROOT / "evaluators" / "sequential.py")
    assert f"{PACKAGE}.directions.ignore.ignored_names" in imports(ROOT / "directions" / "random.py")
    assert "torch.nn" in imports(ROOT / COMPAT)
    assert "trainer" in rooms_imported(ROOT / "callback.py")
    assert "evaluators" in rooms_imported(ROOT / "trainer" / "measure.py")


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms - LEVEL.keys() == set(), "give the new room a floor in FLOORS"


def test_the_page_of_the_rooms_has_each_of_them():
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {f"{room}/" if (ROOT / room).is_dir() else f"{room}.py" for room in LEVEL}
    assert {room for room in rooms if room not in page} == set()


def test_no_rooms_import_each_other_in_a_circle():
    arrows = {room: set() for room in LEVEL}
    for path in FILES:
        room = room_of(path)
        arrows.setdefault(room, set()).update(rooms_imported(path) - {room} - LATE.get(room, set()))
    arrows.pop("__init__")
    order = []
    while free := {room for room, others in arrows.items() if not others - set(order)} - set(order):
        order += sorted(free)
    assert set(arrows) - set(order) == set(), "these rooms import each other"


def test_what_is_imported_late_is_imported_within_functions():
    for room, others in LATE.items():
        top = {node.module for node in tree(ROOT / f"{room}.py").body if isinstance(node, ast.ImportFrom)}
        assert top & {"report", "dataclasses"}
        assert not top & others


@files
def test_an_import_only_points_down(path):
    room = room_of(path)
    if room != "__init__":
        upwards = {other for other in rooms_imported(path) if LEVEL[other] > LEVEL[room]}
        assert not upwards


@files
def test_a_file_knows_the_libraries_of_its_floor_only(path):
    room = room_of(path)
    level = 0 if room == "__init__" else LEVEL[room]
    libraries = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - {PACKAGE}
    assert libraries <= LIBRARIES.keys(), "give the new library a floor in LIBRARIES"
    assert {lib for lib in libraries if LIBRARIES[lib] > level} == set()


@files
def test_a_library_has_one_home(path):
    libraries = {name.partition(".")[0] for name in imports(path)}
    astray = {lib for lib in libraries & HOMES.keys() if HOMES[lib] != room_of(path)}
    assert not astray


@pytest.mark.parametrize("library, file", [("h5py", "storage/hdf5.py"), ("vtkmodules", "storage/vtp.py")])
def test_a_library_of_one_format_is_known_by_one_file(library, file):
    assert [name_of(p) for p in FILES if any(n.partition(".")[0] == library for n in imports(p))] == [file]


def private_names(path: Path) -> set[str]:
    """Private attributes that a file reads or sets on anything but self and cls, also by their text."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "torch")
            found |= set() if own else {node.attr}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            found |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_compat_is_where_the_private_names_of_lightning_are():
    assert private_names(ROOT / COMPAT) >= {
        "_batches_that_stepped",
        "_combined_loader",
        "_compiler_ctx",
        "_data_source",
        "_extract_batch_size",
        "_mode",
    }


def own_names(path: Path) -> set[str]:
    """The names that a file itself defines: functions, classes, attributes of self, entries of a class's dict."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if isinstance(node.value, ast.Name) and node.value.id == "self" else set()
        elif isinstance(node, ast.Dict):
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return found


@files
def test_private_names_of_lightning_stay_in_compat(path):
    if name_of(path) != COMPAT:
        astray = private_names(path) - own_names(path)
        assert not astray & private_names(ROOT / COMPAT)
        assert astray <= FOREIGN_PRIVATE  # nor any other private name of a foreign object


@files
def test_every_file_says_what_it_is(path):
    text = ast.get_docstring(tree(path))
    assert text
    assert text.splitlines()[0].endswith((".", ":")), "the first line is a sentence"


def is_bare(path: Path) -> bool:
    """True for the first file of a room that only says what is in it."""
    return path.name == "__init__.py" and len(tree(path).body) == 1


PACKAGES = [
    ".".join([PACKAGE, *p.parent.relative_to(ROOT).parts]) for p in FILES if p.name == "__init__.py" and not is_bare(p)
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_is_documented(package):
    module = importlib.import_module(package)
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert name in dir(module)
        if (inspect.isclass(value) and not typing.get_origin(value)) or inspect.isfunction(value):
            text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
            assert text, name
            assert not text.startswith(f"{name}("), f"{name} has only the docstring that @dataclass writes"


def test_an_unknown_public_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"has no attribute 'Landscpe'; it has: .*Landscape"):
        lightning_landscape.Landscpe  # noqa: B018


# what an import costs


def run(code: str) -> str:
    """The output of a fresh python; warnings are errors there too."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:lightning_landscape", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    loaded = run("import sys, lightning_landscape; dir(lightning_landscape); print('\\n'.join(sys.modules))").split()
    heavy = {"torch", "lightning", "pytorch_lightning", "matplotlib", "h5py", "tensorboard", "numpy", "torchvision"}
    assert heavy & set(loaded) == set()


def test_the_values_need_numpy_alone():
    loaded = run("import sys; from lightning_landscape import Grid, Landscape; print('\\n'.join(sys.modules))").split()
    assert "numpy" in loaded
    assert {"torch", "lightning", "pytorch_lightning", "matplotlib", "h5py", "tensorboard"} & set(loaded) == set()


def test_the_torch_core_needs_no_lightning():
    loaded = run(
        """
        import sys
        from lightning_landscape import Plane, Random, Snapshot, evaluate
        print('\\n'.join(sys.modules))
        """
    ).split()
    assert "torch" in loaded
    assert {"lightning", "pytorch_lightning", "matplotlib", "h5py", "tensorboard", "torchvision"} & set(loaded) == set()


def test_the_ground_floor_works_without_torch(tmp_path):
    output = run(
        f"""
        import sys
        for name in ("torch", "lightning", "pytorch_lightning", "lightning_utilities", "torchvision", "torchmetrics"):
            sys.modules[name] = None  # as if it were not installed
        import numpy as np
        from lightning_landscape import Grid, Landscape, Sample, Samples, Trajectory, load, save
        from lightning_landscape.landscape import equal
        from lightning_landscape.loggers import Shown, log
        from lightning_landscape.plots import PLOTS, to_image
        from lightning_landscape.output import Look, put_out

        grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 4))
        values = (grid.points**2).sum(axis=1).reshape(grid.shape)
        samples = Samples(np.stack([values, values + 1]), (Sample(0, 0.0), Sample(1, 1.0)))
        landscape = Landscape(grid, {{"loss": values}}, "loss", samples=samples, center={{"loss": 0.0}})
        for suffix in ("h5", "npz", "json"):
            assert equal(load(save(landscape, rf"{tmp_path}/a.{{suffix}}")), landscape)
        landscape.trajectory = Trajectory(np.arange(3.0), np.eye(3, 2), np.zeros(3), np.array([1.0, 1.0, 0.0]))
        assert len(landscape.film(frames=2)) == 2
        images = {{kind: to_image(p.draw(landscape), dpi=20) for kind, p in PLOTS.items() if p.draws(landscape)}}
        log([object()], Shown(images, {{"relief": landscape.relief()}}, landscape), step=1)
        assert put_out(landscape, Look(plots=("contour",), formats=()), None).for_loggers.images
        print(*images)
        """
    )
    assert {"contour", "surface", "slices", "tiles", "path"} <= set(output.split())


class Frames:
    """The frames of ours that lie above a call; in slots, which no measured step is put back in."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: set[tuple[str, ...]] = set()

    def note(self) -> None:
        stack = [(frame.f_code.co_filename, frame.f_code.co_name) for frame, _ in traceback.walk_stack(None)]
        self.seen.add(tuple(name for file, name in stack if file.startswith(f"{ROOT}{os.sep}")))


@pytest.mark.parametrize("accelerate", [False, True])
def test_few_frames_of_ours_lie_between_the_hook_and_the_step(tmp_path, accelerate):
    frames = Frames()

    class Net(Automatic):
        def training_step(self, batch, batch_idx):
            frames.note()
            return super().training_step(batch, batch_idx)

    own = callback(accelerate=accelerate)
    train(Net(), [DataLoader(TensorDataset(X, Y), BATCH)], [own], tmp_path)
    points = [names for names in frames.seen if "fill" in names and "_rehearse" not in names]
    assert points
    assert max(map(len, points)) == 8, points
