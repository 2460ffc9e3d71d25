"""Forked: points side by side in processes of one thread each, which small networks gain more by than by threads."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from ..objectives.base import Batch, Objective
from ..weights.plane import Plane
from .base import Evaluator, EvaluatorWrapper, Measurements, Stream


class Forked(EvaluatorWrapper):
    """An evaluator that measures points in W processes at once: this one and forked workers.

    This process measures every W-th group of `inner.at_once` points, and the workers measure the other groups.

    A worker starts after the first point with all that this process has in memory. It need not prepare or compile
    anything. It sends back plain numbers, and changes nothing in this process. A worker whose step raises, or that
    dies or hangs, is not asked again. This process then measures its point and all later ones. So errors are raised
    here, at the same point as by the evaluator itself. At the end, or when the iteration is closed, no worker is left.

    Each worker costs the memory of the parameters that move, and of a pass (with `kept_memory`, up to 512 MiB).
    Libraries that hold threads of their own may hang in it, which costs the `patience` once.

    Args:
        inner: measures the points, on the CPU.
        processes: W, this one included.
        workers: the maximum of live workers, which streams that take turns share, first come, first served. None for
            W − 1 in each.
        patience: seconds that a worker may take for a point, at least, and 20 times as long as this process.
    """

    def __init__(self, inner: Evaluator, processes: int, workers: int | None = None, patience: float = 10.0) -> None:
        super().__init__(inner)
        self.processes, self.patience = processes, patience
        self._free = sys.maxsize if workers is None else workers
        self._has_lost = False  # a worker that did not end by itself: no other is started

    @property
    def at_once(self) -> int:
        """The number of points that all processes measure together."""
        return self.processes * self.inner.at_once

    @property
    def works_ahead(self) -> bool:
        """True: the workers do."""
        return True

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        points = np.asarray(points, dtype=np.float64)
        processes = 1 + min(self.processes - 1, self._free)
        if self._has_lost or processes < 2 or len(points) < 2 * processes * self.inner.at_once:
            yield from self.inner(objective, plane, points, batches)
            return
        owners = np.arange(len(points)) // self.inner.at_once % processes
        shares = [points[owners == owner] for owner in range(processes)]
        stream = iter(self.inner(objective, plane, shares[0], batches))
        team: list[Worker] = []
        patience, done = self.patience, 0
        self._free -= processes - 1
        try:
            for owner in owners:
                measured: Measurements | None
                if owner == 0:
                    started = time.perf_counter()
                    measured = next(stream)
                    patience = max(patience, 20 * (time.perf_counter() - started))
                else:
                    measured = team[owner - 1].answer(patience)
                if not team:
                    try:
                        for share in shares[1:]:
                            team.append(Worker(self.inner, self.inner(objective, plane, share, batches)))
                    except OSError:  # no more processes, or no memory for one
                        self._has_lost, measured = True, None
                if measured is None:
                    break
                done += 1
                yield measured
        finally:
            self._has_lost |= any([worker.end() for worker in team])
            self._free += processes - 1
        if done < len(points):
            yield from self.inner(objective, plane, points[done:], batches)


class Worker:
    """A forked process that measures points.

    Args:
        evaluator: measures them.
        stream: its measurements of the worker's points, of which none is asked for in this process.

    Raises:
        OSError: if the system starts no more processes.
    """

    def __init__(self, evaluator: Evaluator, stream: Iterator[Measurements]) -> None:
        self._connection, theirs = Pipe()
        self._parent, self._hangs, self._gone = os.getpid(), False, False
        for output in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError):  # there may be no output, or a closed one
                output.flush()  # else the worker writes the same lines again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that may hold a lock
            self.pid = os.fork()
        if self.pid == 0:
            try:
                self._connection.close()  # else this process would not see the parent's end
                _work(theirs, evaluator, stream)
            finally:
                os._exit(0)  # no handlers, no buffers: they are the parent's
        theirs.close()

    def answer(self, patience: float) -> Measurements | None:
        """The next measurements; None if the worker has ended, or is silent for `patience` seconds."""
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
        """End it, if it has not; True if something had gone wrong that may go wrong again."""
        if os.getpid() != self._parent:
            return False  # this is a later fork of the parent
        self._connection.close()
        with suppress(ChildProcessError):  # another caller of wait() has reaped it
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
                _, status = os.waitpid(self.pid, 0)
            return self._hangs or (self._gone and os.WIFSIGNALED(status))
        return self._hangs


def _work(connection: Connection, evaluator: Evaluator, stream: Iterator[Measurements]) -> None:
    """Measure the worker's points and send the values, until the points end, the parent ends or an error comes.

    An error in a worker comes again in the parent. A worker also stops where a batch was cut to fit the memory.
    """
    gc.freeze()  # the parent finalises its own garbage
    _leave_parent()
    parts = evaluator.parts
    for turn, measured in enumerate(stream, 1):
        if evaluator.parts != parts:
            return  # a batch was cut, which the parent must see
        connection.send(measured)
        if turn >= 2 * evaluator.at_once:  # at most two turns ahead of the parent
            connection.recv()


def _leave_parent() -> None:
    """Do without the parent's threads and signal handlers; be the first to go where the memory ends."""
    torch.set_num_threads(1)
    compiler: Any = sys.modules.get("torch._inductor.config")
    if compiler is not None:
        compiler.compile_threads = 1  # its compiler processes are the parent's
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, decides
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
