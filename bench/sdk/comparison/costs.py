"""`bench/sdk/costs`: where the time of our own calls goes, as processor time for an operation, by thread.

The interpreter's share is that of the same loop with a client that does nothing; what the interpreter's thread takes beyond it is the
bridge. The I/O thread is the client's core and its side of the RPC. In the node, worker threads are the other side of the RPC, the
coordinator and reads of the store; store threads are its commits.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cases import Client, Row, rows
from environment import Environment, prepare
from rounds import Field, field_of
from servers import threads_ns
from workers import Worker, Workload

SECONDS = 1.0
WARM_UP_SECONDS = 0.5
WORKLOAD = Workload(keys=10_000, value_bytes=100, seed=1)
HEADER = f"{'us of processor time':18}{'loop':>9}{'bridge':>9}{'core+RPC':>10}{'node':>9}{'commits':>9}{'in all':>9}{'wall':>9}"


@dataclass(frozen=True)
class Split:
    """Microseconds for an operation."""

    loop: float
    bridge: float
    core: float
    node: float
    commits: float
    wall: float

    def __str__(self) -> str:
        together = self.loop + self.bridge + self.core + self.node + self.commits
        return f"{self.loop:9.2f}{self.bridge:9.2f}{self.core:10.2f}{self.node:9.2f}{self.commits:9.2f}{together:9.2f}{self.wall:9.2f}"


def nothing(client: Client) -> Client:
    return replace(client, name=client.name.replace("quorate", "nothing"), label="nothing")


def split(started: Field, row: Row, idle: Worker) -> Split:
    worker, server = started.worker(row.ours), started.server("quorate")
    worker.run(row.operation, row.in_flight, WARM_UP_SECONDS)
    client_before, server_before = threads_ns(worker.process.pid), threads_ns(server.process.pid)
    measured = worker.run(row.operation, row.in_flight, SECONDS)
    server_used = threads_ns(server.process.pid) - server_before
    io_thread = (threads_ns(worker.process.pid) - client_before)["quorate-io"]

    def each(nanoseconds: float) -> float:
        return nanoseconds / measured.operations / 1000

    alone = idle.run(row.operation, row.in_flight, SECONDS)
    loop = min(alone.processor_ns / alone.operations / 1000, each(measured.processor_ns - io_thread))
    return Split(
        loop=loop,
        bridge=each(measured.processor_ns - io_thread) - loop,
        core=each(io_thread),
        node=each(sum(used for name, used in server_used.items() if name != "store")),
        commits=each(server_used["store"]),
        wall=each(measured.elapsed_ns),
    )


def idle_worker(client: Client, environment: Environment, scratch: Path) -> Worker:
    """A worker whose client does nothing, with its keys in place."""
    worker = Worker(nothing(client), "nowhere:0", WORKLOAD, 1, environment, scratch / f"nothing-{client.worker}-{client.name}.log")
    worker.load()
    return worker


def main() -> int:
    wanted = [row for row in rows() if len(sys.argv) == 1 or any(word in row.name for word in sys.argv[1:])]
    environment = prepare(build=True)
    idle: dict[Client, Worker] = {}
    with tempfile.TemporaryDirectory(prefix="quorate-bench-") as folder:
        scratch = Path(folder)
        with field_of(environment, WORKLOAD, scratch, 1) as started:
            print(HEADER, flush=True)
            for row in wanted:
                client = row.ours.client
                if client not in idle:
                    idle[client] = idle_worker(client, environment, scratch)
                print(f"{row.name:18}{split(started, row, idle[client])}", flush=True)
            for worker in idle.values():
                worker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
