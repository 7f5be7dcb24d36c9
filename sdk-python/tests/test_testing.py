"""``quorate.testing`` as an application's test uses it: a real cluster is killed, restarted, frozen, separated and healed, and the
client sees what it would see in production."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import quorate
from quorate.testing import LocalCluster, LocalClusterError, binary

TIMEOUT = 0.8
"""How long an operation on the wrong side of a partition tries: long enough for a first attempt to fail."""

PATIENCE = 30
"""How long something may take that comes by and by, on a machine that may be busy."""

MISSING = (quorate.TimeoutError, quorate.UnavailableError, quorate.QuorumTimeoutError)


@pytest.fixture(name="own", scope="module")
def own_cluster() -> Iterator[LocalCluster]:
    """A cluster that these tests harm, and leave whole."""
    with LocalCluster(nodes=3) as cluster:
        yield cluster


def until(what: str, is_so: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}"
        time.sleep(0.05)


def put_until_it_succeeds(db: quorate.Client, level: quorate.Level) -> None:
    """What has come back is noticed by and by."""

    def succeeds() -> bool:
        try:
            db.put("key", "value", level=level)
        except quorate.QuorateError:
            return False
        return True

    until(f"a put at {level} succeeds", succeeds)


def test_a_killed_node_is_missed_at_all_and_not_at_quorum_and_comes_back(own: LocalCluster) -> None:
    with own.client(timeout=TIMEOUT) as db:
        put_until_it_succeeds(db, "all")
        own.kill(1)
        killed = own.status().nodes[1]
        assert killed.state == "ended" and "SIGKILL" in str(killed.ended) and killed.process is None
        put_until_it_succeeds(db, "quorum")
        with pytest.raises(MISSING):
            db.put("key", "value", level="all")
        own.restart(1)
        put_until_it_succeeds(db, "all")
    assert own.log(1).count("serving") >= 2


def test_two_frozen_nodes_of_three_take_the_quorum_away_until_they_go_on(own: LocalCluster) -> None:
    with own.client(timeout=TIMEOUT) as db:
        put_until_it_succeeds(db, "quorum")
        own.pause(0, 2)
        with pytest.raises(MISSING):
            db.put("key", "value", level="quorum")
        own.resume(0, 2)
        put_until_it_succeeds(db, "all")


def test_the_smaller_side_of_a_partition_refuses_at_quorum_and_the_larger_goes_on(own: LocalCluster) -> None:
    with own.client(timeout=TIMEOUT) as db:
        put_until_it_succeeds(db, "quorum")
        own.partition([[0], [1, 2]])
        with pytest.raises(MISSING):
            db.put("key", "value", level="quorum")
        own.partition([[0], [1, 2]], clients=1)
        status = own.status()
        assert (status.groups, status.clients) == (((0,), (1, 2)), 1)
        put_until_it_succeeds(db, "quorum")
        own.heal()
        assert own.status().groups is None
        put_until_it_succeeds(db, "all")


def test_nodes_join_leave_and_are_replaced_while_no_call_fails() -> None:
    with LocalCluster(nodes=3) as cluster, cluster.client(level="quorum") as db:
        for number in range(20):
            db.put(f"key {number}", "before")
        ended, written = threading.Event(), [0]
        failures: list[quorate.QuorateError] = []

        def write() -> None:
            while not ended.is_set():
                try:
                    db.put(f"during {written[0]}", "value")
                except quorate.QuorateError as error:
                    failures.append(error)
                written[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert cluster.add_node() == 3
            cluster.remove_node(0)
            assert cluster.replace_node(1) == 4
        finally:
            ended.set()
            writer.join()
        assert not failures
        assert [node.state for node in cluster.status().nodes] == ["ended", "ended", "running", "running", "running"]
        for key, value in [(f"key {number}", b"before") for number in range(20)] + [
            (f"during {number}", b"value") for number in range(written[0])
        ]:
            found = db.get(key, level="all")
            assert found is not None and found.value == value
        until("the client follows the ring", lambda: db.ring.epoch == 4)
        assert {owner.name for owner in db.explain("key 1").owners} == {"n3", "n4", "n5"}
        # The cluster goes on like any other.
        cluster.kill(3)
        put_until_it_succeeds(db, "quorum")
        cluster.restart(3)
        put_until_it_succeeds(db, "all")
        with pytest.raises(LocalClusterError, match="no node 9"):
            cluster.remove_node(9)


def test_asyncio_uses_the_same_class() -> None:
    async def main() -> None:
        async with LocalCluster(nodes=1, settings={"deadlines.default_ms": 500}) as cluster:
            async with await quorate.connect_async(cluster.endpoints) as db:
                await db.put("key", "value")
                cluster.restart(0)
                found = await db.get("key")
                assert found is not None and found.value == b"value"

    asyncio.run(main())


def test_what_is_asked_in_vain_is_an_error_that_says_why(cluster: LocalCluster) -> None:
    with pytest.raises(LocalClusterError, match="no node 3"):
        cluster.kill(3)
    with pytest.raises(LocalClusterError, match="names no node"):
        cluster.kill()
    with pytest.raises(LocalClusterError, match="more than once"):
        cluster.partition([[0], [0]])
    with pytest.raises(LocalClusterError, match="no.such.setting"):
        LocalCluster(settings={"no.such.setting": 1})
    closed = LocalCluster(nodes=1)
    closed.close()
    closed.close()
    with pytest.raises(LocalClusterError, match="closed"):
        closed.heal()


def test_a_directory_keeps_the_data_for_the_next_cluster(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "cluster"
    with LocalCluster(nodes=1, directory=directory) as cluster, cluster.client() as db:
        db.put("key", "kept")
    with LocalCluster(nodes=1, directory=directory) as cluster, cluster.client() as db:
        found = db.get("key")
        assert found is not None and found.value == b"kept"


def test_a_binary_that_is_not_there_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_BINARY", "/nowhere/quorate")
    with pytest.raises(LocalClusterError, match="QUORATE_BINARY names /nowhere/quorate"):
        LocalCluster()


PROGRAM = """
import json, os, sys, time
from quorate.testing import LocalCluster
cluster = LocalCluster(nodes=2)
cluster.pause(0)
print(json.dumps([[node.process, str(node.data)] for node in cluster.status().nodes]), flush=True)
if sys.argv[1] == "forked child" and os.fork() == 0:
    time.sleep(60)      # It holds a copy of the pipe by which the cluster would notice the end.
if sys.argv[1] != "exit":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["exit", "kill", "forked child"])
def test_nothing_is_left_of_a_program_however_it_ends(how: str) -> None:
    environment = {**os.environ, "QUORATE_BINARY": str(binary())}
    command = [sys.executable, "-c", PROGRAM, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, process_group=0) as process:
        assert process.stdout is not None
        nodes: list[tuple[int, str]] = json.loads(process.stdout.readline())
        if how == "exit":
            assert process.wait(PATIENCE) == 0
        else:
            process.kill()
        left = [pathlib.Path(f"/proc/{id}") for id, _ in nodes] + [pathlib.Path(nodes[0][1]).parent]
        until("nothing is left", lambda: not any(path.exists() for path in left))
        if how == "forked child":
            os.killpg(process.pid, signal.SIGKILL)


def test_the_example_of_the_page_works_as_it_stands_there(tmp_path: pathlib.Path) -> None:
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "testing.md"
    (tmp_path / "test_page.py").write_text(page.read_text().split("```python\n")[1].split("```")[0])
    environment = {**os.environ, "QUORATE_BINARY": str(binary())}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert ended.returncode == 0 and "2 passed" in ended.stdout, ended.stdout + ended.stderr
