"""Sequential: one point after the other, in place on a copy of the module. The reference of all evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..isolation.edits import EditWatch
from ..isolation.rng import seed_streams
from ..isolation.tensor_state import SavedTensors, ScriptState
from ..objectives.base import Batch, CannotMeasureError, Objective, Observation, most_cautious
from ..phases import SILENT
from ..weights.parameters import Params, canonical_name, same_bits, working_dtype
from ..weights.plane import Plane
from ..weights.sharding import FSDPState, is_part, is_sharded, local
from .base import Measurement, Measurements, Stream
from .mean_and_error import reduce
from .modes import BATCH_NORMS, Flags, is_training, put_in_mode
from .out_of_memory import halved, halves, is_out_of_memory


@cache
def without_gradients() -> Callable[[], AbstractContextManager[Any]]:
    """The fastest mode in which `torch.func` gives derivatives: they are 0 in the inference mode of old torch."""
    with torch.inference_mode():
        return torch.inference_mode if float(torch.func.grad(torch.square)(torch.tensor(1.0))) == 2 else torch.no_grad


class Sequential:
    """Moves the parameters of a module to each point and runs the objective over all batches.

    Nothing carries over from one point to the next: buffers, training flags and parameters are put back, and every
    random stream starts at `seed`. A step that edits its parameters finds them at the point in every batch. The first
    point after which they lie elsewhere is measured again. The caller wraps the iteration in `rng.preserved`.
    Batches that do not fit into an accelerator's memory are halved until they do. This is not done in train mode, in
    which a batch may be more than its samples.

    A sharded module (FSDP2) is moved part by part, in place; all processes must take the same points and batches.

    Args:
        module: a copy that may be moved (or a sharded module itself), in its mode and on its device. It stays where
            the last point puts it.
        seed: of the random numbers that all points share.
        recalibrate: compute the statistics of BatchNorm anew at every point, from all batches: twice the time.
        with_autograd: call the objective with autograd, for derivatives of what it observes.

    Attributes:
        parts: the number of pieces that the batches were cut into; None if they fitted.
        edits_weights: True if the objective has edited parameters, or may have, as far as it was called.
        phases: is told of each batch of a point.
    """

    at_once = 1
    works_ahead = False

    def __init__(
        self, module: nn.Module, *, seed: int = 42, recalibrate: bool = False, with_autograd: bool = False
    ) -> None:
        self.module, self.seed = module, seed
        norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS)] if recalibrate else []
        self._norms = [norm for norm in norms if norm.track_running_stats]
        self.parts: int | None = None
        pythons = [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]
        self._flags = [(vars(part), part.training) for part in pythons]
        scripts = [part for part in module.modules() if isinstance(part, torch.jit.ScriptModule)]
        self._script_flags = [(part, part.training) for part in scripts]
        self._is_training = is_training(module)
        # cuDNN has separate random numbers for recurrent nets, which no seed starts anew and nobody can put back.
        self._needs_no_cudnn = any(p.training and p.dropout for p in module.modules() if isinstance(p, nn.RNNBase))
        self._tables = [(part._buffers, dict(part._buffers)) for part in pythons if part._buffers]
        self._script = ScriptState(module)
        self._buffers = SavedTensors(local(b) if is_part(b) else b for b in module.buffers())
        self._weights = _Weights(module)
        self._shards = FSDPState(module) if is_sharded(module) else None
        self._is_initialised = False  # by FSDP
        self.edits_weights = self._is_watched = False
        self.phases = SILENT
        # FSDP reuses its buffers, and a training could not go on with inference tensors in them.
        self._mode: Callable[[], AbstractContextManager[Any]] = torch.no_grad if self._shards else without_gradients()
        if with_autograd:
            self._mode = torch.enable_grad

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        """Yield the measurements of each point, in the order of `points`, shape (n, k).

        The caller may save, show or stop between two points.

        Raises:
            ValueError: if the points or batches do not fit, or the plane is not one of this module.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != plane.ndim:
            raise ValueError(f"points must have shape (n, {plane.ndim}), one column a direction; got {points.shape}.")
        if not batches:
            raise ValueError("batches is empty: give at least one batch to measure the points on.")
        self._reset()
        move = _InPlace(self.module, plane)
        with torch.no_grad():
            move(np.zeros(plane.ndim))  # a step may refuse the point at which an earlier call has ended
        self._rehearse_on_what_fits(objective, move, batches[0])
        for point in points:
            go = partial(move, point)
            try:
                measurements = self._measure(objective, go, batches)
            except Exception as error:
                if not self._may_halve(objective, error, batches):
                    raise
                measurements = None  # the error holds tensors: go on when it is gone
            if measurements is None:
                batches = halved(batches, partial(self._measure, objective, go))
                self.parts = len(batches)
                measurements = self._measure(objective, go, batches)
            yield measurements

    def _may_halve(self, objective: Objective, error: Exception, batches: Sequence[Batch]) -> bool:
        """True if halves of the batches may fit; sharded processes would have to agree on it.

        Raises:
            CannotMeasureError: where a batch in train mode does not fit: in parts it has other values.
        """
        if self._is_training and is_out_of_memory(error):
            raise CannotMeasureError(
                f"A batch of {max(batch.size for batch in batches)} samples does not fit into the memory. In train "
                "mode it can't be measured in parts, since their statistics and random numbers differ. Give the loader "
                "smaller batches, or mode='eval'."
            ) from error
        return objective.divisible and self._shards is None and is_out_of_memory(error)

    def _measure(self, objective: Objective, go: Callable[[], None], batches: Sequence[Batch]) -> Measurements:
        """The measurements at the point to which `go` moves the module, every batch with the weights of that point.

        It is measured once more where the objective turns out to edit weights. They are put back for each batch then.
        """
        while True:
            self._reset()
            with torch.no_grad():
                go()
            self._weights.remember()
            try:
                with self._mode(), _without_cudnn(self._needs_no_cudnn):
                    self._start(objective, batches)
                    observed: dict[str, list[Observation]] = {}
                    for place, batch in enumerate(batches, 1):
                        self.phases.at_batch(place, len(batches))
                        self._put_flags_back()
                        for name, observation in _without_graphs(objective(self.module, batch)).items():
                            observed.setdefault(name, []).append(observation)
                        if self.edits_weights:
                            self._weights.put_back()
                    drawn = most_cautious(batch.drawn for batch in batches)
                    measurements = {name: reduce(observations, drawn) for name, observations in observed.items()}
                    of_set = objective.finish()
            except BaseException:
                self._weights.put_back()
                raise
            if self.edits_weights or self._weights.stayed():
                return measurements | {name: Measurement(float(value), np.nan) for name, value in of_set.items()}
            self.edits_weights = True
            self._weights.put_back()

    def _start(self, objective: Objective, batches: Sequence[Batch]) -> None:
        """Before the batches of a point: statistics, random streams and objective at their beginning."""
        if self._norms:
            self._recalibrate(objective, batches)
        seed_streams(self.seed)
        objective.start()

    def _recalibrate(self, objective: Objective, batches: Sequence[Batch]) -> None:
        """Statistics of BatchNorm anew, as the mean over the batches (Izmailov et al. 2018, section 3.2)."""
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True  # a cumulative mean
            vars(norm)["train"] = lambda mode=True, norm=norm: norm  # an objective may call eval() of the module
        try:
            seed_streams(self.seed)
            objective.start()
            for batch in batches:
                objective(self.module, batch)
        finally:
            for norm in self._norms:
                norm.training = False
                del vars(norm)["train"]

    def _rehearse_on_what_fits(self, objective: Objective, move: _InPlace, batch: Batch) -> None:
        while True:
            try:
                return self._rehearse(objective, move, batch)
            except Exception as error:
                if not self._may_halve(objective, error, [batch]) or batch.size == 1:
                    raise
            batch = halves(batch)[0]

    def _rehearse(self, objective: Objective, move: _InPlace, batch: Batch) -> None:
        """Let the objective see one batch; find out whether it needs gradients and which parameters it edits."""
        try:
            return self._try(objective, move, batch)
        except (RuntimeError, AttributeError, TypeError) as error:
            # A loss with derivatives in it (physics-informed, gradient penalty) can't do without autograd, nor can
            # a step that reads the gradients of its parameters, which are None otherwise.
            wants_autograd = any(word in str(error) for word in ("grad", "nference", "NoneType"))
            if self._mode is torch.enable_grad or not wants_autograd or is_out_of_memory(error):
                raise
        self._mode = torch.enable_grad
        for parameter in move.trained if self._shards is None else ():
            parameter.requires_grad_(True)
        self._try(objective, move, batch)

    def _try(self, objective: Objective, move: _InPlace, batch: Batch) -> None:
        """Measure one batch, and put its edits back whether it fails or not."""
        self._reset()
        self._weights.remember()
        try:
            # Tensors made in inference mode do not count their edits, which a rehearsal may want to see.
            with torch.set_grad_enabled(self._mode is torch.enable_grad), _without_cudnn(self._needs_no_cudnn):
                objective.rehearse(self.module, batch)
            with self._mode(), _without_cudnn(self._needs_no_cudnn), self._watched() as watch:
                self._put_flags_back()
                objective.start()
                objective(self.module, batch)
        finally:
            self.edits_weights |= not self._weights.stayed()
            self._weights.put_back()
        self.edits_weights |= watch is not None and bool(watch.seen)
        if self._shards is not None and not self._is_initialised:
            self._shards, self._is_initialised = FSDPState(self.module), True  # by the first forward pass

    @contextmanager
    def _watched(self) -> Iterator[EditWatch | None]:
        """Looks for edits of parameters in the first call alone: nothing should be compiled for a watch."""
        if self._is_watched:
            yield None
            return
        self._is_watched = True
        with EditWatch((name, local(p)) for name, p in self.module.named_parameters()) as watch:
            yield watch

    def _reset(self) -> None:
        if self._shards is not None:
            self._shards.restore()
        self._put_flags_back()
        for table, buffers in self._tables:
            table.clear()
            table.update(buffers)
        if self._mode is torch.enable_grad:
            for owner in self.module.parameters():
                owner.grad = None
        self._script.restore()
        self._buffers.restore()

    def put_back(self) -> None:
        """Put flags, buffers and gradients back as they were at first; the parameters stay at the last point."""
        self._reset()

    def _put_flags_back(self) -> None:
        """Put each part into its mode, which a step may change at any batch."""
        for attributes, training in self._flags:
            attributes["training"] = training  # nn.Module.__setattr__ would take longer than small layers do
        for part, training in self._script_flags:  # which is kept outside of Python
            part.training = training

    @contextmanager
    def in_train_mode(self, flags: Flags) -> Iterator[Sequential]:
        """A context with an evaluator of the same module in train mode, part by part; then all is as it was."""
        self._reset()
        put_in_mode(self.module, "train", flags)
        evaluator = Sequential(self.module, seed=self.seed)
        try:
            yield evaluator
        finally:
            evaluator._reset()
            self._reset()


