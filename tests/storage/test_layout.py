import itertools

import pytest

from lightning_landscape.storage.layout import convention, data_set_names


@pytest.mark.parametrize("names", [*itertools.permutations(["a/b", "a_b", "a.b", "a_b_2"])])
def test_names_stay_apart_in_any_order(names):
    found = data_set_names(names)
    assert list(found) == list(names)
    assert len({*found.values()}) == 4
    assert found["a_b"] == "a_b"
    assert found["a_b_2"] == "a_b_2"


@pytest.mark.parametrize(
    "name", ["done", "samples", "standard_errors", "xcoordinates", "axis3coordinates", "x", "z", "axis3"]
)
def test_names_that_files_use_themselves_are_left_to_them(name):
    assert data_set_names([name]) == {name: f"{name}_2"}


def test_names_hold_no_path():
    names = data_set_names(["/", ".", "..", "", "a/../b", "x" * 999]).values()
    assert all(name.isidentifier() and len(name) <= 110 for name in names)


@pytest.mark.parametrize(
    "ndim, words",
    [
        (1, "values[i] is the value at (x_i)"),
        (3, "values[i, j, k] is the value at (x_i, y_j, z_k)"),
        (4, "values[i, j, k, l] is the value at (x_i, y_j, z_k, axis3_l)"),
    ],
)
def test_the_convention_names_each_index(ndim, words):
    assert convention(ndim) == words
