"""The client at its limits, against real nodes: large values, ten thousand calls at once, nodes that stand still, cancelling by the
thousand, and what a hostile or careless program does to it. Every call ends by its deadline with the right error. What becomes of
processes and threads is in ``test_hard_process.py``; the same tests for Rust are in ``tests/tests/endurance.rs``.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import quorate
from quorate.testing import LocalCluster

CALLS = 10_000
"""Calls at the same time: ten times what a client lets under way at once, so that most of them wait in its queue."""

LATE_SECONDS = 1.0
"""How late a call may end: timers of a machine whose two cores do other things too, and ten thousand results that are made into objects."""

LONG_SECONDS = 30.0
"""A timeout that is not what a test is about."""

ENDS = (quorate.TimeoutError, quorate.UnavailableError, quorate.QuorumTimeoutError, quorate.ConnectionError)
"""How calls may end to which nobody answers."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalCluster]:
    """Three nodes of this file's own, since it freezes them."""
    with LocalCluster(nodes=3) as cluster:
        yield cluster


def noise(length: int) -> bytes:
    """Bytes that no other length and no shift of themselves could be taken for."""
    return random.Random(length).randbytes(length)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What each thread gave; an error of one is raised here."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(at: int) -> None:
        try:
            results[at] = work(at)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


async def until_idle(db: quorate.AsyncClient) -> quorate.Stats:
    """Waits until nothing of this client is under way or waits."""
    deadline = time.monotonic() + 20
    while True:
        stats = await db.stats()
        if stats.in_flight + stats.waiting == 0:
            return stats
        assert time.monotonic() < deadline, f"calls are left: {stats}"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("length", [0, 1, 16_384, 16_385, 256 << 10, 1 << 20])
def test_large_values_come_back_as_they_were(nodes: LocalCluster, length: int) -> None:
    value = noise(length)
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        db.put(f"size {length}", value, level="all")
        for level in ("one", "quorum", "all"):
            found = db.get(f"size {length}", level=level)
            assert found is not None and hashlib.sha256(found.value).digest() == hashlib.sha256(value).digest()

    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS) as db:
            await asyncio.gather(*(db.put(f"size {length} {at}", value) for at in range(16)))
            found = await asyncio.gather(*(db.get(f"size {length} {at}") for at in range(16)))
            assert all(each is not None and each.value == value for each in found)

    asyncio.run(main())


def test_a_value_above_the_limit_is_refused_before_it_is_sent(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints) as db, pytest.raises(quorate.TooLargeError) as refused:
        db.put("too large", bytes((1 << 20) + 1))
    assert not refused.value.maybe_applied and not refused.value.retryable and isinstance(refused.value, ValueError)


def test_ten_thousand_awaited_calls_are_all_answered(nodes: LocalCluster) -> None:
    async def main() -> None:
        # An attempt may take as long as the call: what is looked at is that all are answered, however busy the machine is.
        connecting = quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS, attempt_timeout=LONG_SECONDS)
        async with await connecting as db:
            await asyncio.gather(*(db.put(f"many {at}", str(at)) for at in range(CALLS)))
            found = await asyncio.gather(*(db.get(f"many {at}", level="quorum") for at in range(CALLS)))
            assert [each.value for each in found if each] == [str(at).encode() for at in range(CALLS)]
            await until_idle(db)

    asyncio.run(main())