class _Weights:
    """The parameters of a module as they are at a point.

    Args:
        module: the owner of the parameters; of a sharded one, this process's part is remembered.
    """

    def __init__(self, module: nn.Module) -> None:
        tables = () if is_sharded(module) else (part._parameters for part in module.modules())  # FSDP exchanges them
        self._all = [table for table in tables if table and isinstance(table, dict)]
        self._tables: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._module, self._parameters, self._copies = module, list[nn.Parameter](), list[Tensor]()

    def remember(self) -> None:
        """Take the parameters and their values of now: an acceleration may have exchanged some."""
        self._tables = [(table, dict(table)) for table in self._all]
        parameters = [parameter for parameter in self._module.parameters() if not parameter.is_meta]
        tensors = [local(parameter).detach() for parameter in parameters]
        if list(map(id, parameters)) != list(map(id, self._parameters)) or not _are_alike(tensors, self._copies):
            self._copies = [torch.empty_like(tensor) for tensor in tensors]
        self._parameters = parameters
        if tensors:
            torch._foreach_copy_(self._copies, tensors)

    def stayed(self) -> bool:
        """True if every parameter is still the same object, with the same bits."""
        if any(table.get(name) is not p for table, parameters in self._tables for name, p in parameters.items()):
            return False
        return all(same_bits(local(p).detach(), value) for p, value in zip(self._parameters, self._copies, strict=True))

    def put_back(self) -> None:
        """Set every parameter to the value that was remembered."""
        for table, parameters in self._tables:
            table.clear()
            table.update(parameters)
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._copies, strict=True):
                if local(parameter).shape != value.shape:
                    parameter.data = value.clone()
            if self._parameters:
                torch._foreach_copy_([local(p).detach() for p in self._parameters], self._copies)


