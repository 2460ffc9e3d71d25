"""LossLandscape: landscapes of a plain `nn.Module`, without a Trainer."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from .accelerations import check_accelerate
from .arguments import check_word
from .comparison import Comparison, on_one_surface
from .curvature import CurvatureSettings, hessian_curvature
from .directions import KINDS, Between, Directions, Joined, Site, checked_directions, facts_of, make_directions
from .directions.between import Weights, check_frozen
from .evaluators import Sequential
from .evaluators.modes import BATCH_NORMS, MODES, Flags, put_in_mode, training_flags
from .interpolation.refinement import check_tolerance
from .isolation.effects import one_pass
from .isolation.rng import preserved
from .landscape import Grid, Landscape
from .local_paths import local_path
from .objectives.base import Batch, CannotMeasureError, Objective
from .objectives.criterion import ACCURACY, LOSS, Unspoilt, copy_together, frozen_batches, objective_of, population_of
from .objectives.touched import Rehearsed, Touched
from .paths.bezier import Bezier
from .paths.project import Recorded
from .paths.runs import Run, SharedPlane, move, ranges_of_paths, weights_of_run, with_losses
from .plots import PLOTS, Figures, encode_picture, show_figure
from .reading import span_sentence
from .recipe import DirectionsRecipe, Recipe
from .spectrum import Spectrum
from .storage import EXPORTS, FORMATS, export_paraview, load, write_whole
from .storage.layout import data_set_names
from .survey import surface_file
from .survey.find_range import AUTO, ranges_of, sentence
from .survey.plain import TOUCHES_ORIGINALS, survey_module
from .survey.recipe import directions_recipe, versions
from .survey.surface_file import SurfaceFile
from .weights.parameters import Params, Snapshot, checksum
from .weights.plane import Plane

log = logging.getLogger(__name__)
DIR_TYPES = ("weights", "states")
Range = tuple[float, float, int] | tuple[Literal["auto"], int] | Literal["auto"]


class LossLandscape:
    """The loss landscape around the weights of a plain PyTorch module (Li et al. 2018).

    The net is never changed: a copy of it is moved. The data are read once, when the first landscape is computed, and
    every point is measured on the same batches.

    Args:
        net: the module.
        dataloader: gives batches; pairs (inputs, targets) for a loss module.
        criterion: a loss module or function of (outputs, targets); ``(model, inputs, targets) -> loss``, a tensor
            or a mapping of names to tensors; or ``(net, dataloader, use_cuda) -> dict`` of metrics. None for
            `nn.CrossEntropyLoss`. Which one it is, is recognised and said in the log.
        use_cuda: measure on the GPU, where there is one; else where the net is.
        surf_file: where the surface is kept, its suffix says the format; None for ``loss_surface.h5``. One in progress
            lies beside an earlier one, as ``loss_surface.part.h5``, and takes its place when it is finished.
        seed: of random directions, of the order of the loader, and of the random numbers that all points share.
        max_batches: how many batches to take; None for all.
        mode: "eval"; or "train": dropout and noise by random numbers that all points share, BatchNorm by the
            statistics of each batch. Parts of the net that are in eval mode stay so. A net that is in eval mode as a
            whole is measured as its ``train()`` leaves it.
        accelerate: measure faster where a short trial gives the same values, to 1e-6 relative. "bf16" tries bfloat16,
            too; report and pictures state its error, measured at a few points.
        tolerance: the largest error of the loss, as a share of its range, e.g. 1e-3. Points are evaluated from coarse
            to fine until an estimate on held-out points is below it. The remaining points are interpolated, which
            ``landscape.interpolated`` marks. A feature narrower than an eighth of the range may stay unseen. None
            evaluates every point.
        records: the weights that a training went through, oldest first, for the directions "pca" and "mixed":
            `Recorder.weights`.
        optimizers: those that train the net, for the directions "update"; they are only read.

    Attributes:
        landscape: the last `Landscape`: values, standard errors, recipe; that of `surf_file` before the first is
            computed.
        plane: the plane on which it lies.

    Raises:
        TypeError: if the criterion is nothing of these.
        ValueError: if the suffix of `surf_file` or the mode is unknown, it is remote, or the tolerance is no share.

    A quadratic bowl, 1 + (w − 1)² around w = 1, whose direction has the length of w:

    >>> import tempfile
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.ones_(net.weight)
    >>> ones = DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     landscape = LossLandscape(net, ones, nn.MSELoss(), surf_file=f"{folder}/bowl.h5")
    ...     landscape.compute_1d(xrange=(-1, 1, 5))["losses"].round(6).tolist()
    [1.0, 0.25, 0.0, 0.25, 1.0]
    """

    def __init__(
        self,
        net: nn.Module,
        dataloader: Iterable[Any],
        criterion: Callable[..., Any] | None = None,
        use_cuda: bool = False,
        surf_file: str | PathLike | None = None,
        *,
        seed: int = 42,
        max_batches: int | None = None,
        mode: Literal["eval", "train"] = "eval",
        accelerate: bool | Literal["bf16"] = True,
        tolerance: float | None = None,
        records: Sequence[Params] = (),
        optimizers: Optimizer | Sequence[Optimizer] = (),
    ) -> None:
        self.records = records
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        if use_cuda and not torch.cuda.is_available():
            log.warning("use_cuda=True, but there is no GPU: measuring on the CPU.")
            use_cuda = False
        self.net, self.dataloader, self.seed, self.max_batches = net, dataloader, seed, max_batches
        check_word("mode", mode, MODES)
        check_tolerance(tolerance)
        check_accelerate(accelerate)
        self.mode, self.accelerate, self.tolerance = mode, accelerate, tolerance
        self.criterion = nn.CrossEntropyLoss() if criterion is None else criterion
        kind = objective_of(self.criterion)[1]
        log.info("criterion %s is measured as %s.", getattr(self.criterion, "__name__", self.criterion), kind)
        self.surf_file = local_path("surf_file", "loss_surface.h5" if surf_file is None else surf_file)
        if self.surf_file.suffix.lower() not in FORMATS:
            written = " .vtp is written by export_paraview()." if self.surf_file.suffix.lower() in EXPORTS else ""
            raise ValueError(f"surf_file={str(surf_file)!r} must end in one of {', '.join(FORMATS)}.{written}")
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        self.device = torch.device("cuda") if use_cuda and device.type != "cuda" else device
        self.plane: Plane | None = None
        self._landscape: Landscape | None = None
        self._batches: list[Batch] = []

    @property
    def landscape(self) -> Landscape:
        """The last landscape computed, or the one in `surf_file`.

        Raises:
            ValueError: if there is none yet.
        """
        if self._landscape is None and self.surf_file.exists():
            self._landscape = load(self.surf_file)
        if self._landscape is None:
            raise ValueError(f"There is no landscape yet, nor a file {str(self.surf_file)!r}: compute one first.")
        return self._landscape

    def compute_1d(
        self,
        directions: str | Directions | Range = "random",
        xrange: Range | None = None,
        dir_type: str = "weights",
        normalize: str = "filter",
        ignore: str | Sequence[str] | None = "biasbn",
        target_model: Weights | None = None,
        save: bool = True,
        *,
        trajectory: Recorded | None = None,
        resume: bool = False,
        recalibrate: bool = False,
    ) -> dict[str, Any]:
        """The loss along a line, or along a curve between two models.

        Args:
            directions: "random", "pca", "gradient", "update", "mixed" or "hessian"; "target", the line to
                `target_model`, which lies at 1; a `Bezier` curve from the net, which ends at 1; or a callable
                ``(site, k) -> k directions`` such as `PCA` or `Between`. A range in its place is taken as `xrange`, as
                `compute_2d` takes its first argument.
            xrange: ``(low, high, points)``, in lengths of the direction; along a curve its parameter. None for
                (-1, 1, 51). Or "auto", or ``("auto", points)``: as far as the loss rises to 10 times that of the
                net, by 1 at least, or is finite. A few samples tell. Not along a curve.
            dir_type: "weights": parameters move, and BatchNorm keeps the net's statistics; "states": the
                floating-point buffers move too.
            normalize: how random directions are scaled, as in `Random`.
            ignore: what rests, as in `Random`, but in the directions "update" and towards models.
            target_model: a module, a state dict, or a checkpoint.
            save: keep the surface in `surf_file`, also while it is computed.
            trajectory: a `Recorder` of the training, whose path on this landscape is then ``landscape.trajectory``. The
                loss of each record is measured on the same data, and so is the landscape at its place. Not along a
                curve.
            resume: go on with the surface in `surf_file`.
            recalibrate: compute BatchNorm's statistics anew at every point, from all batches; twice the time. In eval
                mode only: train mode takes those of each batch.

        Returns:
            "losses" and "xcoordinates", of shape (points,), and "accuracies" in percent where the criterion is a
            classifier's. For a criterion that gives named metrics, "losses" is a dict of such arrays.

        Raises:
            ValueError: for an argument that does not fit. Or for a criterion that computes with the net itself in
                place of the model that it is given. Or for an earlier surface of another function.
        """
        directions, xrange = _line(directions, xrange, "random" if target_model is None else "target")
        if (directions == "target") != (target_model is not None):
            raise ValueError(
                f"directions={directions!r} with target_model={_named(target_model)}: give a target_model with "
                "directions='target', and only then."
            )
        chosen = self._directions(directions, normalize, ignore, (target_model,))
        return self._compute({"xrange": xrange}, chosen, dir_type, save, resume, recalibrate, trajectory)

    def compute_2d(
        self,
        xrange: Range = (-1, 1, 51),
        yrange: Range = (-1, 1, 51),
        dir_type: str = "weights",
        normalize: str = "filter",
        ignore: str | Sequence[str] | None = "biasbn",
        x_target: Weights | None = None,
        y_target: Weights | None = None,
        save: bool = True,
        *,
        directions: str | Directions = "random",
        trajectory: Recorded | None = None,
        resume: bool = False,
        recalibrate: bool = False,
    ) -> dict[str, Any]:
        """The loss on a plane.

        Args:
            xrange: ``(low, high, points)`` along the first direction; or "auto", as in `compute_1d`.
            yrange: the same along the second.
            x_target: a model that lies at (1, 0); None for a direction of `directions`.
            y_target: a model that lies at (0, 1); None for a direction of `directions`.
            directions: "random", "pca", "gradient", "update", "mixed", "hessian", or a callable
                ``(site, k) -> k directions`` such as `PCA` or `Between`; a `Bezier` curve gives its plane.
            dir_type, normalize, ignore, save, trajectory, resume, recalibrate: as in `compute_1d`.

        Returns:
            "losses", and "accuracies" in percent, of shape (x points, y points), "xcoordinates", "ycoordinates".

        Raises:
            ValueError: as `compute_1d`.
        """
        chosen = self._directions(directions, normalize, ignore, (x_target, y_target))
        ranges = {"xrange": xrange, "yrange": yrange}
        return self._compute(ranges, chosen, dir_type, save, resume, recalibrate, trajectory)

    def compute_3d(
        self,
        xrange: Range = (-1, 1, 21),
        yrange: Range = (-1, 1, 21),
        zrange: Range = (-1, 1, 21),
        dir_type: str = "weights",
        normalize: str = "filter",
        ignore: str | Sequence[str] | None = "biasbn",
        save: bool = True,
        *,
        directions: str | Directions = "random",
        trajectory: Recorded | None = None,
        resume: bool = False,
        recalibrate: bool = False,
    ) -> dict[str, Any]:
        """The loss in a volume of three directions; arguments and result as `compute_2d`, with "zcoordinates"."""
        chosen = self._directions(directions, normalize, ignore, (None, None, None))
        ranges = {"xrange": xrange, "yrange": yrange, "zrange": zrange}
        return self._compute(ranges, chosen, dir_type, save, resume, recalibrate, trajectory)

    def compute_runs(
        self,
        runs: Mapping[str, Run],
        xrange: Range | None = None,
        yrange: Range | None = None,
        *,
        points: int = 25,
        recalibrate: bool | None = None,
        save: bool = True,
        resume: bool = False,
    ) -> Comparison:
        """The loss on the plane of several runs, and the path of each on it.

        The plane goes through the mean of all records, along their first two principal components. Of all planes it
        lies nearest to them. The net gives the architecture; its own weights play no part.

        Args:
            runs: by name, what `Recorder` has recorded of each, or records of the weights, oldest first.
            xrange, yrange: ``(low, high, points)``, in the unit of the weights; None for the range of the paths.
            points: along an axis whose range is None.
            recalibrate: as in `compute_1d`; None for True where the net has BatchNorm in eval mode. The losses of the
                records take the statistics that were recorded.
            save, resume: as in `compute_1d`; the file has the surface alone, `Comparison.save` writes the paths too.

        Returns:
            The comparison, with the surface and its own path for each run. The path has the loss of each record
            (``losses``), and that of the plane where it is drawn (``plane_losses``).

        Raises:
            ValueError: if there are fewer than two runs, one has no records, or they are of another architecture.
        """
        with self._measuring() as (probe, objective):
            shared = SharedPlane.of(runs, probe)
            if recalibrate is None:
                recalibrate = self.mode == "eval" and any(isinstance(part, BATCH_NORMS) for part in probe.modules())
            paths = shared.paths()
        ends = [(*ends, points) for ends in ranges_of_paths(paths)]
        ranges = {"xrange": xrange or ends[0], "yrange": yrange or ends[1]}
        self._compute(ranges, shared, "weights", save, resume, recalibrate, weights=shared.mean)
        with self._measuring() as (probe, objective):
            put_in_mode(probe, self.mode, training_flags(probe))
            as_recorded, of_plane = (Sequential(probe, seed=self.seed, recalibrate=r) for r in (False, recalibrate))
            for name, path in paths.items():
                records = weights_of_run(runs[name])
                paths[name] = with_losses(
                    path, records, objective, shared.plane, self._batches, (as_recorded, of_plane)
                )
        return on_one_surface(self.landscape, paths, shared.end_distances())

    @contextmanager
    def _measuring(self) -> Iterator[tuple[nn.Module, Objective]]:
        """A context with a copy of the net that is ours to move, and the objective; random streams are put back."""
        with one_pass(), preserved(), torch.inference_mode(False), torch.no_grad():
            probe, criterion = copy_together(self.net, self.criterion, self.device)
            yield probe, objective_of(criterion, self.device.type == "cuda")[0]

    def hessian(self, top_k: int = 5, *, trace: bool = True, density: bool = False, blocks: bool = False) -> Spectrum:
        """The curvature of the loss at the net's weights: eigenvalues, trace and density of its Hessian.

        It is the Hessian of the mean loss over all data of the landscape, with respect to all trained parameters. Every
        Hessian is checked: a layer whose second derivatives are wrong is measured otherwise, or refused.

        Args:
            top_k: the number of the largest eigenvalues; λ_min comes with them.
            trace: the trace, until its standard error is 2 % of it.
            density: the density of all eigenvalues (stochastic Lanczos quadrature); 240 products of H.
            blocks: the spectrum of each layer's own block, too.

        Returns:
            A `Spectrum`; `docs/curvature.md` says how to read it.

        Raises:
            ValueError: if `top_k` is less than 1, or the loss has no Hessian that could be proved.

        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> net = nn.Linear(2, 1, bias=False)
        >>> data = DataLoader(TensorDataset(torch.diag(torch.tensor([2.0, 1.0])), torch.zeros(2, 1)))
        >>> spectrum = LossLandscape(net, data, nn.MSELoss()).hessian(top_k=2)  # H is the mean of 2 x xᵀ
        >>> spectrum.eigenvalues.round(5).tolist(), round(spectrum.trace, 5)
        ([4.0, 1.0], 5.0)
        """
        if top_k < 1:
            raise ValueError(f"top_k={top_k!r}: give the number of the largest eigenvalues, at least 1.")
        with self._hessians(CurvatureSettings(top_k, trace=trace, density=density), blocks=blocks) as spectrum_at:
            return spectrum_at({})

    def hessian_map(self, *ranges: tuple[float, float, int]) -> Landscape:
        """λ_max, λ_min and |λ_min / λ_max| at each point of a grid, on the plane of the last landscape computed.

        Where the ratio is near 0 the loss is nearly convex (Li et al. 2018, section 6). Each point takes about 40
        products of the Hessian.

        Args:
            ranges: ``(low, high, points)``, one a direction; none for (-1, 1, 11) along each.

        Returns:
            A landscape of "ratio", "lambda_max" and "lambda_min". They are NaN where the loss is not finite.

        Raises:
            ValueError: if there is no plane, the ranges do not fit it, or no Hessian could be proved.

        >>> plain = LossLandscape(nn.Linear(2, 1, bias=False), [(torch.ones(1, 2), torch.ones(1, 1))], nn.MSELoss())
        >>> _ = plain.compute_1d(xrange=(-1, 1, 3), save=False)
        >>> plain.hessian_map((-1, 1, 2)).values["lambda_max"].round(4).tolist()  # 2 x xᵀ has the eigenvalues 4 and 0
        [4.0, 4.0]
        """
        if self.plane is None:
            raise ValueError("There is no plane yet: compute a landscape first, whose plane the map is of.")
        grid = Grid.from_ranges(*(ranges or [(-1, 1, 11)] * self.plane.ndim))
        if grid.ndim != self.plane.ndim:
            raise ValueError(
                f"ranges has {grid.ndim} ranges, and the plane {self.plane.ndim} directions: give one each."
            )
        recipe = replace(self.landscape.recipe, ranges={}, tolerance=None, rounding=None)
        result = Landscape.empty(grid, ["ratio", "lambda_max", "lambda_min"], "ratio")
        result.recipe = recipe
        with self._hessians(CurvatureSettings(1, trace=False)) as spectrum_at:
            for number, flat in enumerate(grid.outwards):
                values = dict.fromkeys(result.values, (np.nan, np.nan))
                try:
                    spectrum = spectrum_at(self.plane.at(grid.points[flat]))
                    found = {"ratio": spectrum.ratio, "lambda_max": spectrum.largest, "lambda_min": spectrum.lowest}
                    values = {name: (value, np.nan) for name, value in found.items()}
                except CannotMeasureError:
                    if not number:
                        raise
                result.record(np.unravel_index(flat, grid.shape), values)
        return replace(result, center={})

    def hessian_path(self, records: Sequence[Params] = (), top_k: int = 1, *, trace: bool = False) -> list[Spectrum]:
        """The spectrum of the Hessian at each record of a training, on the same data.

        Args:
            records: the weights that the training went through, oldest first; none for those of the constructor.
            top_k, trace: as in `hessian`.

        Raises:
            ValueError: as `hessian`, and if there are no records.
        """
        chosen = records or self.records
        if not len(chosen):
            raise ValueError("records is empty: give Recorder.weights, here or to LossLandscape(records=...).")
        with self._hessians(CurvatureSettings(top_k, trace=trace)) as spectrum_at:
            return [spectrum_at(chosen[t]) for t in range(len(chosen))]

    @contextmanager
    def _hessians(self, settings: CurvatureSettings, *, blocks: bool = False) -> Iterator[Callable[[Params], Spectrum]]:
        """A context with a function that gives the spectrum at some weights; none for the net's own."""
        with one_pass(), preserved(), torch.inference_mode(False):
            probe, objective, _ = self._probe()
            originals = Touched(Snapshot.view(self.net).params, {})
            objective = Rehearsed(Unspoilt(objective), originals, TOUCHES_ORIGINALS)
            with tqdm(desc="Hessian", unit="product", disable=None, leave=False) as bar:

                def spectrum_at(weights: Params) -> Spectrum:
                    with torch.no_grad():
                        move(probe, weights)
                    return hessian_curvature(
                        objective, probe, self._batches, settings, seed=self.seed, blocks=blocks,
                        after_product=bar.update,
                    ).spectrum  # fmt: skip

                yield spectrum_at

    def plot_1d(
        self,
        xmin: float | None = None,
        xmax: float | None = None,
        loss_max: float | None = None,
        log: bool = False,
        show: bool = False,
    ) -> Figures:
        """Draw every metric along its direction and write ``<surf_file>_<metric>_1dslices.pdf``.

        Args:
            xmin, xmax: the part of the line to draw; None for all of it.
            loss_max: the upper end of the loss axis; None, or below all values, for what there is.
            log: a logarithmic loss axis.
            show: show the figures, too.

        Raises:
            ValueError: if the landscape is not 1-D.
        """
        self._must_have(1)
        axis = self.landscape.grid.axes[0]
        xlim = None if xmin is xmax is None else (axis[0] if xmin is None else xmin, axis[-1] if xmax is None else xmax)
        figures = Figures(displayed=show)
        for name, values in self.landscape.values.items():
            limit = loss_max if loss_max is not None and (values < loss_max).any() else None
            options = {"vmax": limit, "color_scale": "log" if log else "global"} if name != ACCURACY else {}
            figures += self._draw(["slices"], [name], show, xlim=xlim, **options)
        return figures

    def plot_2d_contour(
        self,
        surf_name: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
        vlevel: float | None = None,
        show: bool = False,
    ) -> Figures:
        """Draw filled contours with labelled lines and a heat map, each as a PDF beside `surf_file`.

        Args:
            surf_name: a metric; "auto" for all of them; None for the loss.
            vmin, vmax: the lowest and the highest level; None for what there is.
            vlevel: between two levels; None for round levels.
            show: show the figures, too.

        Raises:
            ValueError: if there is no such metric, or the landscape is not 2-D.
        """
        self._must_have(2)
        figures = Figures(displayed=show)
        for name in self._names(surf_name):
            levels = self._levels(name, vmin, vmax, vlevel)
            figures += self._draw(["contour"], [name], show, levels=levels)
            figures += self._draw(["heat"], [name], show, vmin=vmin, vmax=vmax)
        return figures

    def plot_2d_surface(self, surf_name: str | None = None, show: bool = False) -> Figures:
        """Draw the surface in three dimensions and write ``<surf_file>_<metric>_3dsurface.pdf``.

        Args:
            surf_name: a metric; "auto" for all of them; None for the loss.
            show: show the figures, too.

        Raises:
            ValueError: if there is no such metric, or the landscape is not 2-D.
        """
        self._must_have(2)
        return self._draw(["surface"], self._names(surf_name), show)

    def plot_3d(self, surf_name: str | None = None, show: bool = False) -> Figures:
        """Draw sections and isosurfaces of a volume, each as a PDF; arguments and errors as `plot_2d_surface`."""
        self._must_have(3)
        return self._draw(["sections", "isosurfaces"], self._names(surf_name), show)

    def export_paraview(
        self, surf_name: str | None = None, log: bool = False, zmax: float | None = None, interp: int | None = None
    ) -> str:
        """Write ``<surf_file>_<metric>.vtp`` for ParaView and give its path.

        Args:
            surf_name: a metric; None for the loss.
            log: heights log(z + 0.1).
            zmax: the highest z that is drawn; None, or below 0, for no limit.
            interp: points along each axis of a finer grid, by cubic splines; None, or below 0, for the grid as it is.

        Raises:
            ValueError: if there is no such metric, or the landscape is not 2-D.
            ImportError: if vtk is not installed.
        """
        self._must_have(2)
        name = self.landscape.metric(surf_name)
        file = data_set_names(self.landscape.values)[name]
        path = export_paraview(
            self.landscape,
            f"{self.surf_file.with_suffix('')}_{file}.vtp",
            name,
            log=log,
            zmax=None if zmax is None or zmax < 0 else zmax,
            interp=None if interp is None or interp < 0 else interp,
        )
        return str(path)

    def _directions(
        self,
        directions: str | Directions,
        normalize: str,
        ignore: str | Sequence[str] | None,
        targets: tuple[Weights | None, ...],
    ) -> Directions:
        """One direction a target: towards it, or of `directions` where it is None."""
        models = tuple(target for target in targets if target is not None)
        for model in models:
            check_frozen(self.net, model)
        aimed = len(models) == len(targets)
        if isinstance(directions, str) and directions not in KINDS and not (aimed and directions == "target"):
            raise ValueError(
                f"directions={directions!r} is unknown; the choices are {', '.join(KINDS)}, target (in compute_1d, "
                "with a target_model), or a callable (site, k)."
            )
        if aimed:
            return Between(models)
        kind = directions
        if isinstance(kind, str):
            kind = make_directions(kind, normalize=normalize, ignore=ignore, seed=self.seed, max_samples=None)
        if not models:
            return kind
        return Joined(tuple(kind if target is None else Between((target,)) for target in targets))

    def _compute(
        self,
        ranges: Mapping[str, Range],
        directions: Directions,
        dir_type: str,
        keep: bool,
        resume: bool,
        recalibrate: bool,
        recorded: Recorded | None = None,
        weights: Params | None = None,
    ) -> dict[str, Any]:
        """Measure the landscape around the net, or around other weights of it."""
        self._check_kind(dir_type, recalibrate)
        grid, searched = ranges_of(ranges)
        file = SurfaceFile(self.surf_file)
        earlier = file.earlier() if resume else []
        curve = directions if isinstance(directions, Bezier) and grid.ndim == 1 else None
        if curve is not None:
            _check_curve(searched, recorded)
        with one_pass(), preserved(), torch.inference_mode(False), torch.no_grad():
            probe, objective, flags = self._probe()
            move(probe, weights or {})
            snapshot = Snapshot.of(probe, buffers=dir_type == "states")
            site = self._site(snapshot, probe, objective, self.records or (recorded.weights if recorded else ()))
            self.plane = Plane(snapshot.params, checked_directions(directions, site, grid.ndim if curve is None else 2))
            population = population_of(self.dataloader)
            facts = facts_of(directions)
            described = directions_recipe(facts, snapshot, self.plane)
            if text := span_sentence(described, grid.ndim):
                warnings.warn(text, stacklevel=3)
            recipe = self._recipe(probe, snapshot, described, dir_type, recalibrate)
            passes = survey_module(
                probe, Unspoilt(objective), self.plane, grid, self._batches, seed=self.seed, recalibrate=recalibrate,
                accelerate=self.accelerate, tolerance=self.tolerance, recipe=recipe, earlier=earlier,
                population=population, flags=flags if self.mode == "eval" else None,
                searched=searched, reach=facts.reach, spectrum=facts.spectrum,
                path=None if curve is None else lambda t: curve.points(t[:, 0]),
                originals=Snapshot.view(self.net, buffers=dir_type == "states").params, recorded=recorded,
            )  # fmt: skip
            self._follow(passes, file if keep else None, grid.size)
        return self._result()

    def _check_kind(self, dir_type: str, recalibrate: bool) -> None:
        """Raises ValueError for an unknown `dir_type`, or statistics anew where each batch has its own."""
        if recalibrate and self.mode == "train":
            raise ValueError(
                "recalibrate=True with mode='train': there BatchNorm takes the statistics of each batch, and none are "
                "computed anew. Give only one of the two."
            )
        check_word("dir_type", dir_type, DIR_TYPES)

    def _probe(self) -> tuple[nn.Module, Objective, Flags]:
        """A copy of the net in its mode, the objective on it, and the net's training flags; the data are read."""
        probe, criterion = copy_together(self.net, self.criterion, self.device)
        objective, _ = objective_of(criterion, self.device.type == "cuda")
        if not self._batches:
            self._batches = frozen_batches(objective, self.dataloader, self.device, self.seed, self.max_batches)
        flags = training_flags(probe)
        put_in_mode(probe, self.mode, flags)
        return probe, objective, flags

    def _site(self, snapshot: Snapshot, probe: nn.Module, objective: Objective, records: Sequence[Params]) -> Site:
        """The centre of the landscape, and what directions may be made of."""
        original = getattr(self.net, "_orig_mod", self.net)
        return Site.at(
            snapshot, probe, Unspoilt(objective), self._batches,
            records=records, optimizers=self.optimizers, original=original,
        )  # fmt: skip

    def _recipe(
        self, probe: nn.Module, snapshot: Snapshot, directions: DirectionsRecipe, dir_type: str, recalibrate: bool
    ) -> Recipe:
        return Recipe(
            module=type(probe).__name__,
            objective=getattr(self.criterion, "__name__", type(self.criterion).__name__),
            mode=self.mode,
            seed=self.seed,
            weights_checksum=checksum(snapshot.params.values()),
            directions=directions,
            precision=str(next(iter(snapshot.params.values())).dtype).removeprefix("torch."),
            dir_type=dir_type,
            recalibrate=recalibrate,
            versions=versions(),
        )

    def _follow(self, passes: Generator[Landscape, None, None], file: SurfaceFile | None, size: int) -> None:
        """Take in the points one by one, and save the landscape every few seconds and at a stop."""
        saved, landscape = time.monotonic(), None
        with closing(passes), tqdm(total=size, desc="Landscape", unit="point", disable=None, leave=False) as bar:
            try:
                for landscape in passes:
                    if file is not None and landscape is not self._landscape:
                        file.begin(landscape)
                    self._landscape = landscape
                    bar.update(int(landscape.done.sum()) - bar.n)
                    if file is not None and time.monotonic() - saved > surface_file.SAVE_EVERY:
                        file.keep(landscape)
                        saved = time.monotonic()
            finally:
                if file is not None and landscape is not None:
                    file.keep(landscape)

    def _result(self) -> dict[str, Any]:
        landscape = self.landscape
        if landscape.recipe.ranges:
            log.info(sentence(landscape.recipe.ranges))
        axes = {f"{letter}coordinates": axis for letter, axis in zip("xyz", landscape.grid.axes, strict=False)}
        if set(landscape.values) <= {LOSS, ACCURACY}:
            accuracies = {"accuracies": landscape.values[ACCURACY]} if ACCURACY in landscape.values else {}
            return {"losses": landscape.values[LOSS], **accuracies, **axes}
        return {"losses": {name.removeprefix(f"{LOSS}_"): v for name, v in landscape.values.items()}, **axes}

    def _names(self, surf_name: str | None) -> list[str]:
        if surf_name == "auto":
            return list(self.landscape.values)
        if surf_name is None:
            return [self.landscape.main]
        if surf_name not in self.landscape.values:
            raise ValueError(
                f"surf_name={surf_name!r} is not in this landscape; the choices are auto, "
                f"{', '.join(self.landscape.values)}."
            )
        return [surf_name]

    def _levels(self, name: str, vmin: float | None, vmax: float | None, vlevel: float | None) -> Any:
        if vmin is vmax is vlevel is None:
            return None
        values = self.landscape.values[name][self.landscape.done]
        finite = values[np.isfinite(values)]
        lowest, highest = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        low, high = (lowest if vmin is None else vmin), (highest if vmax is None else vmax)
        if not low < high:
            raise ValueError(
                f"vmin={vmin!r}, vmax={vmax!r}: give vmin < vmax; {name} goes from {lowest:g} to {highest:g}."
            )
        if vlevel is not None and not 0 < vlevel <= high - low:
            raise ValueError(
                f"vlevel={vlevel!r}: give the distance between two levels of {name}, more than 0 and at most "
                f"{high - low:g}, the distance from the lowest to the highest."
            )
        return np.linspace(low, high, 21) if vlevel is None else np.arange(low, high + vlevel / 2, vlevel)

    def _must_have(self, ndim: int) -> None:
        if self.landscape.grid.ndim != ndim:
            raise ValueError(
                f"The landscape has {self.landscape.grid.ndim} directions, this picture needs {ndim}: call "
                f"compute_{ndim}d first."
            )

    def _draw(self, kinds: Sequence[str], names: Sequence[str], show: bool, **options: Any) -> Figures:
        figures = Figures(displayed=show)
        stem, files = self.surf_file.with_suffix(""), data_set_names(self.landscape.values)
        for name in names:
            for kind in kinds:
                figure = PLOTS[kind].draw(self.landscape, name, **options)
                path = Path(f"{stem}_{files[name]}_{PLOTS[kind].suffix}.pdf")
                write_whole(path, encode_picture(figure, ".pdf"))
                figures.append(figure)
                if show:
                    show_figure(figure)
        return figures


