"""The interface of PascalSun's LossLandscape over ours: `sample_landscape`, `LossLandscapeWriter`, and their JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from .arguments import check_word
from .directions import KINDS, PCA, Directions, Site, make_directions, random_walk_shares, recipe
from .evaluators import evaluate
from .evaluators.modes import MODES as MODEL_MODES
from .isolation.module_copy import module_copy
from .isolation.rng import preserved
from .landscape import Landscape
from .local_paths import local_path
from .loss_landscape import LossLandscape
from .objectives.base import LossFunction
from .objectives.criterion import frozen_batches, objective_of
from .paths.recorder import Recorder
from .spectrum import Spectrum
from .storage import write_whole
from .storage.codec import to_arrays
from .trajectory import Trajectory
from .weights.parameters import Params, Snapshot
from .weights.plane import Plane

log = logging.getLogger(__name__)
MODES = ("1d", "2d", "3d", "1d+2d")
Loss = Callable[..., Any]


def sample_landscape(
    model: nn.Module,
    data_loader: Iterable[Any],
    loss_fn: Callable[..., Any],
    output_path: str | PathLike = "./landscape.json",
    *,
    grid_size: int = 50,
    range_scale: float | None = None,
    mode: str = "2d",
    seed: int = 42,
    **options: Any,
) -> str:
    """Measure one landscape and write it as JSON; gives the file's path.

    Args:
        model, data_loader, loss_fn, grid_size, range_scale, mode, options: as in
            `LossLandscapeWriter.sample_landscape`.
        output_path: the file.
        seed: of the directions, of the order of the loader, and of the random numbers that all points share.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> loader = DataLoader(TensorDataset(torch.randn(8, 2), torch.randn(8, 1)), batch_size=4)
    >>> loss = lambda model, inputs, targets: nn.functional.mse_loss(model(inputs), targets)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = sample_landscape(nn.Linear(2, 1), loader, loss, f"{folder}/landscape.json", grid_size=5)
    ...     content = json.loads(Path(path).read_text())
    >>> np.shape(content["loss_grid_2d"]), content["X"][0][0], content["X"][4][0]
    ((5, 5), -0.1, 0.1)
    """
    path = local_path("output_path", output_path)
    writer = LossLandscapeWriter(path.parent, seed=seed, auto_export=False)
    writer.sample_landscape(
        model, data_loader, loss_fn, grid_size=grid_size, range_scale=range_scale, mode=mode, **options
    )
    return writer.export(path)


class LossLandscapeWriter:
    """Landscapes and the path of a training in one JSON file, ``<log_dir>/landscape.json``.

    Args:
        log_dir: the folder; it is made.
        seed: of the directions, of the order of the loaders, and of the random numbers that all points share.
        auto_export: write the file in `close`.

    The file holds:

    - of a plane ``X``, ``Y`` and ``loss_grid_2d``; ``X[i][j]`` is the coordinate of ``loss_grid_2d[i][j]`` along x
    - of a line ``X_1d`` and ``loss_line_1d``
    - of a volume ``volume_x``, ``volume_y``, ``volume_z`` and ``loss_grid_3d``
    - ``baseline_loss``, ``grid_size``, ``mode``, ``trajectory_data``
    - ``hessian`` with ``epochs``, ``max_eigenvalue``, ``trace`` and ``top_eigenvalues``
    - ``metadata``, the recipe of each

    A number that is not finite is null.
    """

    def __init__(self, log_dir: str | PathLike, seed: int = 42, auto_export: bool = True) -> None:
        self.log_dir, self.seed, self.auto_export = local_path("log_dir", log_dir), seed, auto_export
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.recorder = Recorder()
        self.landscapes: dict[int, Landscape] = {}
        self.trajectory: Trajectory | None = None
        self.spectra: dict[int, Spectrum] = {}
        self._plane: Plane | None = None
        self._path_recipe: dict[str, Any] = {}

    def sample_landscape(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        loss_fn: Callable[..., Any] | None = None,
        *,
        grid_size: int = 50,
        range_scale: float | None = None,
        mode: str = "2d",
        directions: Sequence[Params] | None = None,
        direction_mode: str | None = None,
        regularizer: Callable[[nn.Module], Any] | None = None,
        regularizer_weight: float = 1.0,
        custom_loss_fn: Callable[..., Any] | None = None,
        model_mode: str = "eval",
        max_batches: int | None = 10,
        pre_batch_hook: Callable[[Any], Any] | None = None,
        post_batch_hook: Callable[[Any, Any, Any], Any] | None = None,
        device: torch.device | str | None = None,
        optimizers: Optimizer | Sequence[Optimizer] = (),
    ) -> dict[str, Any]:
        """Measure the loss around the model, which is not changed, on the same batches at every point.

        Args:
            model: the module.
            data_loader: gives pairs (inputs, targets).
            loss_fn: ``(model, inputs, targets) -> loss``, a mean over the samples; or a loss module.
            grid_size: points along each direction.
            range_scale: how far to go along random directions, in shares of each filter's norm; None for 0.1.
                PCA directions have length 1: None reaches a fifth beyond the recorded path.
            mode: "1d", "2d", "3d", or "1d+2d" for a line and the plane that holds it.
            directions: of an earlier `get_directions`, in place of new ones.
            direction_mode: "random", "pca", "gradient", "update", "mixed" or "hessian"; None for "pca" if
                `build_trajectory` has been called with it, else "random".
            regularizer: ``model -> scalar``, added to the loss with `regularizer_weight`.
            regularizer_weight: λ.
            custom_loss_fn: another name for `loss_fn`.
            model_mode: "eval" or "train", as the mode of `LossLandscape`.
            max_batches: how many batches to take; None for all.
            pre_batch_hook: what a batch goes through before it is frozen.
            post_batch_hook: ``(outputs, inputs, targets) -> loss``, in place of `loss_fn`.
            device: where to measure; None for the model's own.
            optimizers: those that train the model, for "update".

        Returns:
            What the file will hold of these landscapes.

        Raises:
            ValueError: for an unknown mode, a wrong `grid_size` or `range_scale`, no loss, or PCA without enough
                recorded weights.
        """
        check_word("mode", mode, MODES)
        _check_size(grid_size, range_scale)
        check_word("model_mode", model_mode, MODEL_MODES)
        if direction_mode is None:
            direction_mode = "pca" if self._path_recipe.get("kind") == "pca" else "random"
        check_word("direction_mode", direction_mode, tuple(KINDS))
        loss = _loss(custom_loss_fn or loss_fn, post_batch_hook, regularizer, regularizer_weight)
        net = model if device is None else module_copy(model, {}).to(device)
        loader = data_loader if pre_batch_hook is None else map(pre_batch_hook, data_loader)
        landscape = LossLandscape(
            net, loader, loss, surf_file=self.log_dir / "landscape.json", seed=self.seed, max_batches=max_batches,
            mode=model_mode,  # type: ignore[arg-type]
            records=self.recorder.weights, optimizers=optimizers,
        )  # fmt: skip
        kind = (
            make_directions(direction_mode, seed=self.seed, max_samples=None)
            if directions is None
            else _given(directions)
        )
        for part in mode.split("+"):
            k = int(part[0])
            scale = 0.1 if range_scale is None else range_scale  # of the norm of each filter
            ranges = [(-scale, scale, grid_size)] * k
            if isinstance(kind, PCA) and range_scale is None:
                site = Site.at(Snapshot.of(net), net, None, [], records=self.recorder.weights)
                ranges = self._around_path(Plane(site.params, kind(site, k)), grid_size)
            names = ("xrange", "yrange", "zrange")[:k]
            compute = (landscape.compute_1d, landscape.compute_2d, landscape.compute_3d)[k - 1]
            compute(**dict(zip(names, ranges, strict=True)), directions=kind, save=False)  # type: ignore[arg-type]
            self.landscapes[k] = landscape.landscape
            if k > 1 or self._plane is None:
                self._plane = landscape.plane
        return self._content()

    def record_checkpoint(
        self, model: nn.Module, epoch: int, train_loss: float | None = None, val_loss: float | None = None
    ) -> None:
        """Keep the model's weights of an epoch, and its losses where they are known; the model is only read."""
        self.recorder.record(model, epoch, train_loss=train_loss, val_loss=val_loss)

    def record_hessian(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        loss_fn: Callable[..., Any],
        epoch: int,
        *,
        top_k: int = 5,
        max_batches: int | None = 10,
    ) -> Spectrum:
        """Measure the Hessian of the loss at the model's weights, for the file's ``hessian``; gives its spectrum.

        Args:
            model: the module; it is not changed.
            data_loader, loss_fn, max_batches: as in `sample_landscape`.
            epoch: of the weights; a second measurement of an epoch takes the place of the first.
            top_k: the number of the largest eigenvalues.

        Raises:
            ValueError: if `top_k` is less than 1, or the loss has no Hessian that could be proved.
        """
        landscape = LossLandscape(model, data_loader, loss_fn, seed=self.seed, max_batches=max_batches)
        self.spectra[epoch] = landscape.hessian(top_k)
        return self.spectra[epoch]

    def build_trajectory(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        loss_fn: Callable[..., Any],
        *,
        mode: str = "pca",
        directions: Sequence[Params] | None = None,
        max_batches: int | None = 10,
    ) -> dict[str, Any]:
        """Project the recorded weights onto a plane through the model, which is at the origin.

        Losses that were not recorded are measured.

        Args:
            model: the final model.
            data_loader: as in `sample_landscape`, for losses that were not recorded.
            loss_fn: the same.
            mode: "pca": the directions in which the weights moved most, also for landscapes sampled later;
                "fixed": `directions`, or those of the landscape sampled last.
            directions: for "fixed".
            max_batches: as in `sample_landscape`.

        Returns:
            The file's ``trajectory_data``.

        Raises:
            ValueError: if nothing was recorded, or too little for PCA, or there are no directions for "fixed".
        """
        check_word("mode", mode, ("pca", "fixed"))
        if not self.recorder.weights:
            raise ValueError("Nothing was recorded: call record_checkpoint(model, epoch) during the training.")
        snapshot = Snapshot.of(model)
        k = min(3, max(2, len(self.recorder.weights) - 1))
        if mode == "pca":
            pca = PCA(self.recorder.weights)
            try:
                plane = Plane(snapshot.params, pca(snapshot, k))
            except ValueError:
                if k == 2:
                    raise
                plane = Plane(snapshot.params, pca(snapshot, 2))
            walk = random_walk_shares(len(self.recorder.weights), plane.ndim).tolist()
            self._path_recipe = {**recipe(pca), "random_walk": walk}
        else:
            fixed = directions if directions is not None else self.get_directions()
            if fixed is None:
                raise ValueError("mode='fixed' needs directions: give them, or call sample_landscape first.")
            plane = Plane(snapshot.params, tuple(fixed))
            self._path_recipe = {"kind": "fixed"}
        self.trajectory = self.recorder.trajectory(plane)
        self._measure_unknown(model, data_loader, loss_fn, max_batches)
        return self._trajectory_data()

    def get_directions(self) -> tuple[Params, ...] | None:
        """The directions of the last plane or volume, for a model of the same architecture; None before."""
        return None if self._plane is None else self._plane.directions

    def export(self, output_path: str | PathLike | None = None) -> str:
        """Write the JSON file, whole or not at all; gives its path.

        Raises:
            ValueError: if there is nothing to write yet.
        """
        path = self.log_dir / "landscape.json" if output_path is None else local_path("output_path", output_path)
        content = self._content()
        if not content:
            raise ValueError(
                "There is nothing to export yet: call sample_landscape, build_trajectory or record_hessian first."
            )
        directions = [landscape.recipe.directions for landscape in self.landscapes.values()]
        kinds = {recipe.kind for recipe in directions if recipe is not None}
        if self._path_recipe.get("kind") == "pca" and kinds - {"pca"}:
            log.warning(
                "The path lies on its PCA directions, a landscape does not: call build_trajectory before "
                "sample_landscape, or with mode='fixed'."
            )
        return str(write_whole(path, json.dumps(content, allow_nan=False).encode()))

    def close(self) -> None:
        """Write the file, if there is anything to write and `auto_export` says so."""
        if self.auto_export and self._content():
            self.export()

    def __enter__(self) -> LossLandscapeWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _around_path(self, plane: Plane, size: int, margin: float = 0.2) -> list[tuple[float, float, int]]:
        """Ranges that hold the recorded path and the origin, and a margin: a share of their extent."""
        points = self.recorder.trajectory(plane).points
        low, high = np.minimum(points.min(axis=0), 0), np.maximum(points.max(axis=0), 0)
        pad = margin * (high - low)
        return [(float(a), float(b), size) for a, b in zip(low - pad, high + pad, strict=True)]

    def _measure_unknown(self, model: nn.Module, loader: Iterable[Any], loss_fn: Loss, max_batches: int | None) -> None:
        """Measure the losses that were not recorded, on the same batches."""
        assert self.trajectory is not None
        losses = self.trajectory.metrics["train_loss"]
        unknown = np.flatnonzero(np.isnan(losses))
        if not len(unknown):
            return
        with preserved():
            device = next(model.parameters()).device
            objective, _ = objective_of(loss_fn, device.type == "cuda")
            batches = frozen_batches(objective, loader, device, self.seed, max_batches)
        for i in unknown:
            params = {name: tensor.to(device) for name, tensor in self.recorder.weights[int(i)].items()}
            still = Plane(params, ({name: torch.zeros_like(tensor) for name, tensor in params.items()},))
            measured = evaluate(objective, model, still, np.zeros((1, 1)), batches, seed=self.seed)
            losses[i] = measured[objective.main(list(measured))][0]

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {}
        line, surface, volume = (self.landscapes.get(k) for k in (1, 2, 3))
        if volume is not None:
            x, y, z = np.meshgrid(*volume.grid.axes, indexing="ij")
            content |= {"X": x, "Y": y, "Z": z, "loss_grid_3d": volume.loss}
            content |= {f"volume_{letter}": axis for letter, axis in zip("xyz", volume.grid.axes, strict=True)}
        if surface is not None:
            x, y = np.meshgrid(*surface.grid.axes, indexing="ij")
            content |= {"X": x, "Y": y, "loss_grid_2d": surface.loss}
        if line is not None:
            content |= {"X_1d": line.grid.axes[0], "loss_line_1d": line.loss, "grid_size_1d": line.grid.size}
            content["baseline_loss_1d"] = line.center[line.main]
        main = next((landscape for landscape in (surface, volume, line) if landscape is not None), None)
        if main is not None:
            content |= {"baseline_loss": main.center[main.main], "grid_size": main.grid.shape[0]}
            content["mode"] = "+".join(f"{k}d" for k in sorted(self.landscapes))
        if self.trajectory is not None:
            content["trajectory_data"] = self._trajectory_data()
        if self.spectra:
            content["hessian"] = _hessian(self.spectra)
        if content:
            content["metadata"] = {f"landscape_{k}d": to_arrays(self.landscapes[k])[0] for k in sorted(self.landscapes)}
            content["metadata"]["trajectory"] = self._path_recipe
        return {key: plain(value) for key, value in content.items()}

    def _trajectory_data(self) -> dict[str, Any]:
        path = self.trajectory
        assert path is not None
        columns = {f"traj_{i + 1}": column for i, column in enumerate(path.points.T)}
        known = {"losses": path.metrics["train_loss"], "val_losses": path.metrics["val_loss"]}
        known = {name: column for name, column in known.items() if not np.isnan(column).all()}
        facts = {"epochs": path.steps, "residuals": path.residuals, "distances": path.distances}
        return {key: plain(value) for key, value in {**columns, **facts, **known}.items()}


