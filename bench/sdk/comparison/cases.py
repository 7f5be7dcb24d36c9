"""What is compared with what: rows, and the contenders of each. Data only; nothing here runs anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operation = Literal["get", "put"]
Store = Literal["quorate", "redis", "redis-always"]

THREADS = (1, 8)
IN_FLIGHT = (1, 64, 512)


@dataclass(frozen=True)
class Client:
    """A client of some language, as its worker knows it."""

    worker: Literal["python", "node"]
    name: str
    hiredis: bool = True
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class Contender:
    """A client with the store it talks to."""

    client: Client
    store: Store
    # Whether our figure is held against this one: it gives the same promise, and is not a weaker form of another contender.
    counts: bool = True

    def __str__(self) -> str:
        return f"{self.client}, fsync always" if self.store == "redis-always" else str(self.client)


@dataclass(frozen=True)
class Row:
    """One operation at one depth: ours, and whom it is held against."""

    family: str
    operation: Operation
    in_flight: int
    ours: Contender
    theirs: tuple[Contender, ...]
    aim: float

    @property
    def name(self) -> str:
        return f"{self.family} {self.operation} {self.in_flight}"


PYTHON = Client("python", "quorate", label="quorate")
PYTHON_ASYNC = Client("python", "quorate-async", label="quorate")
NODE = Client("node", "quorate")
REDIS_PY = Client("python", "redis-py", label="redis-py + hiredis")
REDIS_PY_PLAIN = Client("python", "redis-py", hiredis=False)
REDIS_ASYNCIO = Client("python", "redis.asyncio", label="redis.asyncio + hiredis")
REDIS_ASYNCIO_PLAIN = Client("python", "redis.asyncio", hiredis=False)
IOREDIS = Client("node", "ioredis")
IOREDIS_PIPELINING = Client("node", "ioredis-pipelining", label="ioredis, auto-pipelining")
NODE_REDIS = Client("node", "node-redis")

# Name, depths, our client, their clients (the weaker form of another last), and the aim for gets at the greatest depth.
FAMILIES = (
    ("python", THREADS, PYTHON, (REDIS_PY, REDIS_PY_PLAIN), 1.0),
    ("asyncio", IN_FLIGHT, PYTHON_ASYNC, (REDIS_ASYNCIO, REDIS_ASYNCIO_PLAIN), 3.0),
    ("node", IN_FLIGHT, NODE, (IOREDIS, IOREDIS_PIPELINING, NODE_REDIS), 1.0),
)

# Forms that are shown for gets, so that everybody can see which is the stronger one, and left out for puts, where every client stands twice.
PLAIN = (REDIS_PY_PLAIN, REDIS_ASYNCIO_PLAIN)


def rows() -> list[Row]:
    """Every row there is, in the order of the table."""
    found = []
    for family, depths, ours, theirs, deepest_aim in FAMILIES:
        for depth in depths:
            contenders = tuple(Contender(client, "redis") for client in theirs)
            aim = deepest_aim if depth == depths[-1] else 1.0
            found.append(Row(family, "get", depth, Contender(ours, "quorate"), contenders, aim))
    for family, depths, ours, theirs, _ in FAMILIES:
        strong = [client for client in theirs if client not in PLAIN]
        for depth in depths:
            # A put is acknowledged when it is on disk, so only a Redis that syncs every write promises as much.
            synced = [Contender(client, "redis-always") for client in strong]
            unsynced = [Contender(client, "redis", counts=False) for client in strong]
            found.append(Row(family, "put", depth, Contender(ours, "quorate"), (*synced, *unsynced), 1.0))
    return found