def test_hundreds_of_threads_share_a_client(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        before = threading.active_count()

        def work(at: int) -> int:
            return sum(db.put(f"thread {at}", str(number)).siblings == 1 for number in range(CALLS // 500))

        assert sum(in_threads(500, work)) == CALLS
        assert threading.active_count() == before
        assert db.stats().in_flight == 0


def test_ten_thousand_awaited_calls_to_frozen_nodes_end_by_their_deadline(nodes: LocalCluster) -> None:
    timeout = 1.0

    async def call(db: quorate.AsyncClient, at: int) -> tuple[float, quorate.QuorateError]:
        began = time.monotonic()
        try:
            await (db.put(f"frozen {at}", "value") if at % 2 else db.get("frozen", level="quorum"))
        except ENDS as error:
            assert at % 2 or not error.maybe_applied
            return time.monotonic() - began, error
        raise AssertionError("nobody could have answered")

    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=timeout) as db:
            await db.put("frozen", "value", level="all")
            for node in range(3):
                nodes.pause(node)
            try:
                ended = await asyncio.gather(*(call(db, at) for at in range(CALLS)))
            finally:
                for node in range(3):
                    nodes.resume(node)
            latest = max(seconds for seconds, _ in ended)
            print(f"the latest of {CALLS} calls of {timeout} s ended after {latest:.3f} s")
            assert latest <= timeout + LATE_SECONDS
            assert any(error.maybe_applied for _, error in ended)
            await until_idle(db)

    asyncio.run(main())
    recover(nodes)


def test_threads_that_wait_for_frozen_nodes_end_by_their_deadline(nodes: LocalCluster) -> None:
    timeout = 0.7
    with quorate.connect(nodes.endpoints, timeout=timeout) as db:
        db.put("frozen", "value", level="all")
        for node in range(3):
            nodes.pause(node)

        def work(at: int) -> float:
            began = time.monotonic()
            with pytest.raises(ENDS):
                if at % 3 == 0:
                    db.get("frozen", level="quorum")
                elif at % 3 == 1:
                    db.update("frozen", lambda values: b"".join(values))
                else:
                    list(db.scan())
            return time.monotonic() - began

        try:
            latest = max(in_threads(60, work))
            results = db.get_many([f"frozen {at}" for at in range(1000)])
        finally:
            for node in range(3):
                nodes.resume(node)
        print(f"the latest of 60 threads that had {timeout} s ended after {latest:.3f} s")
        assert latest <= timeout + LATE_SECONDS
        assert len(results) == 1000 and all(isinstance(result, ENDS) for result in results)
    recover(nodes)


def recover(nodes: LocalCluster) -> None:
    """Waits until the nodes serve each other again, so that the next test does not see this one."""
    with quorate.connect(nodes.endpoints) as db:
        deadline = time.monotonic() + 30
        while True:
            try:
                db.put("recovered", "value", level="all")
                return
            except quorate.QuorateError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_storm_of_cancelled_tasks_leaves_nothing(nodes: LocalCluster) -> None:
    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS) as db:
            chance = random.Random(7)
            for number in range(20):
                tasks = [asyncio.ensure_future(db.put(f"storm {at % 50}", str(at))) for at in range(1000)]
                await asyncio.sleep(0.0005 * number)
                for task in tasks:
                    if chance.random() < 0.9:
                        task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, (quorate.Stored, asyncio.CancelledError)) for each in ended)
            stats = await until_idle(db)
            assert stats.failed == 0 and stats.cancelled > 0
            assert (await db.put("storm", "is over")).siblings >= 1

    asyncio.run(main())


def test_timeouts_around_calls_end_them(nodes: LocalCluster) -> None:
    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS) as db:
            await db.put("key", "value", level="all")
            for node in range(3):
                nodes.pause(node)
            try:
                began = time.monotonic()
                for call in (db.put("key", "value"), db.get_many(["key"] * 1000), db.update("key", lambda values: values[0])):
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(call, 0.2)
                assert time.monotonic() - began < 3 * 0.2 + LATE_SECONDS
            finally:
                for node in range(3):
                    nodes.resume(node)
            await until_idle(db)

    asyncio.run(main())
    recover(nodes)


def test_a_batch_of_a_hundred_thousand_keys_is_answered_in_order(nodes: LocalCluster) -> None:
    keys = [f"batch {at}" for at in range(100_000)]
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        stored = db.put_many(((key, key) for key in keys), level="quorum")
        assert len(stored) == len(keys) and all(isinstance(each, quorate.Stored) for each in stored)
        found = db.get_many(keys, level="quorum")
        assert [isinstance(each, quorate.Found) and each.value.decode() for each in found] == keys


def test_a_buffer_that_changes_after_the_call_changes_nothing(nodes: LocalCluster) -> None:
    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS) as db:
            for length in (100, 16_385, 1 << 20):
                key, value = bytearray(b"changing %d" % length), bytearray(noise(length))
                expected_key, expected = bytes(key), bytes(value)
                task = asyncio.ensure_future(db.put(key, value))
                await asyncio.sleep(0)
                key[:] = bytes(len(key))
                value[:] = bytes(length)
                # A buffer that somebody still holds could not shrink.
                value.clear()
                await task
                found = await db.get(expected_key)
                assert found is not None and found.value == expected

    asyncio.run(main())


