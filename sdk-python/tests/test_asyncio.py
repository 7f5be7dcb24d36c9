"""The client in event loops: cancellation, several loops, loops of another kind, closing with calls under way."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import pathlib
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import quorate
from conftest import Run, not_run
from quorate.testing import LocalCluster


def test_many_calls_are_under_way_at_once(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        await asyncio.gather(*(db.put(f"{key} {index}", str(index)) for index in range(1000)))
        answers = await asyncio.gather(*(db.get(f"{key} {index}") for index in range(1000)))
        assert [answer and answer.value for answer in answers] == [str(index).encode() for index in range(1000)]

    run(main)


def test_a_call_is_a_coroutine_for_tasks_and_groups(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        async with asyncio.TaskGroup() as group:
            put = group.create_task(db.put(key, "value"))
            exists = group.create_task(db.exists("no such key"))
        assert put.result().siblings == 1 and exists.result() is False
        with pytest.raises(builtin_timeout()):
            await asyncio.wait_for(asyncio.sleep(10), 0)

    run(main)


def builtin_timeout() -> type[BaseException]:
    """What `wait_for` raises, which is not our own class."""
    assert not issubclass(TimeoutError, quorate.QuorateError)
    return TimeoutError


def test_a_cancelled_task_withdraws_its_operation(cluster: LocalCluster, key: str) -> None:
    async def main() -> None:
        # One operation under way at a time, so that most of them still wait in the client when they are cancelled.
        async with await quorate.connect_async(cluster.endpoints, in_flight=1, timeout=20, attempt_timeout=10) as db:
            tasks = [asyncio.create_task(db.put(f"{key} {index}", "value")) for index in range(2000)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            # The client goes on, and the queue before it is gone.
            await db.put(f"{key} last", "value", timeout=5)
            stats = await db.stats()
            assert stats.cancelled > 1000 and stats.waiting == 0
            written = [each for each in await db.get_many([f"{key} {index}" for index in range(2000)]) if each]
            assert len(written) < 1000

    asyncio.run(main())


@pytest.mark.parametrize("call", ["get_many", "scan", "update", "stats", "explain"])
def test_calls_of_every_kind_can_be_cancelled(run: Run[None], key: str, call: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        async def scan() -> None:
            async for _ in db.scan_all():
                pass

        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "get_many": lambda: db.get_many([f"{key} {index}" for index in range(5000)]),
            "scan": scan,
            "update": lambda: db.update(key, lambda values: b"".join(values)),
            "stats": db.stats,
            "explain": lambda: db.explain(key),
        }
        for _ in range(20):
            task = asyncio.create_task(calls[call]())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await db.get("no such key") is None

    run(main)


def test_a_merge_that_never_ends_is_cancelled_when_the_time_of_its_update_is_over(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        cancelled = 0

        async def endless(values: list[bytes]) -> bytes:
            nonlocal cancelled
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                raise
            return b"".join(values)

        began = time.monotonic()
        with pytest.raises(quorate.TimeoutError) as raised:
            await db.update(key, endless, timeout=1)
        assert 0.9 < time.monotonic() - began < 10
        assert raised.value.code == "timeout" and raised.value.elapsed_ms > 900
        assert not raised.value.maybe_applied and cancelled == 1
        assert await db.get(key) is None

        async def impatient(_: list[bytes]) -> bytes:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own") as own:
            await db.update(key, impatient)
        assert not isinstance(own.value, quorate.QuorateError)

        task = asyncio.create_task(db.update(key, endless))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_an_ordinary_merge_that_takes_too_long_ends_its_update_once_it_returns(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        def slow(_: list[bytes]) -> bytes:
            time.sleep(1.2)
            return b"late"

        with pytest.raises(quorate.TimeoutError):
            await db.update(key, slow, timeout=1)
        assert await db.get(key) is None

    run(main)


def test_an_abandoned_coroutine_withdraws_its_operation(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        call = db.get(key)
        call.send(None)
        call.close()
        assert await db.get(key) is None

    run(main)


def test_one_client_serves_several_loops_and_threads(cluster: LocalCluster, key: str) -> None:
    async def connect() -> quorate.AsyncClient:
        return await quorate.connect_async(cluster.endpoints, timeout=20, attempt_timeout=10)

    db = asyncio.run(connect())
    errors: list[BaseException] = []

    async def work(name: str) -> None:
        for index in range(50):
            await asyncio.gather(*(db.put(f"{name} {each}", f"{index} {each}") for each in range(10)))
            found = await db.get(f"{name} 3")
            assert found is not None and found.value == f"{index} 3".encode()

    def in_thread(name: str) -> None:
        try:
            for turn in range(2):
                asyncio.run(work(f"{key} {name} {turn}"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=in_thread, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    asyncio.run(db.close())


def open_descriptors() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="descriptors are counted where Linux lists them")
def test_loops_that_were_closed_leave_no_descriptor(cluster: LocalCluster, key: str) -> None:
    db = asyncio.run(quorate_connect(cluster))

    async def work() -> None:
        await db.put(key, "value")
        # Ends with the loop, without an answer.
        asyncio.get_running_loop().create_task(db.get(key))

    asyncio.run(work())
    before = open_descriptors()
    for _ in range(50):
        asyncio.run(work())
    assert open_descriptors() <= before + 2
    asyncio.run(db.close())


async def quorate_connect(cluster: LocalCluster) -> quorate.AsyncClient:
    """A client that outlives the loop it was made in."""
    return await quorate.connect_async(cluster.endpoints, timeout=20, attempt_timeout=10)


def test_a_loop_that_ends_with_calls_under_way_is_freed(cluster: LocalCluster, key: str) -> None:
    db = asyncio.run(quorate_connect(cluster))

    class Loop(asyncio.SelectorEventLoop):
        """A loop that weak references can watch."""

    loop = Loop()

    async def begin() -> None:
        for index in range(100):
            asyncio.get_running_loop().create_task(db.get(f"{key} {index}"))
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    for each in [*asyncio.all_tasks(loop)]:
        each.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    watch = weakref.ref(loop)
    del loop, begin, each  # pyright: ignore
    gc.collect()
    assert watch() is None
    asyncio.run(db.close())


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """A loop like that of Windows, which can't watch descriptors."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def test_a_loop_that_cannot_watch_descriptors_is_called_instead(cluster: LocalCluster, key: str) -> None:
    async def main() -> None:
        async with await quorate.connect_async(cluster.endpoints, timeout=20, attempt_timeout=10) as db:
            await asyncio.gather(*(db.put(f"{key} {index}", "value") for index in range(500)))
            assert all(await db.get_many([f"{key} {index}" for index in range(500)]))

    with asyncio.Runner(loop_factory=LoopWithoutReaders) as runner:
        runner.run(main())


