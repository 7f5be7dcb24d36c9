"""The blocking client. Generated from `_async.py` by `tools/sync_twin.py`: change that file and run the tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from quorate import _native
from quorate._native import Absent, Context, Found, Scanned, Stored
from quorate._types import Data, Entries, Level, Merge, Resolver
from quorate.errors import ForkedClientError, QuorateError
from quorate.values import Explanation, Ring, Stats


class Bucket:
    """Keys under a common name, with defaults for the calls made through it. Made by `Client.bucket`.

    Keys and values are `str` (taken as UTF-8) or anything bytes-like; what comes back is `bytes`. Options of a call that are left
    out are the bucket's; `level` is how many replicas a call waits for, by name: `"one"`, `"available"` (a majority of whoever can
    be reached, the usual one), `"quorum"` (a majority of owners) or `"all"`. `r` and `w` are exact numbers of replicas, `n` uses
    only the first `n` owners, and `timeout` is in seconds, retries included: no call outlives it.
    """

    __slots__ = ("__weakref__", "_calls")

    _calls: _native.Bucket

    def __init__(self, calls: _native.Bucket) -> None:
        self._calls = calls

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._calls.name

    def get(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Found | None:
        """Reads a key: its values with their context, or `None` when it has none.

        >>> stored = db.put("greeting", "hello")
        >>> found = db.get("greeting")
        >>> found.value
        b'hello'
        >>> db.get("no such key") is None
        True
        """
        return self._calls.get(key, level, r, n, timeout)

    def lookup(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Found | Absent:
        """Reads a key; when it has no values, the answer still has a context, under which a put replaces exactly that.

        >>> absent = db.lookup("a new key")
        >>> stored = db.put("a new key", "1", context=absent.context)
        >>> db.lookup("a new key").value
        b'1'
        """
        return self._calls.lookup(key, level, r, n, timeout)

    def exists(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Whether a key has values; moves none.

        >>> db.exists("no such key")
        False
        """
        return self._calls.exists(key, level, r, n, timeout)

    def put(
        self,
        key: Data,
        value: Data,
        *,
        context: Context | None = None,
        ttl: float | None = None,
        level: Level | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Stored:
        """Writes a value.

        With the `context` of a read or of an earlier put it replaces exactly what that one saw; without one it replaces what its
        coordinator holds at that moment; under `Context.EMPTY` it adds a version beside whatever there is. After `ttl` seconds
        the value is gone.

        >>> stored = db.put("colour", "red")
        >>> stored = db.put("colour", "blue", context=stored.context)
        >>> stored.siblings
        1
        """
        return self._calls.put(key, value, context, ttl, level, w, n, timeout)

    def delete(
        self,
        key: Data,
        *,
        context: Context | None = None,
        level: Level | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Stored:
        """Deletes a key. With the `context` of a read it deletes exactly what that one saw, without one what a read would see.

        >>> stored = db.put("draft", "...")
        >>> stored = db.delete("draft", context=stored.context)
        >>> db.exists("draft")
        False
        """
        return self._calls.delete(key, context, level, w, n, timeout)

    def get_many(
        self,
        keys: Iterable[Data],
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[Found | None | QuorateError]:
        """Reads many keys, with a result for each in their order; one that fails is an exception in its place.

        >>> stored = db.put("one", "1")
        >>> one, two = db.get_many(["one", "no such key"])
        >>> one.value, two
        (b'1', None)
        """
        return self._calls.get_many(keys, level, r, n, timeout)

    def put_many(
        self,
        entries: Entries,
        *,
        ttl: float | None = None,
        level: Level | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[Stored | QuorateError]:
        """Writes many values, from a mapping or from pairs of key and value, which a context may follow; a result for each.

        >>> results = db.put_many({"a": "1", "b": "2"})
        >>> [result.siblings for result in results]
        [1, 1]
        """
        return self._calls.put_many(entries, ttl, level, w, n, timeout)

    def delete_many(
        self,
        keys: Iterable[Data],
        *,
        level: Level | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[Stored | QuorateError]:
        """Deletes many keys, with a result for each in their order.

        >>> results = db.delete_many(["a", "b"])
        >>> len(results)
        2
        """
        return self._calls.delete_many(keys, level, w, n, timeout)

    def update(
        self,
        key: Data,
        merge: Merge,
        *,
        level: Level | None = None,
        r: int | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Stored:
        """Reads a key, merges its values, and writes the result in their place.

        `merge` gets all concurrent values (none when the key is absent), the one that was written last at the end. When another
        writer was quicker, it is called again with what there is now, so it must give the same for the same values. Its time counts
        too; but nothing interrupts an ordinary function.

        >>> def add_milk(carts):
        ...     return b"\\n".join({b"milk", *(item for cart in carts for item in cart.split(b"\\n"))})
        >>> stored = db.update("cart", add_milk)
        >>> db.get("cart").value
        b'milk'
        """
        update = self._calls.begin_update(key, level, r, w, n, timeout)
        while True:
            values = self._calls.update_read(update)
            stored = self._calls.update_write(update, merge(values))
            if stored is not None:
                return stored

    def scan(
        self,
        *,
        values: bool = False,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Scanned]:
        """The keys of this bucket, in the order of the ring; with their values if asked for. `timeout` is for each page.

        >>> stored = db.bucket("planets").put("mars", "red")
        >>> [each.key for each in db.bucket("planets").scan()]
        [b'mars']
        """
        return self._pages(self._calls.scan_pages(values, False, level, r, n, timeout))

    def explain(self, key: Data) -> Explanation:
        """Where a key lives, and who would coordinate it now.

        >>> len(db.explain("greeting").owners)
        3
        """
        return self._calls.explain(key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _pages(self, pages: _native.ScanPages) -> Iterator[Scanned]:
        while page := self._calls.scan_page(pages):
            yield from page


class Client(Bucket):
    """A client of one cluster, made by `quorate.connect`. Its own calls are for the bucket `default`.

    It learns which node owns which key and sends each operation straight to an owner; operations that are made while a call to a
    node is under way leave together in the next one. One client is enough for a program: it may be used from any number
    of threads at the same time. It can't be used in a child of `fork`: connect again there.
    """

    __slots__ = ()

    def bucket(
        self,
        name: str,
        *,
        level: Level | None = None,
        r: int | None = None,
        w: int | None = None,
        timeout: float | None = None,
        resolver: Resolver | None = None,
    ) -> Bucket:
        """A bucket by name, with defaults for its calls. `resolver` makes one value of concurrent ones in `found.value`.

        >>> from quorate.resolvers import union_of_lines
        >>> carts = db.bucket("carts", level="quorum", resolver=union_of_lines)
        >>> stored = carts.put("ann", "milk")
        >>> stored = carts.put("ann", "bread", context=Context.EMPTY)
        >>> carts.get("ann").value
        b'bread\\nmilk'
        """
        return Bucket(self._calls.bucket(name, level, r, w, timeout, resolver))

    def scan_all(
        self,
        *,
        values: bool = False,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Scanned]:
        """The keys of every bucket."""
        return self._pages(self._calls.scan_pages(values, True, level, r, n, timeout))

    @property
    def ring(self) -> Ring:
        """The map of the cluster that is followed now.

        >>> len(db.ring.nodes)
        3
        """
        return self._calls.ring()

    def stats(self) -> Stats:
        """What this client has done and how it sees the nodes."""
        return self._calls.stats()

    def ping(self) -> dict[str, float | QuorateError]:
        """How many seconds each node takes to answer, or why it did not, by its name.

        >>> len(db.ping())
        3
        """
        return self._calls.ping()

    def close(self) -> None:
        """Closes the client. Calls that are under way end, each with its result or with `ClientClosedError`.

        In a child of `fork` there is nothing to close, so leaving a `with` there is no error.
        """
        with suppress(ForkedClientError):
            self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    endpoints: str | Iterable[str] = "127.0.0.1:7601",
    *,
    level: Level | None = None,
    timeout: float = 2.0,
    attempt_timeout: float = 0.5,
    connect_timeout: float = 1.0,
    attempts: int = 3,
    in_flight: int = 1024,
    waiting: int = 65_536,
    io_threads: int = 1,
    zone: str | None = None,
    name: str | None = None,
) -> Client:
    """Connects to the cluster that the nodes at `endpoints` belong to: `host:port`, several separated by commas or in an iterable.

    Any node will do; more than one helps while nodes are down. `timeout` is for a call, retries included, `attempt_timeout` for one
    attempt and `connect_timeout` for a connection, in seconds; a call is sent at most `attempts` times. `in_flight` operations are
    under way at the same time, further ones wait, and beyond `waiting` they are refused. Reads prefer nodes of `zone`. `name` is
    what the nodes call this client in their logs.

    >>> db = quorate.connect(endpoints)
    >>> stored = db.put("greeting", "hello")
    >>> db.close()
    """
    native = _native.connect(
        endpoints,
        level,
        timeout,
        attempt_timeout,
        connect_timeout,
        attempts,
        in_flight,
        waiting,
        io_threads,
        zone,
        name,
    )
    return Client(native)
