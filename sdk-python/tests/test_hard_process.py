"""What becomes of calls when their process forks, exits or forgets its clients, or their loop is closed, in the middle: the parent goes on,
the child is refused at once, nothing hangs, nothing crashes, and threads and descriptors are given back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from quorate.testing import LocalCluster

CHILD_SECONDS = 90
"""Far more than any program here takes; one that hangs is killed and fails."""

TIMES = float(os.environ.get("QUORATE_PROOF", "1"))


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalCluster]:
    """Three nodes of this file's own, since it freezes them."""
    with LocalCluster(nodes=3) as cluster:
        yield cluster


COMMON = """
    import asyncio, gc, os, pathlib, signal, sys, threading, time
    import quorate

    endpoints = sys.argv[1]

    def own(what):
        return len(os.listdir(f"/proc/self/{what}"))

    def returns(what, before):
        deadline = time.monotonic() + 20
        while own(what) > before:
            assert time.monotonic() < deadline, f"{own(what)} of {what} are left of {before}"
            time.sleep(0.02)
"""


def ends_well(program: str, nodes: LocalCluster, *arguments: str) -> str:
    """What a program prints that has to end by itself, with nothing on standard error: no traceback, no "Fatal Python error"."""
    whole = textwrap.dedent(COMMON) + textwrap.dedent(program)
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", whole, nodes.endpoints, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS)
    assert ended.returncode == 0 and not ended.stderr, f"{ended.returncode}: {ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_a_fork_under_load_hurts_neither_parent_nor_child(nodes: LocalCluster) -> None:
    program = """
        db = quorate.connect(endpoints, timeout=20)
        db.put("fork", "value")
        stop, made, failed = threading.Event(), [0] * 4, []

        def load(at):
            while not stop.is_set():
                try:
                    db.put(f"fork {at}", str(made[at]))
                    made[at] += 1
                except BaseException as error:
                    failed.append(error)

        threads = [threading.Thread(target=load, args=(at,), daemon=True) for at in range(len(made))]
        for thread in threads:
            thread.start()
        children = []
        for number in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    began = time.monotonic()
                    for call in (lambda: db.get("fork"), lambda: db.get_many(["fork"] * 10), db.stats, lambda: list(db.scan())):
                        try:
                            call()
                        except quorate.ForkedClientError:
                            continue
                        raise AssertionError("a client from before the fork was not refused")
                    assert time.monotonic() - began < 5
                    with quorate.connect(endpoints, timeout=20) as mine:
                        assert mine.get("fork").value == b"value"
                    if number % 2:
                        db.close()
                    code = 0
                finally:
                    # Half of them end as programs do, with everything that Python does then.
                    if number % 4 < 2:
                        os._exit(code)
                    stop.set()
                    sys.exit(code)
            children.append(child)
            time.sleep(0.05)
        for child in children:
            deadline = time.monotonic() + 30
            while True:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    break
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    raise AssertionError("a child hangs")
                time.sleep(0.01)
            assert status == 0, status
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed and min(made) > 0, failed
        db.close()
        print(sum(made))
    """
    assert int(ends_well(program, nodes)) > 20


def test_a_fork_in_the_middle_of_awaited_calls_leaves_both_in_order(nodes: LocalCluster) -> None:
    program = """
        async def main():
            async with await quorate.connect_async(endpoints, timeout=20) as db:
                await db.put("fork", "value")
                calls = [asyncio.ensure_future(db.get("fork")) for _ in range(1000)]
                await asyncio.sleep(0.001)
                child = os.fork()
                if child == 0:
                    # The loop belongs to the parent too: the child has none that runs, and asyncio says so first.
                    code = 1
                    try:
                        try:
                            await db.get("fork")
                        except (RuntimeError, quorate.ForkedClientError):
                            pass
                        try:
                            asyncio.run(db.put("fork", "child"))
                        except quorate.ForkedClientError:
                            code = 0
                        except RuntimeError:
                            # asyncio.run starts no loop in the middle of another one's task.
                            code = 0
                    finally:
                        os._exit(code)
                found = await asyncio.gather(*calls)
                assert all(each.value == b"value" for each in found)
                _, status = await asyncio.to_thread(os.waitpid, child, 0)
                assert status == 0, status

        asyncio.run(main())
    """
    ends_well(program, nodes)


