"""What a free-threaded interpreter has to do with the package: calls of threads that really run at the same time, and of tasks. Run by
``test_package.py``, in the interpreter of the tests or as a program in one that is found.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import quorate

THREADS = 8

CALLS = 200
"""Calls of each thread, and tasks at the same time."""

PATIENT_SECONDS = 20.0
"""How busy the machine is, is not what this is about."""


def work(endpoints: str) -> None:
    """Writes and reads from threads that share a client, then from tasks that share another."""
    with quorate.connect(endpoints, timeout=PATIENT_SECONDS, attempt_timeout=PATIENT_SECONDS / 2) as db:

        def in_thread(thread: int) -> int:
            for at in range(CALLS):
                key, value = f"free {thread} {at}", f"{thread}/{at}".encode()
                stored = db.put(key, value)
                found = db.get(key)
                assert found is not None and found.value == value and found.context == stored.context, key
            return thread

        with ThreadPoolExecutor(THREADS) as pool:
            assert list(pool.map(in_thread, range(THREADS))) == list(range(THREADS))
    asyncio.run(in_tasks(endpoints))


async def in_tasks(endpoints: str) -> None:
    """Reads what the threads wrote and writes beside it, all at once."""
    async with await quorate.connect_async(
        endpoints, timeout=PATIENT_SECONDS, attempt_timeout=PATIENT_SECONDS / 2
    ) as db:
        await asyncio.gather(*(db.put(f"task {at}", str(at)) for at in range(CALLS)))
        own = await asyncio.gather(*(db.get(f"task {at}") for at in range(CALLS)))
        assert [found and found.value for found in own] == [str(at).encode() for at in range(CALLS)]
        others = await asyncio.gather(*(db.get(f"free {at % THREADS} {at}") for at in range(CALLS)))
        assert [found and found.value for found in others] == [f"{at % THREADS}/{at}".encode() for at in range(CALLS)]


def has_interpreter_lock() -> bool:
    """Whether threads take turns: always before 3.13, and again once a module is imported that needs it."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or bool(enabled())


if __name__ == "__main__":
    assert not has_interpreter_lock(), "importing the package brings the interpreter's lock back"
    work(sys.argv[1])
    assert not has_interpreter_lock()
