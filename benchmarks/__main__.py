"""``python -m benchmarks``: measures all workloads and prints the report; see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lightning
import numpy as np
import torch

import lightning_landscape

from .contenders import Careful, Contender, Tolerant, ours
from .limits import faster, limits
from .peers import installed
from .rounds import compete
from .table import markdown
from .workloads import WORKLOADS, make


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write to ``--out``."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rounds = options.rounds or (2 if options.quick else 5)
    peers, versions = installed()
    contenders: list[Contender] = [*ours(), Careful(), *peers]
    tolerant = {} if options.quick else {name: Tolerant(t) for name, kind in WORKLOADS.items() if (t := kind.tolerance)}
    started, load = time.monotonic(), os.getloadavg()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {text}", file=sys.stderr, flush=True)

    # "first" means that nothing was compiled before
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        size, seconds = (1024, 0.3) if options.quick else (2048, 1.0)
        say("the limits of this machine")
        rates = limits(size, seconds)
        results = []
        for name in options.workloads:
            workload = make(name, WORKLOADS[name].quick if options.quick else WORKLOADS[name].samples)
            here = [*contenders, tolerant[name]] if name in tolerant else contenders
            check, budget = (2, 0.3) if options.quick else (3, 10.0)
            results.append(compete(workload, here, rounds=rounds, budget=budget, check=check, say=say))
        rates = faster(rates, limits(size, seconds))
    about = {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "run": f"`{' '.join(['python -m benchmarks', *(sys.argv[1:] if arguments is None else arguments)])}`, "
        f"{rounds} rounds, {time.monotonic() - started:.0f} s"
        + ("; **quick**: fewer samples and points, for a first look" if options.quick else ""),
        "machine": f"{processor()}, {cores()} cores, {options.threads} threads",
        "load": told_load(load[0], os.getloadavg()[0], options.threads),
        "versions": f"lightning_landscape {lightning_landscape.__version__} ({commit()}), torch {torch.__version__}, "
        f"Lightning {lightning.__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
        "peers": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "totals": "≈ where extrapolated from the cost of a point",
    }
    used = [*contenders, *(tolerant[name] for name in options.workloads if name in tolerant)]
    report = markdown(about, rates, results, {contender.name: contender.note for contender in used})
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m benchmarks", description="Landscapes against a careful baseline.")
    result.add_argument("--quick", action="store_true", help="fewer samples, points and rounds: minutes, not an hour")
    result.add_argument("--workloads", type=_workloads, default=list(WORKLOADS), help="e.g. W1,W2; all by default")
    result.add_argument("--rounds", type=_positive, help="5, or 2 with --quick, by default")
    result.add_argument("--threads", type=_positive, default=cores(), help="of torch; one a core by default")
    result.add_argument("--out", type=Path, help="write the report to this file, too")
    return result


def _workloads(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in WORKLOADS:
            raise argparse.ArgumentTypeError(f"{name!r} is unknown; the choices are {', '.join(WORKLOADS)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def told_load(before: float, after: float, threads: int) -> str:
    """The 1-minute averages; and a warning where something else was running."""
    told = f"{before:.1f} before, {after:.1f} after (1-minute averages; the benchmark alone gives 0 and {threads})"
    busy = before > 0.3 * threads or after > 1.3 * threads
    return told + ("; **something else was running: the figures are not reliable**" if busy else "")


def commit() -> str:
    """The short hash of this working tree."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return "no git"
    return done.stdout.strip() or "no git"


if __name__ == "__main__":
    main()
