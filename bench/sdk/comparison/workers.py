"""The processes that hold the clients: started here, told what to do in lines of JSON, and given up on when they do not answer in time."""

from __future__ import annotations

import json
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import Client, Operation
from environment import Environment
from servers import end_with_parent

# What a worker may take beyond the seconds it was told to run: connecting, loading, counting.
PATIENCE_S = 60.0
ERROR_BYTES_SHOWN = 4000


class WorkerError(Exception):
    """A worker failed or did not answer; what it printed is in the text."""


@dataclass(frozen=True)
class Workload:
    """What every client does alike."""

    keys: int
    value_bytes: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """One stretch of one client."""

    operations: int
    elapsed_ns: int
    processor_ns: int
    buckets: list[tuple[int, int]]

    @property
    def per_second(self) -> float:
        return self.operations / self.elapsed_ns * 1e9


class Worker:
    """One client in a process of its own."""

    def __init__(self, client: Client, endpoint: str, workload: Workload, most: int, environment: Environment, errors: Path) -> None:
        self.name = str(client)
        self.errors = errors
        with errors.open("wb") as output:
            self.process = subprocess.Popen(
                environment.worker_command(client.worker),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=environment.worker_folder(client.worker),
                env=environment.worker_variables(),
                preexec_fn=end_with_parent,
            )
        opening = {"client": client.name, "hiredis": client.hiredis, "endpoint": endpoint, "most": most, **vars(workload)}
        self.answer(opening, 0)

    def load(self) -> None:
        self.answer({"do": "load"}, 0)

    def run(self, operation: Operation, in_flight: int, seconds: float) -> Measured:
        command = {"do": "run", "operation": operation, "in_flight": in_flight, "seconds": seconds}
        return Measured(**self.answer(command, seconds))

    def answer(self, command: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        until = time.monotonic() + seconds + PATIENCE_S
        line = b""
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                while not line.endswith(b"\n"):
                    if not selector.select(max(0.0, until - time.monotonic())):
                        raise self.failed(f"did not answer within {seconds + PATIENCE_S:.0f} s")
                    part = self.process.stdout.read1()  # type: ignore[attr-defined]
                    if not part:
                        raise self.failed("ended")
                    line += part
        except BrokenPipeError:
            raise self.failed("ended") from None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def failed(self, how: str) -> WorkerError:
        self.process.kill()
        self.process.wait()
        printed = self.errors.read_text(errors="replace")[-ERROR_BYTES_SHOWN:]
        return WorkerError(f"the worker of {self.name} {how}; it printed:\n{printed}")

    def stop(self) -> None:
        """Lets it close its client; a worker that can't is ended, and that is an error of its client."""
        if self.process.poll() is not None:
            return
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise self.failed("did not close its client") from None
        if self.process.returncode != 0:
            raise self.failed(f"closed with exit code {self.process.returncode}")
