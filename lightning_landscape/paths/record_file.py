"""The file of one record: the weights of a module by name, in the format of the safetensors library.

The first 8 bytes are the length of a header in JSON. It has type, shape and place of each tensor. Then come the
numbers. A record in float16 holds differences to another file, divided by one number a tensor.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_CODES = {dtype: code for code, dtype in _TYPES.items()}


class RecordFileError(ValueError):
    """An error for a file that holds no whole record."""


def encode(tensors: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> list[bytes | memoryview]:
    """The content of a file in pieces, which share the memory of the arrays.

    Args:
        tensors: by name, in float16, float32 or float64.
        notes: texts that the header keeps beside them.
    """
    header: dict[str, object] = {"__metadata__": dict(notes)}
    pieces, end = list[bytes | memoryview](), 0
    for name, array in tensors.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        begin, end = end, end + plain.nbytes
        header[name] = {"dtype": _CODES[plain.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        pieces.append(plain.reshape(-1).view(np.uint8).data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *pieces]


def half_differences(
    weights: Mapping[str, NDArray[Any]], first: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """The differences of weights to the first ones in float16, and by name the number that they were divided by."""
    halves, scales = {}, {}
    for name, array in weights.items():
        difference = torch.from_numpy(array) - torch.from_numpy(first[name])
        scale = max(abs(float(end)) for end in difference.aminmax()) if difference.numel() else 0.0
        if not math.isfinite(scale):
            scale = float(torch.where(difference.isfinite(), difference, 0.0).abs().max())
        scales[name] = scale or 1.0
        halves[name] = difference.div_(scales[name]).half().numpy()
    return halves, scales


def half_notes(path: Path, first: Path, scales: Mapping[str, float]) -> dict[str, str]:
    """The notes of a record in float16: where its first record is from here, and its scales."""
    return {"first": Path(os.path.relpath(first, path.parent)).as_posix(), "scales": json.dumps(dict(scales))}


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a record, and the place of its numbers in the file.

    Raises:
        RecordFileError: if the file is no whole record.
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > os.path.getsize(path):
            raise RecordFileError(f"{path} is not a record of weights, or only a part of one.")
        try:
            header: dict[str, Any] = json.loads(file.read(size))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordFileError(f"{path} is not a record of weights.") from error
    if os.path.getsize(path) != 8 + size + end:
        raise RecordFileError(f"{path} is only a part of a record: its {os.path.getsize(path)} bytes are too few.")
    return header, 8 + size


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays in a file, and its notes. Errors as `read_header`."""
    header, place = read_header(path)
    notes = header.pop("__metadata__", {})
    with open(path, "rb") as file:
        file.seek(place)
        numbers = np.fromfile(file, np.uint8)
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        arrays[name] = numbers[begin:end].view(_TYPES[str(entry["dtype"])]).reshape(entry["shape"])
    return arrays, notes


def read_record(path: Path) -> dict[str, Tensor]:
    """The weights in a file by name, on the CPU, with the statistics of BatchNorm; at least in float32.

    Args:
        path: of the file. One in float16 needs its first record, too.

    Raises:
        RecordFileError: if a file is no whole record.
        OSError: if one can't be read.
    """
    arrays, notes = read_arrays(path)
    if "scales" in notes:
        first, _ = read_arrays(path.parent / notes["first"])
        for name, scale in json.loads(notes["scales"]).items():
            arrays[name] = first[name] + arrays[name].astype(first[name].dtype) * first[name].dtype.type(scale)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name in json.loads(notes.get("complex", "[]")):
        tensors[name] = torch.view_as_complex(tensors[name])
    return tensors
