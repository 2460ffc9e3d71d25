"""LossFunction: what a user's function may return, and what is said when it returns something else."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.objectives.base import Batch, LossFunction, Objective, Observation

MODULE = nn.Identity()
BATCH = Batch(torch.tensor([1.0, 2.0, 6.0]), size=3)


def test_the_function_is_given_the_module_and_the_data():
    seen = []
    LossFunction(lambda module, data: seen.append((module, data)) or 0.0)(MODULE, BATCH)
    assert seen[0][0] is MODULE
    assert seen[0][1] is BATCH.data


def test_a_bare_tensor_is_the_loss_weighted_by_the_batch():
    (name, observation), *rest = LossFunction(lambda m, x: x.mean(), name="val_loss")(MODULE, BATCH).items()
    assert (name, observation.value.item(), observation.weight, observation.reduce) == ("val_loss", 3.0, 3, "mean")
    assert not rest


def test_one_value_a_sample_is_kept():
    observation = LossFunction(lambda m, x: x**2)(MODULE, BATCH)["loss"]
    assert observation.value.tolist() == [1, 4, 36]
    assert observation.weight == 3


def test_a_mapping_names_its_metrics_and_loss_gets_the_objectives_name():
    objective = LossFunction(lambda m, x: {"accuracy": 0.5, "loss": x.mean(), 3: torch.tensor([2.0])}, "train_loss")
    observations = objective(MODULE, BATCH)
    assert list(observations) == ["accuracy", "train_loss", "3"]
    assert observations["accuracy"] == Observation(0.5, 3)
    assert objective.main(list(observations)) == "train_loss"


def test_without_a_loss_the_first_metric_is_the_main_one():
    objective = LossFunction(lambda m, x: {"error": 1.0, "f1": 2.0})
    assert objective.main(list(objective(MODULE, BATCH))) == "error"


@pytest.mark.parametrize("value", [None, "0.5", [1.0], np.zeros(3)])
def test_another_type_says_what_to_return(value):
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"objective returned {kind} for 'loss': return a tensor, or a mapping"):
        LossFunction(lambda m, x: value)(MODULE, BATCH)
    with pytest.raises(TypeError, match=f"objective returned {kind} for 'f1'"):
        LossFunction(lambda m, x: {"loss": 0.0, "f1": value})(MODULE, BATCH)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 3), (3, 10), (0,)])
def test_another_shape_says_which_two_are_right(shape):
    with pytest.raises(
        ValueError, match=rf"shape \({', '.join(map(str, shape))},?\) for 'loss': return shape \(\) .*\(3,\)"
    ):
        LossFunction(lambda m, x: torch.zeros(shape))(MODULE, BATCH)


def test_the_protocol_has_nothing_to_do_by_default():
    objective = Objective()
    assert objective.rehearse(MODULE, BATCH) is None
    assert objective.start() is None
    assert objective.finish() == {}
    assert objective.main(["b", "a"]) == "b"
    with pytest.raises(NotImplementedError):
        objective(MODULE, BATCH)
