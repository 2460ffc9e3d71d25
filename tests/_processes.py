"""Two processes of a program here, as torchrun would start them, and what they have said in the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ._limits import HANG


def start(program: str, rank: int, port: str, out: Path, mode: str) -> subprocess.Popen[bytes]:
    """One process; its standard error goes to a file."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    environment |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.{program}", str(out), mode]
    with (out / f"errors{rank}.txt").open("w") as errors:
        return subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1], stderr=errors)


def run(program: str, out: Path, mode: str) -> list[str]:
    """The standard errors of both; nobody but the limit stops a rank that waits."""
    out.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [start(program, rank, port, out, mode) for rank in (0, 1)]
    end = time.monotonic() + HANG
    try:
        codes = [process.wait(end - time.monotonic()) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
        errors = [(out / f"errors{rank}.txt").read_text() for rank in (0, 1)]
    assert codes == [0, 0], errors[0][-3000:] + errors[1][-3000:]
    return errors
