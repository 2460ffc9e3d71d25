"""Files of records: the bytes as the format defines them, float16 within its rounding, broken files refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_landscape.paths.record_file import (
    RecordFileError,
    encode,
    half_differences,
    half_notes,
    read_record,
)
from lightning_landscape.storage.atomic import write_whole


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    """As the page of safetensors has it: length, header, numbers."""
    content = b"".join(encode({"a": np.array([[1, 2]], "<f4"), "b": np.array(3, "<f2")}, {"step": "7"}))
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0
    assert json.loads(content[8 : 8 + size]) == {
        "__metadata__": {"step": "7"},
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [], "data_offsets": [8, 10]},
    }
    assert content[8 + size :] == np.array([1, 2], "<f4").tobytes() + np.array(3, "<f2").tobytes()
    path = write_whole(tmp_path / "a.safetensors", content)
    assert {name: tensor.tolist() for name, tensor in read_record(path).items()} == {"a": [[1, 2]], "b": 3}


def test_float16_differences_are_close_whatever_their_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = {
        "large": 100 * rng.standard_normal(1000, np.float32),
        "small": 1e-3 * rng.standard_normal((3, 5), np.float32),
    }
    moved = {name: array + 0.01 * array * rng.standard_normal(array.shape, np.float32) for name, array in first.items()}
    base = write_whole(tmp_path / "first.safetensors", *encode(first, {}))
    halves, scales = half_differences(moved, first)
    path = tmp_path / "other" / "second.safetensors"
    write_whole(path, *encode({**halves, "mean": np.ones(2, "<f4")}, half_notes(path, base, scales)))
    read = read_record(path)
    assert read["mean"].tolist() == [1, 1]
    for name, array in moved.items():
        largest = np.abs(array - first[name]).max()
        assert np.abs(read[name].numpy() - array).max() < 2**-11 * largest + 2**-23 * np.abs(array).max()
    assert path.stat().st_size < base.stat().st_size


def test_weights_that_are_not_finite_stay_so(tmp_path: Path) -> None:
    first = {"w": np.zeros(4, "<f4"), "still": np.ones(2, "<f4")}
    odd = {"w": np.array([np.nan, np.inf, -np.inf, 2], "<f4"), "still": np.ones(2, "<f4")}
    base = write_whole(tmp_path / "first", *encode(first, {}))
    halves, scales = half_differences(odd, first)
    path = write_whole(tmp_path / "odd", *encode(halves, half_notes(tmp_path / "odd", base, scales)))
    np.testing.assert_array_equal(read_record(path)["w"].numpy(), odd["w"])
    np.testing.assert_array_equal(read_record(path)["still"].numpy(), odd["still"])


@pytest.mark.parametrize("broken", [b"", b"\x01", b"not a record at all", None])
def test_what_is_no_whole_record_is_refused(tmp_path: Path, broken: bytes | None) -> None:
    content = b"".join(encode({"a": np.ones(100, "<f4")}, {}))
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content[:-4] if broken is None else broken)
    with pytest.raises(RecordFileError, match="record"):
        read_record(path)


def test_complex_weights_come_back(tmp_path: Path) -> None:
    value = torch.tensor([1 + 2j, 3 - 4j])
    content = encode({"w": torch.view_as_real(value).numpy()}, {"complex": '["w"]'})
    assert torch.equal(read_record(write_whole(tmp_path / "c", *content))["w"], value)
