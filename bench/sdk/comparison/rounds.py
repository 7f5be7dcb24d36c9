"""The measurement: in every round each contender of a row runs once, one after the other, so that whatever else the machine does in these
minutes meets all of them alike. A ratio is taken within a round; of the rounds' ratios and rates the median counts.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import servers
from cases import Client, Contender, Row, Store
from environment import Environment
from histogram import Histogram
from servers import Server
from workers import Measured, Worker, Workload

# Before a contender's first measured stretch of a row it runs unmeasured for this share of one: connections open, code gets warm.
WARM_UP_SHARE = 0.5


@dataclass
class Figures:
    """What a contender of a row did over all rounds."""

    contender: Contender
    rounds: list[Measured] = field(default_factory=list)
    server_ns: list[int] = field(default_factory=list)
    latencies: Histogram = field(default_factory=Histogram)

    @property
    def per_second(self) -> float:
        return statistics.median(measured.per_second for measured in self.rounds)

    @property
    def operations(self) -> int:
        return sum(measured.operations for measured in self.rounds)

    @property
    def client_us(self) -> float:
        """Processor time of the client's process for an operation."""
        return sum(measured.processor_ns for measured in self.rounds) / self.operations / 1000

    @property
    def server_us(self) -> float:
        """Processor time of the server's process for an operation."""
        return sum(self.server_ns) / self.operations / 1000


@dataclass
class Outcome:
    """A row with its figures."""

    row: Row
    ours: Figures
    theirs: list[Figures]

    def ratios(self, theirs: Figures) -> list[float]:
        """Our rate over theirs, round by round."""
        return [one.per_second / other.per_second for one, other in zip(self.ours.rounds, theirs.rounds, strict=True)]

    def ratio(self, theirs: Figures) -> float:
        return statistics.median(self.ratios(theirs))

    @property
    def strongest(self) -> Figures:
        """The fastest of those that our figure is held against."""
        return min((theirs for theirs in self.theirs if theirs.contender.counts), key=self.ratio)


class Field:
    """The stores and workers that have been started, each when it is first needed."""

    def __init__(self, environment: Environment, workload: Workload, scratch: Path, most: int) -> None:
        self.environment, self.workload, self.scratch, self.most = environment, workload, scratch, most
        self.servers: dict[Store, Server] = {}
        self.workers: dict[tuple[Client, Store], Worker] = {}

    def server(self, store: Store) -> Server:
        if store not in self.servers:
            self.servers[store] = servers.start(store, self.scratch / store, self.environment.quorate)
        return self.servers[store]

    def worker(self, contender: Contender) -> Worker:
        key = (contender.client, contender.store)
        if key not in self.workers:
            fresh = contender.store not in self.servers
            endpoint = self.server(contender.store).endpoint
            errors = self.scratch / f"worker-{len(self.workers)}.log"
            worker = Worker(contender.client, endpoint, self.workload, self.most, self.environment, errors)
            self.workers[key] = worker
            if fresh:
                worker.load()
        return self.workers[key]

    def run(self, contender: Contender, row: Row, seconds: float) -> tuple[Measured, int]:
        """One stretch, and the processor time that the server spent on it."""
        worker, server = self.worker(contender), self.server(contender.store)
        before = server.processor_ns()
        measured = worker.run(row.operation, row.in_flight, seconds)
        return measured, server.processor_ns() - before

    def stop(self) -> None:
        with contextlib.ExitStack() as stack:
            for server in self.servers.values():
                stack.callback(server.stop)
            for worker in self.workers.values():
                stack.callback(worker.stop)


@contextlib.contextmanager
def field_of(environment: Environment, workload: Workload, scratch: Path, most: int) -> Iterator[Field]:
    """Everything started is stopped at the end, also after an error."""
    started = Field(environment, workload, scratch, most)
    try:
        yield started
    finally:
        started.stop()


def measure(started: Field, rows: Sequence[Row], rounds: int, seconds: float, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Measures row by row; `done` is told about each."""
    outcomes = []
    for row in rows:
        figures = [Figures(contender) for contender in (row.ours, *row.theirs)]
        for one in figures:
            started.run(one.contender, row, seconds * WARM_UP_SHARE)
        for number in range(rounds):
            # Another one begins in each round, so that nobody always follows the same neighbour.
            first = number % len(figures)
            for one in figures[first:] + figures[:first]:
                measured, server_ns = started.run(one.contender, row, seconds)
                one.rounds.append(measured)
                one.server_ns.append(server_ns)
                one.latencies.add(measured.buckets)
        outcome = Outcome(row, figures[0], figures[1:])
        outcomes.append(outcome)
        done(outcome)
    return outcomes
