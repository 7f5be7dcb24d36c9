"""The native half of the package: conversions and waiting. Private, except for the types that `quorate` exports."""

from asyncio import Future
from collections.abc import Iterable
from typing import Any, ClassVar, Self, final

from quorate._types import Data, Entries, Level, Resolver
from quorate.errors import QuorateError
from quorate.values import Explanation, Receipt, Ring, Sibling, Stats

__all__ = [
    "Absent",
    "AsyncBucket",
    "Bucket",
    "Context",
    "Found",
    "Mailbox",
    "ScanPages",
    "Scanned",
    "Stored",
    "Update",
    "__version__",
    "connect",
    "connect_async",
    "forked",
]

__version__: str

@final
class Context:
    """Which versions of a key a read saw. Hand it back with the put or delete that replaces them; it means nothing for any other
    key. Opaque, immutable, hashable and picklable; its text is base64url, the same in every language and in the command line."""

    EMPTY: ClassVar[Context]
    """The context of having seen nothing: a put under it adds a version beside whatever there is."""

    @staticmethod
    def from_bytes(data: bytes, /) -> Context:
        """A context from what `bytes(context)` gave. Whether it is genuine is for the nodes to say."""
    @staticmethod
    def parse(text: str, /) -> Context:
        """A context from what `str(context)` gave."""
    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen."""
    def __bytes__(self) -> bytes: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Found:
    """The values of a key."""

    @property
    def value(self) -> bytes:
        """The value. Concurrent values become one by the bucket's resolver; without one they raise `SiblingsError`."""
    @property
    def values(self) -> tuple[bytes, ...]:
        """Every concurrent value, at least one, the one that was written last at the end."""
    @property
    def siblings(self) -> tuple[Sibling, ...]:
        """Every concurrent version, in the order of `values`."""
    @property
    def is_conflict(self) -> bool:
        """Whether there are concurrent values."""
    @property
    def context(self) -> Context:
        """Covers everything that was seen: a put or delete under it replaces exactly these values."""
    @property
    def receipt(self) -> Receipt:
        """What the answer rested on."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Absent:
    """The absence of values. It is false where a truth value is wanted."""

    @property
    def context(self) -> Context:
        """Covers the deletions that were seen; a put under it replaces exactly that."""
    @property
    def receipt(self) -> Receipt:
        """What the answer rested on."""
    def __bool__(self) -> bool: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Stored:
    """The answer to a put or a delete."""

    @property
    def context(self) -> Context | None:
        """The context after this write, if the new version stands alone; `None` when siblings stand beside it: get first."""
    @property
    def siblings(self) -> int:
        """How many live versions the key has now, this one included."""
    @property
    def clock(self) -> int:
        """The hybrid logical clock of the write: milliseconds since 1970 in the upper 48 bits."""
    @property
    def receipt(self) -> Receipt:
        """What the acknowledgement rested on."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Scanned:
    """A key that a scan came by."""

    @property
    def bucket(self) -> str:
        """Its bucket."""
    @property
    def key(self) -> bytes:
        """The key."""
    @property
    def siblings(self) -> int:
        """How many live versions it has."""
    @property
    def value_bytes(self) -> int:
        """Bytes of its live values together."""
    @property
    def found(self) -> Found | None:
        """Its values, when they were asked for."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Update:
    """An update under way: read, merge, write, and again if somebody else was quicker."""

    def remaining(self) -> float: ...
    def overdue(self) -> QuorateError: ...

@final
class ScanPages:
    """A scan under way, page by page."""

@final
class Bucket:
    """A bucket whose calls block until they have ended."""

    @property
    def name(self) -> str: ...
    def bucket(
        self,
        name: str,
        level: Level | None,
        r: int | None,
        w: int | None,
        timeout: float | None,
        resolver: Resolver | None,
        /,
    ) -> Self: ...
    def ring(self) -> Ring: ...
    def begin_update(
        self, key: Data, level: Level | None, r: int | None, w: int | None, n: int | None, timeout: float | None, /
    ) -> Update: ...
    def scan_pages(
        self,
        values: bool,
        all_buckets: bool,
        level: Level | None,
        r: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> ScanPages: ...
    def get(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Found | None: ...
    def lookup(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Found | Absent: ...
    def exists(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> bool: ...
    def put(
        self,
        key: Data,
        value: Data,
        context: Context | None,
        ttl: float | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> Stored: ...
    def delete(
        self,
        key: Data,
        context: Context | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> Stored: ...
    def get_many(
        self, keys: Iterable[Data], level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> list[Found | None | QuorateError]: ...
    def put_many(
        self,
        entries: Entries,
        ttl: float | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> list[Stored | QuorateError]: ...
    def delete_many(
        self, keys: Iterable[Data], level: Level | None, w: int | None, n: int | None, timeout: float | None, /
    ) -> list[Stored | QuorateError]: ...
    def update_read(self, update: Update, /) -> list[bytes]: ...
    def update_write(self, update: Update, value: Data, /) -> Stored | None: ...
    def scan_page(self, pages: ScanPages, /) -> list[Scanned]: ...
    def explain(self, key: Data, /) -> Explanation: ...
    def stats(self) -> Stats: ...
    def ping(self) -> dict[str, float | QuorateError]: ...
    def close(self) -> None: ...

@final
class AsyncBucket:
    """A bucket whose calls give a future of the running loop."""

    @property
    def name(self) -> str: ...
    def bucket(
        self,
        name: str,
        level: Level | None,
        r: int | None,
        w: int | None,
        timeout: float | None,
        resolver: Resolver | None,
        /,
    ) -> Self: ...
    def ring(self) -> Ring: ...
    def begin_update(
        self, key: Data, level: Level | None, r: int | None, w: int | None, n: int | None, timeout: float | None, /
    ) -> Update: ...
    def scan_pages(
        self,
        values: bool,
        all_buckets: bool,
        level: Level | None,
        r: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> ScanPages: ...
    def withdraw(self, call: Future[Any], /) -> None:
        """Nobody waits for this call any more: what was not sent yet is not sent."""
    def get(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Future[Found | None]: ...
    def lookup(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Future[Found | Absent]: ...
    def exists(
        self, key: Data, level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Future[bool]: ...
    def put(
        self,
        key: Data,
        value: Data,
        context: Context | None,
        ttl: float | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> Future[Stored]: ...
    def delete(
        self,
        key: Data,
        context: Context | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> Future[Stored]: ...
    def get_many(
        self, keys: Iterable[Data], level: Level | None, r: int | None, n: int | None, timeout: float | None, /
    ) -> Future[list[Found | None | QuorateError]]: ...
    def put_many(
        self,
        entries: Entries,
        ttl: float | None,
        level: Level | None,
        w: int | None,
        n: int | None,
        timeout: float | None,
        /,
    ) -> Future[list[Stored | QuorateError]]: ...
    def delete_many(
        self, keys: Iterable[Data], level: Level | None, w: int | None, n: int | None, timeout: float | None, /
    ) -> Future[list[Stored | QuorateError]]: ...
    def update_read(self, update: Update, /) -> Future[list[bytes]]: ...
    def update_write(self, update: Update, value: Data, /) -> Future[Stored | None]: ...
    def scan_page(self, pages: ScanPages, /) -> Future[list[Scanned]]: ...
    def explain(self, key: Data, /) -> Future[Explanation]: ...
    def stats(self) -> Future[Stats]: ...
    def ping(self) -> Future[dict[str, float | QuorateError]]: ...
    def close(self) -> Future[None]: ...

@final
class Mailbox:
    """Where the answers for one event loop arrive; the loop owns it."""

    def drain(self) -> None:
        """Resolves the futures of all calls that have ended. Called by the loop."""

def connect(
    endpoints: str | Iterable[str],
    level: Level | None,
    timeout: float,
    attempt_timeout: float,
    connect_timeout: float,
    attempts: int,
    in_flight: int,
    waiting: int,
    io_threads: int,
    zone: str | None,
    name: str | None,
    /,
) -> Bucket: ...
def connect_async(
    endpoints: str | Iterable[str],
    level: Level | None,
    timeout: float,
    attempt_timeout: float,
    connect_timeout: float,
    attempts: int,
    in_flight: int,
    waiting: int,
    io_threads: int,
    zone: str | None,
    name: str | None,
    /,
) -> Future[AsyncBucket]: ...
def forked() -> None:
    """Says that this process is a child of `fork`, in which clients made before can't be used. Called by the interpreter."""
