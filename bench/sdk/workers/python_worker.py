"""One Python client under load, in a process of its own. It obeys lines of JSON on standard input and answers each with one line.

The loops below are the same for every client: only the two functions that are called, and how long an answer is, differ. This file
compares nothing and starts nothing; that is the room of `bench/sdk/comparison`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

# Latencies are counted in buckets whose width is a 128th of their value or less, so a percentile is right within 0.8 %.
BUCKET_BITS = 7

# Loading leaves this many writes under way: enough for every store to gather them, and few enough for every client's defaults.
LOAD_IN_FLIGHT = 64

Call = Callable[..., Any]


def bucket(nanoseconds: int) -> int:
    shift = max(0, nanoseconds.bit_length() - BUCKET_BITS - 1)
    return (shift << BUCKET_BITS) + (nanoseconds >> shift)


class Keys:
    """The keys in an order that is random and the same for every client; each task begins at another place of it."""

    def __init__(self, count: int, seed: int) -> None:
        self.all = [f"key-{number:07}" for number in range(count)]
        random.Random(seed).shuffle(self.all)

    def walk(self, task: int, tasks: int) -> Iterator[str]:
        at = len(self.all) * task // tasks
        return itertools.cycle(self.all[at:] + self.all[:at])


def wrong(key: str, answer: object) -> Exception:
    return AssertionError(f"{key}: the answer is {answer!r}, which is not what was written")


# The loops for a client that blocks.


def gets(get: Call, length: Call, value: bytes, keys: Iterator[str], until: int, latencies: list[int]) -> None:
    clock, expected = time.perf_counter_ns, len(value)
    for key in keys:
        began = clock()
        if began >= until:
            return
        answer = get(key)
        if length(answer) != expected:
            raise wrong(key, answer)
        latencies.append(clock() - began)


def puts(put: Call, value: bytes, keys: Iterator[str], until: int, latencies: list[int]) -> None:
    clock = time.perf_counter_ns
    for key in keys:
        began = clock()
        if began >= until:
            return
        put(key, value)
        latencies.append(clock() - began)


class Blocking:
    """Runs the loops on threads."""

    def __init__(self, get: Call, put: Call, length: Call, close: Call) -> None:
        self.get, self.put, self.length, self.close = get, put, length, close

    def load(self, keys: Keys, value: bytes) -> None:
        for key in keys.all:
            self.put(key, value)

    def run(self, operation: str, in_flight: int, keys: Keys, value: bytes, seconds: float) -> tuple[list[int], int]:
        latencies: list[list[int]] = [[] for _ in range(in_flight)]
        failures: list[BaseException] = []
        began = time.perf_counter_ns()
        until = began + int(seconds * 1e9)

        def loop(task: int) -> None:
            walk = keys.walk(task, in_flight)
            try:
                if operation == "get":
                    gets(self.get, self.length, value, walk, until, latencies[task])
                else:
                    puts(self.put, value, walk, until, latencies[task])
            except BaseException as failure:
                failures.append(failure)

        # One at a time needs no second thread, as in most programs.
        if in_flight == 1:
            loop(0)
        else:
            threads = [threading.Thread(target=loop, args=(task,)) for task in range(in_flight)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        return [latency for task in latencies for latency in task], time.perf_counter_ns() - began


# The loops for a client of asyncio: the same lines with `await`.


async def async_gets(get: Call, length: Call, value: bytes, keys: Iterator[str], until: int, latencies: list[int]) -> None:
    clock, expected = time.perf_counter_ns, len(value)
    for key in keys:
        began = clock()
        if began >= until:
            return
        answer = await get(key)
        if length(answer) != expected:
            raise wrong(key, answer)
        latencies.append(clock() - began)


async def async_puts(put: Call, value: bytes, keys: Iterator[str], until: int, latencies: list[int]) -> None:
    clock = time.perf_counter_ns
    for key in keys:
        began = clock()
        if began >= until:
            return
        await put(key, value)
        latencies.append(clock() - began)


class Asynchronous:
    """Runs the loops as tasks of one event loop."""

    def __init__(self, runner: asyncio.Runner, get: Call, put: Call, length: Call, close: Callable[[], Awaitable[None]]) -> None:
        self.runner, self.get, self.put, self.length, self.closing = runner, get, put, length, close

    def close(self) -> None:
        async def close() -> None:
            await self.closing()

        self.runner.run(close())

    def load(self, keys: Keys, value: bytes) -> None:
        async def load() -> None:
            rest = iter(keys.all)

            async def task() -> None:
                for key in rest:
                    await self.put(key, value)

            await asyncio.gather(*(task() for _ in range(LOAD_IN_FLIGHT)))

        self.runner.run(load())

    def run(self, operation: str, in_flight: int, keys: Keys, value: bytes, seconds: float) -> tuple[list[int], int]:
        latencies: list[int] = []

        async def run() -> int:
            walks = [keys.walk(task, in_flight) for task in range(in_flight)]
            began = time.perf_counter_ns()
            until = began + int(seconds * 1e9)
            if operation == "get":
                loops = [async_gets(self.get, self.length, value, walk, until, latencies) for walk in walks]
            else:
                loops = [async_puts(self.put, value, walk, until, latencies) for walk in walks]
            await asyncio.gather(*loops)
            return time.perf_counter_ns() - began

        return latencies, self.runner.run(run())


# The clients.


def value_bytes(found: Any) -> int:
    return len(found.value)


def quorate_sync(endpoint: str, most: int) -> Blocking:
    import quorate

    client = quorate.connect(endpoint)
    return Blocking(client.get, client.put, value_bytes, client.close)


def quorate_async(endpoint: str, most: int) -> Asynchronous:
    import quorate

    async def connect() -> Any:
        return await quorate.connect_async(endpoint)

    runner = asyncio.Runner()
    client = runner.run(connect())
    return Asynchronous(runner, client.get, client.put, value_bytes, client.close)


def redis_sync(endpoint: str, most: int) -> Blocking:
    import redis

    host, port = endpoint.split(":")
    client = redis.Redis(host, int(port), max_connections=most)
    return Blocking(client.get, client.set, len, client.close)


def redis_async(endpoint: str, most: int) -> Asynchronous:
    import redis.asyncio

    host, port = endpoint.split(":")
    # A connection for each operation in flight, which is more than its default of 100 allows and faster than waiting for one.
    client = redis.asyncio.Redis(host=host, port=int(port), max_connections=most)
    return Asynchronous(asyncio.Runner(), client.get, client.set, len, client.aclose)


def nothing_sync(endpoint: str, most: int) -> Blocking:
    """No client: what the loop itself costs."""
    store: dict[str, bytes] = {}
    return Blocking(store.get, store.__setitem__, len, lambda: None)


def nothing_async(endpoint: str, most: int) -> Asynchronous:
    """No client: a future for each operation, resolved in the next turn of the loop."""
    store: dict[str, bytes] = {}
    runner = asyncio.Runner()
    event_loop = runner.get_loop()

    def later(answer: object) -> asyncio.Future[object]:
        future = event_loop.create_future()
        event_loop.call_soon(future.set_result, answer)
        return future

    async def close() -> None:
        pass

    return Asynchronous(runner, lambda key: later(store.get(key)), lambda key, value: later(store.update({key: value})), len, close)


CLIENTS = {
    "nothing": nothing_sync,
    "nothing-async": nothing_async,
    "quorate": quorate_sync,
    "quorate-async": quorate_async,
    "redis-py": redis_sync,
    "redis.asyncio": redis_async,
}


def summary(latencies: list[int], elapsed: int, processor: int) -> dict[str, Any]:
    buckets: dict[int, int] = {}
    for latency in latencies:
        at = bucket(latency)
        buckets[at] = buckets.get(at, 0) + 1
    return {"operations": len(latencies), "elapsed_ns": elapsed, "processor_ns": processor, "buckets": list(buckets.items())}


def main() -> None:
    # Answers leave by the real standard output; what a library prints goes where errors go.
    answers = sys.stdout
    opening = json.loads(sys.stdin.readline())
    if not opening["hiredis"]:
        # A module that is None can't be imported: redis-py then parses by itself.
        sys.modules["hiredis"] = None  # type: ignore[assignment]
    with contextlib.redirect_stdout(sys.stderr):
        client = CLIENTS[opening["client"]](opening["endpoint"], opening["most"])
        keys = Keys(opening["keys"], opening["seed"])
        value = random.Random(opening["seed"]).randbytes(opening["value_bytes"])
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "load":
                client.load(keys, value)
                answer: dict[str, Any] = {}
            else:
                processor = time.process_time_ns()
                operation, in_flight, seconds = command["operation"], command["in_flight"], command["seconds"]
                latencies, elapsed = client.run(operation, in_flight, keys, value, seconds)
                answer = summary(latencies, elapsed, time.process_time_ns() - processor)
            print(json.dumps(answer), file=answers, flush=True)
        client.close()


if __name__ == "__main__":
    main()