def _line(directions: str | Directions | Range, xrange: Range | None, kind: str) -> tuple[str | Directions, Range]:
    """The directions and the range of a line; a range in the place of the directions leaves them to `kind`.

    Raises:
        ValueError: if there are two ranges.
    """
    given = AUTO if directions == AUTO else tuple(directions) if isinstance(directions, tuple | list) else None
    if given is None:
        return directions, (-1, 1, 51) if xrange is None else xrange  # type: ignore[return-value]  # no range
    if xrange is not None:
        raise ValueError(
            f"{given!r} in the place of directions, and xrange={xrange!r}: a line has one range. Give "
            f"compute_1d(xrange=(low, high, points), directions={kind!r}), or compute_2d for a plane."
        )
    return kind, given  # type: ignore[return-value]  # `ranges_of` checks it


def _check_curve(searched: Sequence[int], recorded: Recorded | None) -> None:
    """Raises ValueError for what a curve can't have: a range that is found, or the path of a training."""
    if searched:
        raise ValueError('xrange="auto" along a curve: it goes from 0 to 1. Give e.g. xrange=(0, 1, 51).')
    if recorded is not None:
        raise ValueError("trajectory along a curve: a path has its place on a plane. Call compute_2d with the curve.")


def _named(model: Weights | None) -> str:
    return type(model).__name__ if isinstance(model, nn.Module | dict) else repr(model)
