"""Forked: points side by side in processes of one thread each, which small networks gain more by than by threads."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from ..objectives.base import Batch, Objective
from ..weights.plane import Plane
from .base import Evaluator, Measurement
from .wrapper import Around

AHEAD = 2  # turns that a worker may be ahead of what is asked for
PATIENCE = 10.0  # seconds at least that a worker may take for a point, and
SLOWER = 20.0  # times what this process takes for one


class Forked(Around):
    """An evaluator that measures points in W processes at once: this one and forked workers.

    This process measures every W-th group of `inner.at_once` points, and the workers measure the other groups.

    A worker starts with all that this process has in memory, after the first point, so that it need not prepare or
    compile anything, and sends back plain numbers; nothing that it does is seen here. A worker whose step raises, or
    that dies or hangs, is not asked again: this process measures its point and those after it, so that errors are
    raised here, at the same point as by the evaluator itself. At the end, or when the iteration is closed, no worker
    is left.

    Each worker costs the memory of the parameters that move, and of a pass (with `kept_memory`, up to 512 MiB).
    Libraries that hold threads of their own may hang in it, which costs `PATIENCE` once.

    Args:
        inner: measures the points, on the CPU.
        processes: W, this one included.
        workers: at most so many live at a time; streams that take turns share them, first come, first served. None for
            W − 1 in each.
    """

    def __init__(self, inner: Evaluator, processes: int, workers: int | None = None) -> None:
        super().__init__(inner)
        self.processes = processes
        self._free = sys.maxsize if workers is None else workers
        self._lost = False  # a worker that did not end by itself: no other is started

    @property
    def at_once(self) -> int:
        """The number of points that all processes measure together."""
        return self.processes * self.inner.at_once

    @property
    def works_ahead(self) -> bool:
        """The workers do."""
        return True

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[dict[str, Measurement], None, None]:
        """Yield the measurements of each point, in the order of `points`; see `Sequential`."""
        points = np.asarray(points, dtype=np.float64)
        processes = 1 + min(self.processes - 1, self._free)
        if self._lost or processes < 2 or len(points) < 2 * processes * self.inner.at_once:
            yield from self.inner(objective, plane, points, batches)
            return
        owners = np.arange(len(points)) // self.inner.at_once % processes
        shares = [points[owners == owner] for owner in range(processes)]
        own = iter(self.inner(objective, plane, shares[0], batches))
        team: list[Worker] = []
        patience, done = PATIENCE, 0
        self._free -= processes - 1
        try:
            for owner in owners:
                measured: dict[str, Measurement] | None
                if owner == 0:
                    started = time.perf_counter()
                    measured = next(own)
                    patience = max(patience, SLOWER * (time.perf_counter() - started))
                else:
                    measured = team[owner - 1].answer(patience)
                if not team:
                    try:
                        for share in shares[1:]:
                            team.append(Worker(self.inner, objective, plane, share, batches))
                    except OSError:  # no more processes, or no memory for one
                        self._lost, measured = True, None
                if measured is None:
                    break
                done += 1
                yield measured
        finally:
            self._lost |= any([worker.end() for worker in team])
            self._free += processes - 1
        if done < len(points):
            yield from self.inner(objective, plane, points[done:], batches)


class Worker:
    """A forked process that measures points.

    Args:
        evaluator: what measures them.
        objective: what is measured.
        plane: on which it is measured.
        points: shape (n, k).
        batches: the frozen data.

    Raises:
        OSError: if the system starts no more processes.
    """

    def __init__(
        self, evaluator: Evaluator, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> None:
        self._connection, theirs = Pipe()
        self._parent, self._hangs, self._gone = os.getpid(), False, False
        for written in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError):  # there may be none, or a closed one
                written.flush()  # else the worker has the same lines to write
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads are not forked: what if one holds a lock?
            self.pid = os.fork()
        if self.pid == 0:
            try:
                self._connection.close()  # or the parent's end would not be known here
                _work(theirs, evaluator, evaluator(objective, plane, points, batches))
            finally:
                os._exit(0)  # no handlers, no buffers: they are the parent's
        theirs.close()

    def answer(self, patience: float) -> dict[str, Measurement] | None:
        """The next measurements; None if the worker has ended, or says nothing for so many seconds."""
        try:
            self._hangs = not self._connection.poll(patience)
            if not self._hangs:
                measured = self._connection.recv()
                self._connection.send(None)
                return measured
        except (EOFError, OSError):
            self._gone = True
        return None

    def end(self) -> bool:
        """End it, if it has not; whether something had gone wrong that may go wrong again."""
        if os.getpid() != self._parent:
            return False  # somebody has forked the parent since
        self._connection.close()
        with suppress(ChildProcessError):  # somebody has waited for all processes: it is no more
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
                _, status = os.waitpid(self.pid, 0)
            return self._hangs or (self._gone and os.WIFSIGNALED(status))
        return self._hangs


def _work(connection: Connection, evaluator: Evaluator, stream: Iterator[dict[str, Measurement]]) -> None:
    """Measure the worker's points and send the values, until the points end, the parent ends or an error comes.

    An error in a worker comes again in the parent. A worker also stops where a batch was cut to fit the memory.
    """
    gc.freeze()  # what the parent has thrown away is for the parent to finalise
    _on_its_own()
    parts = evaluator.parts
    for turn, measured in enumerate(stream, 1):
        if evaluator.parts != parts:
            return  # a batch was cut: the parent does that for itself
        connection.send(measured)
        if turn >= AHEAD * evaluator.at_once:
            connection.recv()


def _on_its_own() -> None:
    """Without the parent's threads and signal handlers; where the memory ends, a worker goes first."""
    torch.set_num_threads(1)
    compiler: Any = sys.modules.get("torch._inductor.config")
    if compiler is not None:
        compiler.compile_threads = 1  # the others are the parent's
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, decides
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
