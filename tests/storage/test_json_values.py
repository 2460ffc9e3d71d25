import enum
import json

import numpy as np
import pytest

from lightning_landscape.storage.json_values import loose, plain, strict


class Mode(str, enum.Enum):
    FILTER = "filter"


def test_text_is_plain_json():
    text = json.dumps(strict(plain({"θ": "精度", "mode": Mode.FILTER, "n": np.uint8(3)})))
    assert text.isascii()
    assert json.loads(text) == {"θ": "精度", "mode": "filter", "n": 3}


@pytest.mark.parametrize("value", [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)])
def test_numpy_numbers_become_python_numbers(value):
    assert type(plain(value)) is float
    assert plain(value) == 0.5


def test_a_deep_value_is_refused():
    deep: list = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(ValueError, match="meta is nested deeper than 50"):
        plain({"deep": deep})


def test_the_caller_keeps_his_values():
    meta = {"range": (1, 2), "n": np.int64(3)}
    plain(meta)
    assert isinstance(meta["range"], tuple)
    assert isinstance(meta["n"], np.int64)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_that_json_lacks_return_from_strict_json(odd):
    given = {"a": odd, "b": [[odd]], "$c": {"$float": "NaN"}, "$$d": {"$float": odd}}
    text = json.dumps(strict(plain(given)), allow_nan=False)
    expected = {"a": float(odd), "b": [[float(odd)]], "$c": {"$float": "NaN"}, "$$d": {"$float": float(odd)}}
    assert repr(loose(json.loads(text, parse_constant=refuse))) == repr(expected)