@pytest.mark.parametrize("way", ["threads", "cancelled", "sys.exit", "loop left"])
def test_a_process_ends_at_once_with_calls_under_way(nodes: LocalCluster, way: str) -> None:
    program = """
        way, nodes = sys.argv[2], [int(process) for process in sys.argv[3].split()]

        def freeze():
            for node in nodes:
                os.kill(node, signal.SIGSTOP)

        def wait(db):
            try:
                db.get("key", level="quorum")
            except quorate.QuorateError:
                pass

        async def main():
            db = await quorate.connect_async(endpoints, timeout=60, attempt_timeout=60)
            freeze()
            calls = [asyncio.ensure_future(db.put("key", "value")) for _ in range(1000)]
            await asyncio.sleep(0.05)
            if way == "sys.exit":
                sys.exit(0)
            if way == "cancelled":
                for call in calls:
                    call.cancel()

        if way == "threads":
            db = quorate.connect(endpoints, timeout=60, attempt_timeout=60)
            freeze()
            for _ in range(50):
                threading.Thread(target=wait, args=(db,), daemon=True).start()
            time.sleep(0.2)
        else:
            asyncio.run(main())
    """
    processes = " ".join(str(node.process) for node in nodes.status().nodes)
    began = time.time()
    try:
        ends_well(program, nodes, way, processes)
    finally:
        for node in range(3):
            nodes.resume(node)
    assert time.time() - began < 20, "the process waited for its calls"


def test_loops_that_are_closed_in_the_middle_leave_nothing(nodes: LocalCluster) -> None:
    program = """
        import logging, warnings
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)

        def once(db):
            loop = asyncio.new_event_loop()
            calls = [loop.create_task(db.put(f"loop {at}", "value")) for at in range(200)]
            loop.run_until_complete(asyncio.sleep(0.002))
            loop.close()
            return calls

        async def connect():
            return await quorate.connect_async(endpoints, timeout=20)

        loop = asyncio.new_event_loop()
        db = loop.run_until_complete(connect())
        once(db)
        gc.collect()
        time.sleep(0.5)
        tasks, descriptors = own("task"), own("fd")
        for _ in range(30):
            once(db)
        gc.collect()
        returns("task", tasks)
        returns("fd", descriptors)
        assert loop.run_until_complete(db.put("loop", "goes on")).siblings >= 1
        loop.run_until_complete(db.close())
        loop.close()
        # What the loops left behind complains that it was never awaited; that is theirs.
        sys.stderr = open(os.devnull, "w")
        os._exit(0)
    """
    ends_well(program, nodes)


def test_clients_that_nobody_closes_give_everything_back(nodes: LocalCluster) -> None:
    program = """
        rounds = int(sys.argv[2])

        def wait(count):
            with quorate.connect(endpoints, timeout=20) as db:
                db.put("key", "value")

        wait(0)
        asyncio.run(asyncio.sleep(0))
        gc.collect()
        tasks, descriptors = own("task"), own("fd")

        async def several():
            for number in range(rounds):
                db = await quorate.connect_async(endpoints, timeout=20)
                if number % 2:
                    await db.put("key", "value")
                if number % 3 == 0:
                    bucket = db.bucket("cycle", resolver=lambda values, db=db: values[0])

        for number in range(rounds):
            db = quorate.connect(endpoints, timeout=20)
            if number % 2:
                db.put("key", "value")
            if number % 3 == 0:
                # A cycle, which only the collector finds.
                bucket = db.bucket("cycle", resolver=lambda values, db=db: values[0])
        asyncio.run(several())
        del db, bucket, wait
        gc.collect()
        returns("task", tasks)
        returns("fd", descriptors)
    """
    ends_well(program, nodes, str(round(100 * TIMES)))


def test_many_clients_at_once_are_closed_from_many_threads(nodes: LocalCluster) -> None:
    program = """
        with quorate.connect(endpoints) as db:
            db.put("key", "value")
        tasks, descriptors = own("task"), own("fd")
        clients = [quorate.connect(endpoints, timeout=20) for _ in range(100)]
        assert own("task") > tasks
        failed = []

        def use_and_close(at):
            db = clients[at % len(clients)]
            for number in range(20):
                try:
                    db.put("key", "value")
                except quorate.ClientClosedError:
                    continue
                except BaseException as error:
                    failed.append(error)
                if number == 10:
                    db.close()

        threads = [threading.Thread(target=use_and_close, args=(at,)) for at in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed[0]
        for db in clients:
            try:
                db.get("key")
            except quorate.ClientClosedError:
                continue
            raise AssertionError("a closed client answered")
        del clients, db
        gc.collect()
        returns("task", tasks)
        returns("fd", descriptors)
    """
    ends_well(program, nodes)
