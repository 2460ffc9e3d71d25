"""Named parameters as one vector: selection, norms, dot products, filters and checksums."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .sharding import local, whole

Params = Mapping[str, Tensor]

# Lazy layers belong here, too: a state dict that is loaded into one gives it parameters, but not its final class.
NORMALIZATION_LAYERS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d,
    nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm,
    *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []),
)  # fmt: skip
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class FilterLayout:
    """The split of a weight tensor into filters, along its **output** axis.

    Args:
        axis: 0, or 1 for a transposed convolution, whose weight has the shape (in, out / groups, ...).
        groups: the number of groups along dim 0, which only a transposed convolution needs.
    """

    axis: int = 0
    groups: int = 1

    def rows(self, tensor: Tensor) -> Tensor:
        """`tensor` (at least 2 dims) as one row a filter, shape (filters, weights of a filter)."""
        grouped = tensor.unflatten(0, (self.groups, -1))
        return grouped.movedim(1 + self.axis, 1).flatten(0, 1).flatten(1)

    def scale(self, tensor: Tensor, factors: Tensor) -> Tensor:
        """`tensor` with filter i multiplied by ``factors[i]``; factors has shape (filters,)."""
        grouped = tensor.unflatten(0, (self.groups, -1))
        shape = [1] * grouped.ndim
        shape[0], shape[1 + self.axis] = self.groups, grouped.shape[1 + self.axis]
        return (grouped * factors.reshape(shape).to(tensor.dtype).to(tensor.device)).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A module's perturbed parameters and their roles, as directions need them.

    Args:
        params: the values by canonical name, copied (`Snapshot.of`) or viewed (`Snapshot.view`). A tied parameter
            occurs once. Frozen parameters (``requires_grad=False``) and those on "meta" are left out.
        filters: the split of each tensor into filters.
        normalization: the names of the parameters of normalisation layers.
    """

    params: dict[str, Tensor]
    filters: dict[str, FilterLayout] = field(default_factory=dict)
    normalization: frozenset[str] = frozenset()

    @classmethod
    def of(cls, module: nn.Module, *, buffers: bool = False) -> Snapshot:
        """Copies of a module's weights, which stay as they are when it moves.

        Args:
            module: the module with the trainable parameters.
            buffers: take the floating-point buffers of its state dict (the statistics of BatchNorm) too.

        Raises:
            ValueError: if a parameter is not initialised yet, none is trainable, or two share memory.

        >>> net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> snapshot = Snapshot.of(net)
        >>> sorted(snapshot.params), sorted(snapshot.normalization)
        (['0.bias', '0.weight', '1.bias', '1.weight'], ['1.bias', '1.weight'])
        >>> _ = net[1].weight.data.fill_(7.0)
        >>> snapshot.params["1.weight"]
        tensor([1., 1.])
        """
        live = cls.view(module, buffers=buffers)
        return replace(live, params={name: tensor.clone() for name, tensor in live.params.items()})

    @classmethod
    def view(cls, module: nn.Module, *, buffers: bool = False) -> Snapshot:
        """Detached views of a module's weights, which change with it. See `Snapshot.of` for the arguments."""
        params, filters, normalization = {}, {}, set()
        roles: dict[int, tuple[FilterLayout, bool]] = {}
        for layer in module.modules():
            for key, parameter in layer.named_parameters(recurse=False):
                layout = FilterLayout()
                if isinstance(layer, TRANSPOSED_CONVOLUTIONS) and key == "weight":
                    layout = FilterLayout(axis=1, groups=layer.groups)
                roles.setdefault(id(parameter), (layout, isinstance(layer, NORMALIZATION_LAYERS)))
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad or parameter.is_meta:
                continue
            if is_lazy(parameter):
                raise ValueError(f"Parameter {name!r} has no shape yet: run one batch through the module first.")
            name = canonical_name(name)
            layout, normalizes = roles[id(parameter)]
            params[name], filters[name] = parameter.detach(), layout
            if normalizes:
                normalization.add(name)
        persistent = module.state_dict(keep_vars=True).keys() if buffers else set()
        for name, buffer in module.named_buffers():
            if name in persistent and buffer.is_floating_point():
                params[canonical_name(name)], filters[canonical_name(name)] = buffer.detach(), FilterLayout()
        if not params:
            raise ValueError(
                "The module has no trainable parameter (requires_grad=True): there is no landscape to show."
            )
        _refuse_shared_memory(params)
        return cls(params, filters, frozenset(normalization))


def _refuse_shared_memory(params: Params) -> None:
    """Raises ValueError if two tensors have a number in common, which would have two values at one point."""
    tensors = {name: local(tensor) for name, tensor in params.items()}
    dense = {name: t for name, t in tensors.items() if t.layout is torch.strided and not t.is_nested and t.numel()}
    reaching: list[tuple[int, str]] = []  # the end address and name of each tensor that may reach into the next one
    for name, tensor in sorted(dense.items(), key=lambda item: item[1].data_ptr()):
        reaching = [(end, other) for end, other in reaching if end > tensor.data_ptr()]
        for _, other in reaching:
            if _share_numbers(dense[other], tensor):
                raise ValueError(
                    f"The parameters {other!r} and {name!r} are two, but share their memory: at a point of a "
                    "landscape each would need its own values. Tie them as one parameter (b.weight = a.weight), or "
                    "give one of them a copy (nn.Parameter(a.weight.detach().clone()))."
                )
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        reaching.append((tensor.data_ptr() + (last + 1) * tensor.element_size(), name))


