"""The rule of attention: heads are permuted as a whole, and within each head queries with keys, and values."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .units import Placed, join
from .watch import Watch

INPUTS = ("query", "key", "value")


def attend(watch: Watch, output: tuple[Tensor, Any], *args: Any, **options: Any) -> None:
    """The rule of `torch.nn.functional.multi_head_attention_forward`."""
    given = dict(zip(F.multi_head_attention_forward.__code__.co_varnames, args, strict=False)) | options
    weight, projection = given["out_proj_weight"], given.get("in_proj_weight")
    separate: list[Any] = [given.get(f"{name[0]}_proj_weight") for name in INPUTS]
    size = weight.shape[1]
    queries, values, is_new = watch.heads(separate[0] if projection is None else projection, size, given["num_heads"])
    rows = (queries, queries, values)
    features = [watch.labels(given[name])[-1] for name in INPUTS]
    for i, units in enumerate(rows):
        packed = projection is not None
        matrix: Any = projection if packed else separate[i]
        join(features[i], watch.axis(matrix, 1))
        if is_new:
            watch.tie(matrix, 0, i * size if packed else 0, Placed(units))
    if is_new:
        for i, units in enumerate(rows):
            if given["in_proj_bias"] is not None:
                watch.tie(given["in_proj_bias"], 0, i * size, Placed(units))
        for vector, units in ((given["bias_k"], queries), (given["bias_v"], values)):
            if vector is not None:
                watch.tie(vector, 2, 0, Placed(units))
        watch.tie(weight, 1, 0, Placed(values))
    out = watch.axis(weight, 0)
    if given["out_proj_bias"] is not None:
        out = join(out, watch.axis(given["out_proj_bias"], 0))
    watch.put(output[0], [*watch.labels(given["query"])[:-1], out])
