import numpy as np
import pytest

from lightning_landscape.landscape import Sample, Samples
from lightning_landscape.storage.columns import from_columns, to_columns


def test_a_fact_that_nobody_has_is_left_out():
    columns = to_columns(Samples(np.zeros((2, 3)), (Sample(0, 1.0), Sample(1, 2.0, probability=0.5))))
    assert set(columns) == {"index", "center", "probability", "probability_known"}


def test_a_class_that_is_no_whole_number_is_refused():
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        to_columns(Samples(np.zeros((1, 3)), (Sample(0, 1.0, label=3.5),)))


def test_facts_return_as_plain_python_values():
    items = (Sample(np.int64(4), np.float32(0.5), label=np.int32(1), probability=np.float32(0.25)),)
    values = np.zeros((1, 3))
    item = from_columns(values, to_columns(Samples(values, items))).items[0]
    assert repr(item) == repr(Sample(4, 0.5, label=1, probability=0.25))


def test_a_column_without_its_mask_is_told():
    columns = to_columns(Samples(np.zeros((1, 3)), (Sample(0, 1.0, label=1),)))
    del columns["label_known"]
    with pytest.raises(KeyError, match="label_known"):
        from_columns(np.zeros((1, 3)), columns)