def _share_numbers(a: Tensor, b: Tensor) -> bool:
    """True if two tensors on the same memory have a number in common."""
    unit = math.gcd(a.element_size(), b.element_size())
    marks = torch.zeros(a.untyped_storage().nbytes() // unit, dtype=torch.bool)
    for tensor in (a, b):
        wide = tensor.element_size() // unit
        strides = [stride * wide for stride in tensor.stride()]
        seen = marks.as_strided((*tensor.shape, wide), (*strides, 1), tensor.storage_offset() * wide)
        if seen.any():
            return True
        seen.fill_(True)
    return False


def canonical_name(name: str) -> str:
    """The name of a parameter without the prefix of `torch.compile`: a compiled module gets the same directions.

    >>> canonical_name("net._orig_mod.0.weight")
    'net.0.weight'
    """
    return name.replace("_orig_mod.", "")


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision in which a parameter of this type is displaced: at least float32.

    >>> working_dtype(torch.bfloat16), working_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def same_bits(a: Tensor, b: Tensor) -> bool:
    """True if two dense tensors agree in type, shape and every bit.

    A NaN equals a NaN of the same bits, and -0 differs from 0.

    >>> nan, zero = torch.tensor([float("nan")]), torch.zeros(1)
    >>> same_bits(nan, nan.clone()), same_bits(zero, -zero)
    (True, False)
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    integer = INTEGERS[a.element_size()]
    return torch.equal(a.view(integer), b.view(integer))


CHUNK = 2**20  # numbers that are converted to float64 at a time: 8 MiB


def exact(tensor: Tensor) -> Tensor:
    """The tensor in float64 (complex128), the precision of norms and dot products; on the CPU where MPS lacks it."""
    capable = tensor.cpu() if tensor.device.type == "mps" else tensor
    return capable.to(torch.promote_types(tensor.dtype, torch.float64))


def tensor_norm(tensor: Tensor) -> float:
    """The Euclidean norm of one tensor, accumulated in float64."""
    tensor = whole(tensor)
    return math.sqrt(tensor_dot(tensor, tensor))


def tensor_dot(a: Tensor, b: Tensor) -> float:
    """The real inner product of two tensors of one shape, accumulated in float64."""
    pieces = zip(whole(a).reshape(-1).split(CHUNK), whole(b).reshape(-1).split(CHUNK), strict=True)
    return sum(float(torch.vdot(exact(p), exact(q)).real) for p, q in pieces)


def norm(params: Params) -> float:
    """The Euclidean norm of all tensors as one vector.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    5.0
    """
    return math.hypot(*(tensor_norm(tensor) for tensor in params.values()))


def dot(a: Params, b: Params) -> float:
    """The real inner product of two vectors with the same names, accumulated in float64."""
    return sum(tensor_dot(tensor, b[name]) for name, tensor in a.items())


def filter_norms(tensor: Tensor, layout: FilterLayout) -> Tensor:
    """The norm of every filter of a weight, float64, shape (filters,)."""
    rows = layout.rows(whole(tensor))
    step = max(1, CHUNK // max(1, rows.shape[1]))
    return torch.cat([torch.linalg.vector_norm(exact(part), dim=1) for part in rows.split(step)])


def parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that make up a tensor: indices and values of a sparse one, components of a nested one.

    >>> [part.tolist() for part in parts(torch.tensor([0.0, 3.0]).to_sparse())]
    [[[1]], [3.0]]
    """
    if tensor.is_nested:
        return tuple(tensor.unbind())
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def shape_of(tensor: Tensor) -> tuple[Any, ...]:
    """The shape of a tensor, or the shapes of the components of a nested one.

    >>> shape_of(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged))
    ((2,), (3,))
    """
    return tuple(shape_of(part) for part in parts(tensor)) if tensor.is_nested else tuple(tensor.shape)


def size_in_bytes(tensor: Tensor) -> int:
    """The memory of the numbers of a tensor in bytes, with the indices of a sparse one."""
    return sum(part.nbytes for part in parts(tensor))


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dictionaries.

    >>> [tensor.item() for tensor in tensors_in([torch.tensor(1), {"a": (torch.tensor(2), "b")}])]
    [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)


def is_refused(tensor: Tensor) -> bool:
    """True if `copy.deepcopy` refuses a tensor: it is computed from others, nested, or sparse and compressed."""
    return tensor.grad_fn is not None or tensor.is_nested or len(parts(tensor)) > 2


def checksum(tensors: Iterable[Tensor]) -> str:
    """The XXH3 digest (128 bits, as 32 hexadecimal digits) of types, shapes and bits, the same on every device.

    The digest is as fast as memory is read, and not cryptographic: it protects against no forger.

    >>> zeros, ones = torch.zeros(2), torch.ones(2)
    >>> checksum([zeros]) == checksum([zeros.clone()]), checksum([zeros]) == checksum([ones])
    (True, False)
    """
    digest = xxhash.xxh3_128()
    for tensor in tensors:
        gathered = whole(tensor.detach()).cpu()
        if gathered.is_nested:
            digest.update(f"nested {gathered.layout}{gathered.size(0)}".encode())
        elif gathered.layout is not torch.strided:
            digest.update(f"{gathered.layout}{tuple(gathered.shape)}".encode())
        for part in parts(gathered):
            plain = part.contiguous()
            digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            if plain.numel():  # `Tensor.numpy` would forbid the user to resize the tensor from then on
                digest.update((ctypes.c_char * plain.nbytes).from_address(plain.data_ptr()))
    return digest.hexdigest()
