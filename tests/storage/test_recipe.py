import enum
import json

import numpy as np
import pytest

from lightning_landscape.storage.recipe import from_json, plain, to_json


class Mode(str, enum.Enum):
    FILTER = "filter"


def test_text_is_ascii_and_plain_json():
    text = to_json({"θ": "精度", "mode": Mode.FILTER, "n": np.uint8(3)})
    assert text.isascii()
    assert json.loads(text) == {"θ": "精度", "mode": "filter", "n": 3}


@pytest.mark.parametrize("value", [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)])
def test_numpy_numbers_become_python_numbers(value):
    assert type(plain(value)) is float
    assert plain(value) == 0.5


def test_a_deep_recipe_is_refused():
    deep: list = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(ValueError, match="meta is nested deeper than 50"):
        to_json({"deep": deep})


def test_the_caller_keeps_his_recipe():
    meta = {"range": (1, 2), "n": np.int64(3)}
    to_json(meta)
    assert isinstance(meta["range"], tuple)
    assert isinstance(meta["n"], np.int64)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_that_json_lacks_return_from_strict_json(odd):
    text = to_json({"a": odd, "b": [[odd]], "$c": {"$float": "NaN"}, "$$d": {"$float": odd}})
    json.loads(text, parse_constant=refuse)
    expected = {"a": float(odd), "b": [[float(odd)]], "$c": {"$float": "NaN"}, "$$d": {"$float": float(odd)}}
    assert repr(from_json(text)) == repr(expected)


def test_a_recipe_is_an_object():
    with pytest.raises(ValueError, match="the recipe is a int, not a JSON object"):
        from_json("3")