def _hessian(spectra: Mapping[int, Spectrum]) -> dict[str, Any]:
    """The file's ``hessian``: one entry an epoch, in ascending order."""
    epochs = sorted(spectra)
    return {
        "epochs": epochs,
        "max_eigenvalue": [spectra[epoch].largest for epoch in epochs],
        "trace": [spectra[epoch].trace for epoch in epochs],
        "top_eigenvalues": [spectra[epoch].eigenvalues for epoch in epochs],
    }


def _loss(
    loss: Loss | None, hook: Callable[..., Any] | None, regularizer: Callable[[nn.Module], Any] | None, weight: float
) -> Loss:
    """One criterion of a loss, or the hook in its place, and a regulariser."""
    if hook is not None:
        loss = lambda model, inputs, targets: hook(model(inputs), inputs, targets)  # noqa: E731
    if loss is None:
        raise ValueError("loss_fn=None and custom_loss_fn=None: give one of them.")
    if regularizer is None:
        return loss
    of_model = isinstance(objective_of(loss)[0], LossFunction)

    def regularized(model: nn.Module, inputs: object, targets: object) -> Any:
        data_loss = loss(model, inputs, targets) if of_model else loss(model(inputs), targets)
        return data_loss + weight * regularizer(model)

    return regularized


def _given(directions: Sequence[Params]) -> Directions:
    def given(snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        if len(directions) < k:
            raise ValueError(f"directions holds {len(directions)}, a {k}-D landscape needs {k}.")
        return tuple({n: t.to(snapshot.params[n].device) for n, t in d.items()} for d in directions[:k])

    return given


def plain(value: object) -> Any:
    """A value as JSON knows it: arrays as lists, what is not finite as None.

    >>> plain({"x": np.array([1.0, np.inf])})
    {'x': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _check_size(grid_size: object, range_scale: float | None) -> None:
    """Raises ValueError if there are fewer than 2 points along a direction, or these reach nowhere."""
    if isinstance(grid_size, bool) or not isinstance(grid_size, int) or grid_size < 2:
        raise ValueError(f"grid_size={grid_size!r}: give the points along each direction, at least 2.")
    if range_scale is not None and not 0 < range_scale < np.inf:
        raise ValueError(f"range_scale={range_scale!r}: give how far to go, more than 0, or None.")
