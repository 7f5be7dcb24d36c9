"""The client and its process: threads, signals, `fork`, logging, collection of garbage, closing."""

from __future__ import annotations

import gc
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import quorate
from quorate import Client
from quorate.testing import LocalCluster

CHILD_SECONDS = 60


def child(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs a program."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(program: str, *arguments: str) -> str:
    """What a program prints, which has to end well."""
    process = child(program, *arguments)
    try:
        out, err = process.communicate(timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the process hangs; it printed {out!r} and {err!r}")
    assert process.returncode == 0, err
    return out


def test_one_client_serves_many_threads(db: Client, key: str) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for index in range(200):
                db.put(f"{key} {name}", str(index))
                found = db.get(f"{key} {name}")
                assert found is not None and found.value == str(index).encode()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(index),)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


INTERRUPTED = """
    import signal, sys, time, quorate
    from quorate.testing import LocalCluster

    # Whoever runs tests in the background has made them deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with LocalCluster(nodes=3) as cluster:
        db = quorate.connect(cluster.endpoints, timeout=30, attempt_timeout=30)
        for node in range(3):
            cluster.pause(node)
        print("waits", flush=True)
        began = time.monotonic()
        try:
            db.put("key", "value")
        except KeyboardInterrupt:
            print(f"interrupted {time.time()}", flush=True)
        for node in range(3):
            cluster.resume(node)
        db.put("key", "other", timeout=20)
        print(db.get("key").value, flush=True)
        assert db.stats().waiting == 0
"""


def test_ctrl_c_ends_a_call_at_once_and_the_client_goes_on() -> None:
    process = child(INTERRUPTED)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.3)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        word, at = process.stdout.readline().split()
        assert word == "interrupted" and float(at) - sent < 1
        out, err = process.communicate(timeout=CHILD_SECONDS)
        assert process.returncode == 0, err
        assert out == "b'other'\n"
    finally:
        process.kill()
        process.wait()


def test_a_handler_of_a_signal_may_make_calls_itself(db: Client, key: str) -> None:
    answers: list[bool] = []

    def ask(_: int, __: object) -> None:
        answers.append(db.exists(key))

    before = signal.signal(signal.SIGALRM, ask)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert db.get(key) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(answers) > 5 and not any(answers)


FORKED = """
    import asyncio, gc, os, sys, quorate

    endpoints = sys.argv[1]
    db = quorate.connect(endpoints, timeout=20, attempt_timeout=10)
    bucket = db.bucket("other")
    db.put("forked", "parent")
    pages = db.scan()
    aio = asyncio.run(quorate.connect_async(endpoints))

    def refused(call):
        try:
            call()
        except quorate.ForkedClientError as error:
            assert isinstance(error, quorate.ClientClosedError) and error.code == "forked_client"
        else:
            raise AssertionError(call)

    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (
                lambda: db.get("a"), lambda: db.put("a", "b"), lambda: db.delete("a"), lambda: db.exists("a"),
                lambda: db.lookup("a"), lambda: db.get_many(["a"]), lambda: db.put_many({"a": "b"}),
                lambda: db.delete_many(["a"]), lambda: db.update("a", lambda _: b""), lambda: list(db.scan()),
                lambda: list(pages), lambda: list(db.scan_all()), lambda: db.explain("a"), lambda: db.ring,
                db.stats, db.ping, lambda: db.bucket("c"), lambda: bucket.get("a"),
                lambda: asyncio.run(aio.get("a")),
            ):
                refused(call)
            # There is nothing to close, so that leaving a `with` is no error.
            db.close()
            asyncio.run(aio.close())
            mine = quorate.connect(endpoints, timeout=20, attempt_timeout=10)
            assert mine.get("forked").value == b"parent"
            mine.put("forked", "child")

            async def main():
                async with await quorate.connect_async(endpoints, timeout=20, attempt_timeout=10) as db:
                    return (await db.get("forked")).value

            assert asyncio.run(main()) == b"child"
            del db, bucket, aio, pages
            gc.collect()
            mine.close()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert db.get("forked").value == b"child"
    asyncio.run(aio.close())
    db.close()
    print("ok")
"""


def test_a_client_made_before_fork_is_refused_in_the_child_and_a_new_one_works(cluster: LocalCluster) -> None:
    assert output_of(FORKED, cluster.endpoints) == "ok\n"


MULTIPROCESSING = """
    import multiprocessing, sys, quorate

    endpoints = sys.argv[1]
    db = quorate.connect(endpoints, timeout=20, attempt_timeout=10)
    db.put("pool", "value")

    def read(_):
        mine = quorate.connect(endpoints, timeout=20, attempt_timeout=10)
        return mine.get("pool")

    if __name__ == "__main__":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            contexts = pool.map(lambda_free, range(4))
        assert all(context == db.get("pool").context for context in contexts)
        print("ok")
"""


def test_contexts_cross_between_processes(cluster: LocalCluster) -> None:
    program = MULTIPROCESSING.replace('return mine.get("pool")', 'return mine.get("pool").context')
    assert output_of(program.replace("lambda_free", "read"), cluster.endpoints) == "ok\n"


