"""The client for asyncio. The blocking client in `_sync.py` is generated from this file by `tools/sync_twin.py`: change this one.

Nothing is decided here or in the native module: both convert arguments and results, and wait. A call is one function that asks
the native module for a future and awaits it; when the task is cancelled, the operation is withdrawn.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, timeout
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Self, TypeVar

from quorate import _native
from quorate._native import Absent, Context, Found, Scanned, Stored
from quorate._types import AsyncMerge, Data, Entries, Level, Resolver
from quorate.errors import ForkedClientError, QuorateError
from quorate.values import Explanation, Ring, Stats

_T = TypeVar("_T")


class AsyncBucket:
    """Keys under a common name, with defaults for the calls made through it. Made by `AsyncClient.bucket`.

    Keys and values are `str` (taken as UTF-8) or anything bytes-like; what comes back is `bytes`. Options of a call that are left
    out are the bucket's; `level` is how many replicas a call waits for, by name: `"one"`, `"available"` (a majority of whoever can
    be reached, the usual one), `"quorum"` (a majority of owners) or `"all"`. `r` and `w` are exact numbers of replicas, `n` uses
    only the first `n` owners, and `timeout` is in seconds, retries included: no call outlives it.
    """

    __slots__ = ("__weakref__", "_calls")

    _calls: _native.AsyncBucket

    def __init__(self, calls: _native.AsyncBucket) -> None:
        self._calls = calls

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._calls.name

    async def get(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Found | None:
        """Reads a key: its values with their context, or `None` when it has none.

        >>> stored = await db.put("greeting", "hello")
        >>> found = await db.get("greeting")
        >>> found.value
        b'hello'
        >>> await db.get("no such key") is None
        True
        """
        call = self._calls.get(key, level, r, n, timeout)
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise

    async def lookup(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> Found | Absent:
        """Reads a key; when it has no values, the answer still has a context, under which a put replaces exactly that.

        >>> absent = await db.lookup("a new key")
        >>> stored = await db.put("a new key", "1", context=absent.context)
        >>> (await db.lookup("a new key")).value
        b'1'
        """
        call = self._calls.lookup(key, level, r, n, timeout)
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise

    async def exists(
        self,
        key: Data,
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Whether a key has values; moves none.

        >>> await db.exists("no such key")
        False
        """
        call = self._calls.exists(key, level, r, n, timeout)
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise

    async def put(
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

        >>> stored = await db.put("colour", "red")
        >>> stored = await db.put("colour", "blue", context=stored.context)
        >>> stored.siblings
        1
        """
        call = self._calls.put(key, value, context, ttl, level, w, n, timeout)
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise

    async def delete(
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

        >>> stored = await db.put("draft", "...")
        >>> stored = await db.delete("draft", context=stored.context)
        >>> await db.exists("draft")
        False
        """
        call = self._calls.delete(key, context, level, w, n, timeout)
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise

    async def get_many(
        self,
        keys: Iterable[Data],
        *,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[Found | None | QuorateError]:
        """Reads many keys, with a result for each in their order; one that fails is an exception in its place.

        >>> stored = await db.put("one", "1")
        >>> one, two = await db.get_many(["one", "no such key"])
        >>> one.value, two
        (b'1', None)
        """
        return await self._ended(self._calls.get_many(keys, level, r, n, timeout))

    async def put_many(
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

        >>> results = await db.put_many({"a": "1", "b": "2"})
        >>> [result.siblings for result in results]
        [1, 1]
        """
        return await self._ended(self._calls.put_many(entries, ttl, level, w, n, timeout))

    async def delete_many(
        self,
        keys: Iterable[Data],
        *,
        level: Level | None = None,
        w: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[Stored | QuorateError]:
        """Deletes many keys, with a result for each in their order.

        >>> results = await db.delete_many(["a", "b"])
        >>> len(results)
        2
        """
        return await self._ended(self._calls.delete_many(keys, level, w, n, timeout))

    async def update(
        self,
        key: Data,
        merge: AsyncMerge,
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
        >>> stored = await db.update("cart", add_milk)
        >>> (await db.get("cart")).value
        b'milk'
        """
        update = self._calls.begin_update(key, level, r, w, n, timeout)
        while True:
            values = await self._ended(self._calls.update_read(update))
            stored = await self._ended(self._calls.update_write(update, await _merged(update, merge(values))))
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
    ) -> AsyncIterator[Scanned]:
        """The keys of this bucket, in the order of the ring; with their values if asked for. `timeout` is for each page.

        >>> stored = await db.bucket("planets").put("mars", "red")
        >>> [each.key async for each in db.bucket("planets").scan()]
        [b'mars']
        """
        return self._pages(self._calls.scan_pages(values, False, level, r, n, timeout))

    async def explain(self, key: Data) -> Explanation:
        """Where a key lives, and who would coordinate it now.

        >>> len((await db.explain("greeting")).owners)
        3
        """
        return await self._ended(self._calls.explain(key))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def _pages(self, pages: _native.ScanPages) -> AsyncIterator[Scanned]:
        while page := await self._ended(self._calls.scan_page(pages)):
            for scanned in page:
                yield scanned

    async def _ended(self, call: Future[_T]) -> _T:
        try:
            return await call
        except (CancelledError, GeneratorExit):
            self._calls.withdraw(call)
            raise


class AsyncClient(AsyncBucket):
    """A client of one cluster, made by `quorate.connect_async`. Its own calls are for the bucket `default`.

    It learns which node owns which key and sends each operation straight to an owner; operations that are made while a call to a
    node is under way leave together in the next one. One client is enough for a program: it may be used from any number of tasks,
    threads and event loops at the same time. It can't be used in a child of `fork`: connect again there.
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
    ) -> AsyncBucket:
        """A bucket by name, with defaults for its calls. `resolver` makes one value of concurrent ones in `found.value`.

        >>> from quorate.resolvers import union_of_lines
        >>> carts = db.bucket("carts", level="quorum", resolver=union_of_lines)
        >>> stored = await carts.put("ann", "milk")
        >>> stored = await carts.put("ann", "bread", context=Context.EMPTY)
        >>> (await carts.get("ann")).value
        b'bread\\nmilk'
        """
        return AsyncBucket(self._calls.bucket(name, level, r, w, timeout, resolver))

    def scan_all(
        self,
        *,
        values: bool = False,
        level: Level | None = None,
        r: int | None = None,
        n: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Scanned]:
        """The keys of every bucket."""
        return self._pages(self._calls.scan_pages(values, True, level, r, n, timeout))

    @property
    def ring(self) -> Ring:
        """The map of the cluster that is followed now.

        >>> len(db.ring.nodes)
        3
        """
        return self._calls.ring()

    async def stats(self) -> Stats:
        """What this client has done and how it sees the nodes."""
        return await self._ended(self._calls.stats())

    async def ping(self) -> dict[str, float | QuorateError]:
        """How many seconds each node takes to answer, or why it did not, by its name.

        >>> len(await db.ping())
        3
        """
        return await self._ended(self._calls.ping())

    async def close(self) -> None:
        """Closes the client. Calls that are under way end, each with its result or with `ClientClosedError`.

        In a child of `fork` there is nothing to close, so leaving a `with` there is no error.
        """
        with suppress(ForkedClientError):
            await self._ended(self._calls.close())

    async def aclose(self) -> None:
        """Closes the client, for `contextlib.aclosing`."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def connect_async(
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
) -> AsyncClient:
    """Connects to the cluster that the nodes at `endpoints` belong to: `host:port`, several separated by commas or in an iterable.

    Any node will do; more than one helps while nodes are down. `timeout` is for a call, retries included, `attempt_timeout` for one
    attempt and `connect_timeout` for a connection, in seconds; a call is sent at most `attempts` times. `in_flight` operations are
    under way at the same time, further ones wait, and beyond `waiting` they are refused. Reads prefer nodes of `zone`. `name` is
    what the nodes call this client in their logs.

    >>> db = await quorate.connect_async(endpoints)
    >>> stored = await db.put("greeting", "hello")
    >>> await db.close()
    """
    native = await _native.connect_async(
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
    return AsyncClient(native)


async def _merged(update: _native.Update, merged: Data | Awaitable[Data]) -> Data:
    """What was merged, at once or by a coroutine, which has no longer than the update has."""
    if isawaitable(merged):
        limit = timeout(update.remaining())
        try:
            async with limit:
                return await merged
        except TimeoutError:
            # It may be the coroutine's own.
            if limit.expired():
                raise update.overdue() from None
            raise
    return merged
