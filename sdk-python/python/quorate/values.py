"""What calls return besides the native types: plain, immutable, comparable values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["Explanation", "Node", "NodeStats", "Receipt", "Ring", "Sibling", "Stats"]

_CLOCK_COUNTER_BITS = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an answer rested on."""

    answered: tuple[str, ...]
    """The names of the nodes whose answers counted."""
    epoch: int
    """The epoch of the ring under which they counted."""
    need: int
    """How many answers were waited for."""
    durable: int
    """For a write: how many nodes had it on disk when it was acknowledged."""
    stand_ins: int
    """How many of `answered` stood in for owners that could not be reached."""
    repaired: bool
    """For a read: owners that were behind are being sent what they missed."""
    replicas: int
    """How many owners the key has."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """One of the concurrent versions of a key."""

    value: bytes
    """The value; empty when it was not asked for."""
    value_bytes: int
    """The length of the value, also when it was not asked for."""
    clock: int
    """The hybrid logical clock of its write: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16."""
    hash: str
    """XXH3-128 of the value, in 32 hexadecimal digits."""

    @property
    def written_at(self) -> datetime:
        """When it was written, by the clock of the node that took it."""
        return _EPOCH + timedelta(milliseconds=self.clock >> _CLOCK_COUNTER_BITS)


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the ring knows it."""

    name: str
    """What people call it."""
    zone: str
    """The failure domain it stands in."""
    addresses: tuple[str, ...]
    """Where it listens, most preferred first."""
    weight: int
    """Its share of the data relative to the others."""
    leaving: bool
    """Whether it is giving up its data."""


@dataclass(frozen=True, slots=True)
class Ring:
    """The map of the cluster that the client follows now."""

    generation: int
    """Raised when a whole cluster is restored from a backup."""
    epoch: int
    """Counts the maps of a generation."""
    partitions: int
    """How many partitions the keys are divided into."""
    replicas: int
    """How many owners a partition has."""
    nodes: tuple[Node, ...]
    """The nodes."""


@dataclass(frozen=True, slots=True)
class NodeStats:
    """A node as this client sees it."""

    name: str
    """What people call it."""
    connected: bool
    """Whether there is a connection."""
    usable: bool
    """Whether operations are sent there: nothing went wrong lately, or nothing was ever sent."""
    in_flight: int
    """Operations under way to it."""
    latency: float
    """A moving average of the seconds it takes for a batch."""
    load: int
    """How busy it says it is: 0 idle, 255 about to refuse."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a key lives, and who would coordinate it now."""

    id: str
    """Its place on the ring: MD5 of bucket, a zero byte and key, in 32 hexadecimal digits."""
    partition: int
    """The partition that falls into."""
    view: tuple[int, int]
    """The oldest and the newest epoch whose configuration of the partition is active."""
    epoch: int
    """The epoch of the ring that says so."""
    owners: tuple[NodeStats, ...]
    """The owners in order of preference."""
    read_coordinator: str | None
    """Where a read would go now. Reads choose between owners, so the next may go elsewhere."""
    write_coordinator: str | None
    """Where a write would go now."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a client has done since it was made, and what is before it."""

    succeeded: int
    """Operations that succeeded."""
    failed: int
    """Operations that failed."""
    cancelled: int
    """Operations that nobody waited for any more."""
    retries: int
    """Attempts beyond the first."""
    calls: int
    """Calls that were made to nodes, each with a batch of operations."""
    operations_sent: int
    """Operations in these calls."""
    disconnects: int
    """Connections that broke."""
    refreshes: int
    """Times the ring was asked for again."""
    in_flight: int
    """Operations under way."""
    waiting: int
    """Operations that wait for others to end."""
    retry_tokens: int
    """What is left of the budget for retries: a retry costs up to 14, a success brings back 1."""
    epoch: int
    """The epoch of the ring."""
    nodes: tuple[NodeStats, ...]
    """The nodes of the ring."""