LOGGED = """
    import logging, sys, time, quorate
    from quorate.testing import LocalCluster

    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)

    logging.getLogger("quorate").addHandler(Handler())
    if sys.argv[1] == "debug":
        logging.getLogger("quorate").setLevel(logging.DEBUG)
    with LocalCluster(nodes=3) as cluster:
        db = quorate.connect(cluster.endpoints, timeout=20, attempt_timeout=10)
        db.put("key", "value")
        quiet = len(records)
        # The node that the client has a connection to.
        coordinator = db.explain("key").write_coordinator
        cluster.kill([node.name for node in db.ring.nodes].index(coordinator))
        deadline = time.monotonic() + float(sys.argv[2])
        while time.monotonic() < deadline and len(records) == quiet:
            db.put("key", "value", level="available")
        db.close()
    for record in records:
        assert record.name == "quorate" or record.name.startswith("quorate."), record.name
        assert record.getMessage() and abs(record.created - time.time()) < 60
    print(quiet, len(records) - quiet, {record.levelname for record in records})
"""


def test_what_the_client_has_to_say_goes_to_logging() -> None:
    quiet, after, levels = output_of(LOGGED, "debug", "20").split(maxsplit=2)
    assert int(after) > 0 and levels == "{'DEBUG'}\n", (quiet, after, levels)
    quiet, _, levels = output_of(LOGGED, "usual", "1").split(maxsplit=2)
    assert quiet == "0" and "DEBUG" not in levels and "INFO" not in levels


RAISING = """
    import logging, sys, quorate
    from quorate.testing import LocalCluster

    seen, told = [], []
    raises = RuntimeError("a careless filter")

    def careless(record):
        seen.append(record)
        raise raises

    logging.getLogger("quorate").setLevel(logging.DEBUG)
    handler = logging.NullHandler()
    handler.handle = careless
    logging.getLogger("quorate").addHandler(handler)
    sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_value)
    with LocalCluster(nodes=3) as cluster:
        db = quorate.connect(cluster.endpoints, timeout=20, attempt_timeout=10)
        coordinator = db.explain("key").write_coordinator
        cluster.kill([node.name for node in db.ring.nodes].index(coordinator))
        for at in range(200):
            assert isinstance(db.put("key", str(at), level="available"), quorate.Stored)
            assert isinstance(db.get("key"), quorate.Found)
        try:
            db.put("", "a key may not be empty")
        except quorate.InvalidRequestError:
            print("the real error")
        assert seen and told == [raises] * len(seen), (len(seen), told)
        db.close()
    print("ok")
"""


def test_logging_that_raises_takes_no_outcome_away() -> None:
    assert output_of(RAISING) == "the real error\nok\n"


def test_closing_in_another_thread_ends_every_call(cluster: LocalCluster, key: str) -> None:
    db = quorate.connect(cluster.endpoints, timeout=20, attempt_timeout=10)
    ends: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                db.put(key, "value")
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    db.close()
    db.close()
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive()
    assert len(ends) == 8 and all(isinstance(end, quorate.ClientClosedError) for end in ends), ends
    calls: list[Callable[[], object]] = [
        lambda: db.get(key),
        lambda: db.bucket("other").put(key, "value"),
        lambda: db.get_many([key]),
        lambda: db.update(key, lambda _: b""),
        lambda: list(db.scan()),
        db.stats,
        db.ping,
    ]
    for call in calls:
        answer: Any
        try:
            answer = call()
        except quorate.ClientClosedError:
            continue
        assert isinstance(answer, list) and isinstance(answer[0], quorate.ClientClosedError)


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="threads are counted where Linux lists them")
def test_a_client_that_is_dropped_ends_its_threads(cluster: LocalCluster, key: str) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    clients = [quorate.connect(cluster.endpoints, io_threads=2) for _ in range(4)]
    assert [client.bucket("other").get(key) for client in clients] == [None] * 4
    assert threads() >= before + 4
    clients.clear()
    gc.collect()
    deadline = time.monotonic() + 20
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads() <= before


def test_a_resolver_that_leads_back_to_its_bucket_is_collected(db: Client) -> None:
    class Carts:
        """What an application is likely to write."""

        def __init__(self) -> None:
            self.bucket = db.bucket("carts", resolver=self.merge)

        def merge(self, values: list[bytes]) -> bytes:
            return values[-1]

    carts = Carts()
    watch = weakref.ref(carts)
    del carts
    gc.collect()
    assert watch() is None


def test_a_timeout_is_kept_while_every_node_is_frozen() -> None:
    with LocalCluster(nodes=3) as cluster, quorate.connect(cluster.endpoints) as db:
        db.put("key", "value")
        for node in range(3):
            cluster.pause(node)
        for timeout in (0.1, 0.5):
            began = time.monotonic()
            with pytest.raises(TimeoutError) as caught:
                db.put("key", "other", timeout=timeout)
            assert timeout * 0.9 < time.monotonic() - began < timeout + 1
            error = caught.value
            assert isinstance(error, quorate.TimeoutError)
            assert error.maybe_applied and error.attempts >= 1 and error.node
            assert error.elapsed_ms >= timeout * 900
        for node in range(3):
            cluster.resume(node)
        db.put("key", "last", timeout=20)