def test_uvloop_serves_as_well(cluster: LocalCluster, key: str) -> None:
    if importlib.util.find_spec("uvloop") is None:
        not_run("the Python client under uvloop: uvloop is not installed")
    uvloop: Any = importlib.import_module("uvloop")

    async def main() -> None:
        async with await quorate.connect_async(cluster.endpoints, timeout=20, attempt_timeout=10) as db:
            await asyncio.gather(*(db.put(f"{key} {index}", "value") for index in range(500)))
            assert all(await db.get_many([f"{key} {index}" for index in range(500)]))
            task = asyncio.create_task(db.get(key))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    for _ in range(3):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


def test_closing_ends_every_call_under_way(cluster: LocalCluster, key: str) -> None:
    async def main() -> None:
        db = await quorate.connect_async(cluster.endpoints, in_flight=8, timeout=5)
        calls = [asyncio.create_task(db.put(f"{key} {index}", "value")) for index in range(500)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await db.close()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 6
        for end in ends:
            assert isinstance(end, quorate.Stored | quorate.ClientClosedError), end

    asyncio.run(main())


def test_after_closing_every_call_says_so(cluster: LocalCluster, key: str) -> None:
    async def main() -> None:
        db = await quorate.connect_async(cluster.endpoints)
        bucket = db.bucket("other")
        pages = db.scan()
        await db.close()
        await db.aclose()
        calls: list[Awaitable[object]] = [
            db.get(key),
            bucket.get(key),
            db.put(key, "value"),
            db.get_many([key]),
            db.update(key, lambda _: b""),
            db.stats(),
            db.ping(),
            db.explain(key),
            anext(pages),
        ]
        for end in await asyncio.gather(*calls, return_exceptions=True):
            # A batch has the error in the place of each item.
            error = end[0] if isinstance(end, list) else end  # pyright: ignore
            assert isinstance(error, quorate.ClientClosedError), end
        assert len(db.ring.nodes) == 3

    asyncio.run(main())


def test_without_a_running_loop_a_call_says_so(cluster: LocalCluster) -> None:
    db = asyncio.run(quorate_connect(cluster))
    with pytest.raises(RuntimeError, match="no running event loop"):
        db.get("key").send(None)
    asyncio.run(db.close())


def test_a_cluster_that_cannot_be_reached_is_an_error_in_time() -> None:
    async def main() -> None:
        began = time.monotonic()
        with pytest.raises(quorate.ConnectionError):
            await quorate.connect_async("127.0.0.1:1", connect_timeout=0.5, timeout=0.5)
        assert time.monotonic() - began < 5

    asyncio.run(main())
    with pytest.raises(ConnectionError):
        quorate.connect("127.0.0.1:1", connect_timeout=0.5, timeout=0.5)