class Odd(Exception):
    """What a careless callback raises."""


@pytest.mark.parametrize("raised", [Odd("merge"), KeyboardInterrupt(), SystemExit(3), RecursionError(), MemoryError()])
def test_what_a_merge_raises_comes_out_and_nothing_is_written(nodes: LocalCluster, raised: BaseException) -> None:
    def merge(values: list[bytes]) -> bytes:
        raise raised

    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        db.put("merged", "before", level="all")
        with pytest.raises(type(raised)) as seen:
            db.update("merged", merge)
        assert seen.value is raised
        found = db.get("merged", level="quorum")
        assert found is not None and found.value == b"before"


def test_a_merge_may_use_the_client_and_may_never_end_by_itself(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:

        def merge(values: list[bytes]) -> bytes:
            db.put("inner", b"x" * len(values))
            return db.update("deeper", lambda inner: b"".join(inner) + b"y").receipt.epoch.to_bytes(8, "big")

        assert db.update("outer", merge).siblings == 1

        def endless(values: list[bytes]) -> bytes:
            return endless(values)

        with pytest.raises(RecursionError):
            db.update("outer", endless)

    async def main() -> None:
        async with await quorate.connect_async(nodes.endpoints, timeout=LONG_SECONDS) as db:

            async def merge(values: list[bytes]) -> bytes:
                await db.put("inner", "value")
                return b"merged"

            assert (await db.update("outer", merge)).siblings == 1

            async def cancelled(values: list[bytes]) -> bytes:
                raise asyncio.CancelledError

            with pytest.raises(asyncio.CancelledError):
                await db.update("outer", cancelled)
            await until_idle(db)

    asyncio.run(main())


@pytest.mark.parametrize("merged", [None, 7, object(), ["bytes"], "\ud800"])
def test_a_merge_that_gives_no_value_is_refused(nodes: LocalCluster, merged: Any) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db, pytest.raises((TypeError, ValueError)):
        db.update("merged", lambda values: merged)


def test_a_resolver_that_raises_or_recurses_hurts_only_its_own_call(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:

        def endless(values: Any) -> bytes:
            return endless(values)

        bucket = db.bucket("hard", resolver=endless)
        for value in ("one", "two"):
            bucket.put("key", value, context=quorate.Context.EMPTY)
        found = bucket.get("key")
        assert found is not None and found.is_conflict and len(found.values) == 2
        for _ in range(3):
            with pytest.raises(RecursionError):
                found.value
        assert db.get("no such key") is None


def test_an_iterable_that_fails_or_calls_back_is_no_trouble(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:

        def failing() -> Iterator[tuple[str, str]]:
            yield "failing", "value"
            raise Odd("entries")

        with pytest.raises(Odd):
            db.put_many(failing())

        def calling() -> Iterator[str]:
            for at in range(10):
                db.put(f"calling {at}", str(at))
                yield f"calling {at}"

        assert all(isinstance(each, quorate.Found) for each in db.get_many(calling()))
        assert db.get_many([]) == db.put_many({}) == db.delete_many([]) == []
        with pytest.raises(TypeError):
            db.get_many([b"key", None])  # type: ignore[list-item]  # pyright: ignore


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"timeout": "1"},
        {"level": "most"},
        {"level": 1},
        {"r": -1},
        {"r": 300},
        {"n": 2.5},
        {"context": b"context"},
        {"unknown": 1},
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_sent(nodes: LocalCluster, options: dict[str, Any]) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        sent = db.stats().operations_sent
        with pytest.raises((TypeError, ValueError, OverflowError)):
            db.get("key", **options)
        assert db.stats().operations_sent == sent


def test_timeouts_of_every_size_are_kept_to(nodes: LocalCluster) -> None:
    with quorate.connect(nodes.endpoints, timeout=LONG_SECONDS) as db:
        db.put("key", "value", level="all")
        # More than any clock can count to, and less than it can tell from nothing.
        for timeout in (1e3, 1e9, 1e18, 1e300, float("inf")):
            try:
                assert db.get("key", timeout=timeout) is not None
            except (ValueError, OverflowError):
                assert timeout > 1e9
        for timeout in (0.0, 1e-300, 1e-9, 1e-6):
            try:
                db.get("key", timeout=timeout)
            except (quorate.TimeoutError, ValueError):
                pass
