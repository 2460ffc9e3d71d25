"""The five largest eigenvalues of a Hessian: ours against curvlinops with scipy.

Run ``python -m benchmarks.curvature``. It needs scipy, and curvlinops-for-pytorch for the second row.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lightning_landscape import Batch
from lightning_landscape.curvature import lanczos, proved_hessian
from lightning_landscape.objectives.criterion import Criterion

from .workloads import Workload, make

TOP = 5


class Run(NamedTuple):
    """One measurement.

    Args:
        eigenvalues: descending, shape (5,).
        products: of the Hessian with a vector.
    """

    eigenvalues: np.ndarray
    products: int


def trained(samples: int, steps: int = 60) -> Workload:
    """TinyCNN after some steps on its data, since a Hessian at random weights has no outliers."""
    workload = make("W2", samples)
    module = workload.module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    for step in range(steps):
        inputs, labels = workload.batches()[step % len(workload.batches())]
        optimizer.zero_grad()
        F.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    module.eval()
    return workload


def ours(workload: Workload) -> Run:
    """The eigenvalues by ours, with the proof of symmetry."""
    batches = [Batch(pair, len(pair[1]), i) for i, pair in enumerate(workload.batches())]
    with proved_hessian(Criterion(nn.CrossEntropyLoss()), workload.module.net, batches) as hessian:
        run = lanczos(hessian, TOP, lowest=False)
        return Run(run.values[::-1][:TOP], hessian.products)


def by_hand(workload: Workload, tolerance: float = 1e-4) -> Run:
    """The eigenvalues by curvlinops and scipy, with the tolerance of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import LinearOperator, eigsh

        net = workload.module.net
        parameters = [p for p in net.parameters() if p.requires_grad]
        operator = HessianLinearOperator(
            net, nn.CrossEntropyLoss(), parameters, workload.batches(), check_deterministic=False
        )
        counted = 0

        def product(vector: np.ndarray) -> np.ndarray:
            nonlocal counted
            counted += 1
            return (operator @ torch.from_numpy(vector.reshape(-1)).float()).double().numpy()

        scipy_operator = LinearOperator(operator.shape, matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(operator.shape[0])
        values = eigsh(scipy_operator, k=TOP, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)
        return Run(np.sort(values)[::-1], counted)


def main() -> None:
    """Measure both in turn, and print a table."""
    parser = argparse.ArgumentParser("python -m benchmarks.curvature", description="Top eigenvalues of TinyCNN.")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workload = trained(options.samples)
    contenders: dict[str, Callable[[Workload], Run]] = {"ours": ours, "curvlinops + scipy": by_hand}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    runs: dict[str, Run] = {}
    for _ in range(options.rounds):
        for name, measure in contenders.items():
            start = time.perf_counter()
            try:
                runs[name] = measure(workload)
            except ImportError as error:
                print(f"{name}: {error}")
                continue
            seconds[name].append(time.perf_counter() - start)
    print("| | seconds | products | eigenvalues |\n|---|---|---|---|")
    for name, run in runs.items():
        values = ", ".join(f"{value:.5g}" for value in run.eigenvalues)
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {run.products} | {values} |")


if __name__ == "__main__":
    main()