def _are_alike(tensors: Sequence[Tensor], copies: Sequence[Tensor]) -> bool:
    """True if the copies have the shapes and strides of the tensors."""
    return [(t.shape, t.stride()) for t in tensors] == [(c.shape, c.stride()) for c in copies]


@contextmanager
def _without_cudnn(needed: bool) -> Iterator[None]:
    """A context without cuDNN, if that is needed."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and not needed
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


class _InPlace:
    """Writes θ* + Σ cᵢ dᵢ into the module's own tensors; parameters that no direction moves are left alone.

    Buffers that the plane names are moved too; a running variance stays positive.
    """

    def __init__(self, module: nn.Module, plane: Plane) -> None:
        self._parameters: dict[str, Tensor] = {canonical_name(name): p for name, p in module.named_parameters()}
        buffers = {
            canonical_name(name): b for name, b in module.named_buffers() if canonical_name(name) in plane.origin
        }
        self._parameters |= buffers
        self._may_be_exchanged = is_sharded(module)  # FSDP may put another tensor under a parameter
        targets = {name: local(p) for name, p in self._parameters.items()}
        unknown = sorted(plane.origin.keys() - targets.keys())
        if unknown:
            raise ValueError(
                f"The plane names parameters that the module does not have: {unknown[:5]}. Make the plane from this "
                "module, e.g. from Snapshot.of(module)."
            )
        self._origin = {name: local(t) for name, t in plane.origin.items()}
        self._directions = [{name: local(t) for name, t in direction.items()} for direction in plane.directions]
        if any(t.numel() and t.data_ptr() == targets[name].data_ptr() for name, t in self._origin.items()):
            raise ValueError(
                "The plane's origin shares memory with the module, which moves: give a copy, Snapshot.of(module)."
            )
        resting = {
            name for name in self._origin if name not in buffers and all(_is_zero(d[name]) for d in self._directions)
        }
        with torch.no_grad():
            for name in resting:
                targets[name].copy_(self._origin[name])
        self._variances = [targets[name] for name in buffers if name.endswith("running_var")]
        self._moving = [name for name in self._origin if name not in resting]
        self.trained = [self._parameters[name] for name in self._origin if name not in buffers]
        self._find()

    def _find(self) -> None:
        targets = {name: local(self._parameters[name]) for name in self._moving}
        exact = [name for name, tensor in targets.items() if tensor.dtype == working_dtype(tensor.dtype)]
        self._exact = _Part(targets, self._origin, self._directions, exact)
        # Low precision (bf16): the sum is made in float32 and rounded once, a tensor at a time.
        low = [name for name in self._moving if name not in set(exact)]
        self._rounded = [_Part(targets, self._origin, self._directions, [name]) for name in low]

    def __call__(self, point: np.ndarray) -> None:
        if self._may_be_exchanged:
            self._find()
        coordinates = [float(c) for c in point]
        self._exact.write(coordinates)
        for part in self._rounded:
            part.write_rounded(coordinates)
        for variance in self._variances:  # it may be negative beyond interpolated models
            variance.clamp_(min=torch.finfo(variance.dtype).tiny)


class _Part:
    """Tensors of the module beside their origin and directions, as lists for the foreach kernels."""

    def __init__(self, targets: Params, origin: Params, directions: Iterable[Params], names: list[str]) -> None:
        self.targets = [targets[name] for name in names]
        self.origin = [origin[name] for name in names]
        self.directions = [[direction[name] for name in names] for direction in directions]

    def write(self, point: list[float]) -> None:
        if not self.targets:
            return
        torch._foreach_copy_(self.targets, self.origin)
        for coordinate, direction in zip(point, self.directions, strict=True):
            if coordinate:
                torch._foreach_add_(self.targets, direction, alpha=coordinate)

    def write_rounded(self, point: list[float]) -> None:
        staged = [o.to(working_dtype(o.dtype), copy=True) for o in self.origin]
        for coordinate, direction in zip(point, self.directions, strict=True):
            torch._foreach_add_(staged, direction, alpha=coordinate)
        torch._foreach_copy_(self.targets, staged)


def _is_zero(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or (all(s == 0 for s in tensor.stride()) and not tensor.flatten()[0].item())


def _without_graphs(observations: dict[str, Observation]) -> dict[str, Observation]:
    """The observations without their graphs, which would hold the memory of a batch until the last one."""
    return {
        name: o._replace(value=o.value.detach()) if isinstance(o.value, Tensor) and o.value.requires_grad else o
        for name, o in observations.items()
    }
