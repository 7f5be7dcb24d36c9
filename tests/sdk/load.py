"""What a client is asked to do while somebody else watches, in Python: the same tasks, words and answers as `quorate-load` in Rust
(`tests/cluster/src/load.rs`) and `load.mjs` in Node. Rows of `tests/proof` start it, and judge. Not a measurement of speed.

    load.py --surface threads|asyncio kinds|strict|memory --endpoints ADDRESS,... --operations COUNT
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import quorate

# Hands that work at the same time: tasks, or threads.
HANDS = {"asyncio": 64, "threads": 8}
# Operations of one round of "kinds", and keys of its batches.
ROUND, BATCH = 23, 3
# Keys of one hand of "strict", and how often it may send an operation.
STRICT_KEYS, ATTEMPTS = 20, 2
# "memory": one call in so many comes before the first look; keys, the size of values, and gets for every put.
WARM, MEMORY_KEYS, VALUE, GETS_PER_PUT = 5, 1000, b"\7" * 100, 10


class Waiting:
    """The surface of threads in the clothes of the other: every method is a coroutine that never waits for a loop."""

    def __init__(self, client: quorate.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return method(*arguments, **options)

        return call

    async def keys(self) -> list[bytes]:
        return [scanned.key for scanned in self._client.scan()]


class Awaited:
    """The surface of asyncio as it is."""

    def __init__(self, client: quorate.AsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def keys(self) -> list[bytes]:
        return [scanned.key async for scanned in self._client.scan()]


async def in_hands(surface: str, work: Callable[[int], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Runs the same work in every hand, and gives what each of them gave."""
    if surface == "asyncio":
        return list(await asyncio.gather(*(work(hand) for hand in range(HANDS[surface]))))
    results: list[Any] = []

    def run(hand: int) -> None:
        try:
            results.append(finish(work(hand)))
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            results.append(error)

    threads = [threading.Thread(target=run, args=(hand,)) for hand in range(HANDS[surface])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing but what blocks its thread."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise RuntimeError("it waits for a loop")


async def kinds(db: Any, surface: str, operations: int) -> dict[str, Any]:
    rounds = max(1, -(-operations // (HANDS[surface] * ROUND)))

    async def work(hand: int) -> int:
        return sum([await one_round(db, f"{hand}/{number}") for number in range(rounds)])

    wrong = sum(await in_hands(surface, work))
    scanned = len(await db.keys())
    # Of every round, the updated key and the first key of the batch are left.
    wrong += scanned != HANDS[surface] * rounds * 2
    return {"operations": HANDS[surface] * rounds * ROUND, "wrong": wrong, "scanned": scanned}


async def one_round(db: Any, name: str) -> int:
    """Writes, reads, replaces, merges and deletes; how many answers were not what they had to be."""
    key, other, merged = f"key {name}", f"other {name}", f"merged {name}"
    right = [not await db.exists(key, level="quorum")]
    right.append((await db.put(key, b"first", level="quorum")).siblings == 1)
    first = await db.lookup(key)
    right.append(first.value == b"first")
    await db.put(key, b"second", context=first.context, level="all")
    right.append((await db.get(key, level="one")).value == b"second")
    right.append((await db.put(key, b"beside", context=quorate.Context.EMPTY)).siblings == 2)
    await db.update(key, lambda values: b"".join(values))
    right.append(len((await db.get(key)).siblings) == 1)
    await db.put(other, b"other", level="one")
    await db.delete(other, level="quorum")
    right.append(await db.get(other, level="quorum") is None)
    await db.delete(key, level="quorum")
    await db.update(merged, lambda values: b"%d values" % len(values))
    keys = [f"batch {at} {name}" for at in range(BATCH)]
    right += [stored.siblings == 1 for stored in await db.put_many({key: b"many" for key in keys}, level="quorum")]
    right += [found.value == b"many" for found in await db.get_many(keys)]
    right += [not isinstance(deleted, Exception) for deleted in await db.delete_many(keys[1:])]
    return right.count(False)


async def strict(db: Any, surface: str) -> dict[str, Any]:
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

    async def work(hand: int) -> tuple[int, int, collections.Counter[str]]:
        operations, wrong, errors = 0, 0, collections.Counter[str]()
        contexts = [quorate.Context.EMPTY] * STRICT_KEYS
        while not stop.is_set():
            at, value = operations // 2 % STRICT_KEYS, b"%d/%d" % (hand, operations)
            key = f"strict {os.getpid()} {hand} {at}"
            operations += 2
            try:
                await db.put(key, value, context=contexts[at], level="quorum")
                found = await db.get(key, level="quorum")
                if found is None or found.values != (value,):
                    wrong += 1
                else:
                    contexts[at] = found.context
            except quorate.QuorateError as error:
                errors[str(error)] += 1
        return operations, wrong, errors

    seen = await in_hands(surface, work)
    errors = sum((errors for *_, errors in seen), collections.Counter[str]())
    retries = (await db.stats()).retries
    return {"operations": sum(each[0] for each in seen), "wrong": sum(each[1] for each in seen), "errors": errors, "retries": retries}


async def memory(db: Any, surface: str, calls: int) -> dict[str, Any]:
    for stored in await db.put_many([(f"memory {at}", VALUE) for at in range(MEMORY_KEYS)], level="one"):
        if isinstance(stored, Exception):
            raise stored

    async def some(count: int) -> None:
        async def work(hand: int) -> None:
            for number in range(count // HANDS[surface]):
                key = f"memory {(number * HANDS[surface] + hand) % MEMORY_KEYS}"
                if number % GETS_PER_PUT == 0:
                    await db.put(key, VALUE, level="one")
                else:
                    await db.get(key, level="one")

        await in_hands(surface, work)

    await some(calls // WARM)
    before, started = resident_bytes(), time.monotonic()
    objects = len(gc.get_objects())
    await some(calls - calls // WARM)
    seconds = time.monotonic() - started
    return {
        "operations": calls,
        "before_bytes": before,
        "after_bytes": resident_bytes(),
        "objects": len(gc.get_objects()) - objects,
        "seconds": seconds,
    }


def resident_bytes() -> int:
    """What this process has resident; what only waits for the collector is not counted."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


async def task(arguments: argparse.Namespace, db: Any) -> dict[str, Any]:
    if arguments.task == "kinds":
        return await kinds(db, arguments.surface, arguments.operations)
    if arguments.task == "strict":
        return await strict(db, arguments.surface)
    return await memory(db, arguments.surface, arguments.operations)


async def awaited(arguments: argparse.Namespace, **options: Any) -> dict[str, Any]:
    async with await quorate.connect_async(arguments.endpoints, **options) as client:
        return await task(arguments, Awaited(client))


def main() -> None:
    parser = argparse.ArgumentParser(description="A client that does what rows of the table of figures watch.")
    parser.add_argument("task", choices=["kinds", "strict", "memory"])
    parser.add_argument("--surface", choices=["threads", "asyncio"], required=True)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--operations", type=int, default=1000)
    arguments = parser.parse_args()
    options = {"attempts": ATTEMPTS} if arguments.task == "strict" else {}
    if arguments.surface == "asyncio":
        answer = asyncio.run(awaited(arguments, **options))
    else:
        with quorate.connect(arguments.endpoints, **options) as client:
            answer = finish(task(arguments, Waiting(client)))
    print(json.dumps(answer))


main()
