"""A cluster of real nodes for the tests of an application, which can be killed, frozen, separated and healed.

The nodes are processes of the server itself, run by its command ``quorate testkit``; nothing of them is imitated here.
Three of them start in less than half a second::

    from quorate.testing import LocalCluster

    with LocalCluster(nodes=3) as cluster:
        with cluster.client(level="quorum") as db:
            db.put("key", "value")
            cluster.kill(0)
            assert db.get("key").value == b"value"

As a fixture of pytest, started once for a module::

    @pytest.fixture(scope="module")
    def cluster():
        with LocalCluster(nodes=3) as cluster:
            yield cluster

However the test ends, even by SIGKILL, the nodes end with it and their data is removed. Commands take milliseconds (a
restart a little longer), so tests with asyncio may call them as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from quorate import Client

__all__ = ["LocalCluster", "LocalClusterError", "NodeStatus", "Status", "binary"]

_COMMAND_SECONDS = 120.0
"""How long one command may take: above the server's own bound for a node that starts on a busy disk."""

_CLOSE_SECONDS = 30.0
"""How long the end may take: nodes with a directory of their own drain, which is bounded below this."""

_READ_BYTES = 65536
"""How much is read from the pipe at a time: what it holds."""


class LocalClusterError(RuntimeError):
    """The cluster could not be started, or did not do what it was told; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node and its process."""

    name: str
    """Its name, by which receipts and errors speak of it."""
    address: str
    """Where clients and the other nodes reach it."""
    process: int | None
    """The id of its process; None while it has none."""
    state: Literal["running", "paused", "ended"]
    """What the process does."""
    ended: str | None
    """How it ended, if it has."""
    data: pathlib.Path
    """Its data directory."""
    log: pathlib.Path
    """The file it logs to."""


@dataclass(frozen=True, slots=True)
class Status:
    """All nodes, and who can reach whom."""

    nodes: tuple[NodeStatus, ...]
    """The nodes by their numbers."""
    groups: tuple[tuple[int, ...], ...] | None
    """The groups of a partition; None while everybody reaches everybody."""
    clients: int | None
    """The group in which the clients are; None without a partition."""


class LocalCluster:
    """A cluster on this machine. It starts when it is made and ends with ``close``, ``with``, or this process.

    Nodes are numbered from 0. All methods may be called from any thread.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        replicas: int | None = None,
        settings: Mapping[str, str | float] | None = None,
        directory: str | os.PathLike[str] | None = None,
        executable: str | os.PathLike[str] | None = None,
    ) -> None:
        """Starts ``nodes`` nodes and waits until all serve.

        ``replicas`` is N, the number of owners of a key (3). ``settings`` are settings of every node by their keys in the
        configuration file (``{"deadlines.default_ms": 500}``). With ``directory`` the data stays there, and the next
        cluster of that directory has it. ``executable`` is the server's binary, otherwise found by ``binary``.
        """
        command = [str(executable or binary()), "testkit", "--nodes", str(nodes)]
        if replicas is not None:
            command += ["--replicas", str(replicas)]
        if directory is not None:
            command += ["--dir", os.fspath(directory)]
        for key, value in (settings or {}).items():
            command += ["--set", f"{key}={_written(value)}"]
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._number = 0
        self._unread = b""
        # A group of its own: Ctrl-C is for the test, which may want to use the cluster while it cleans up.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        try:
            ready = self._receive(time.monotonic() + _COMMAND_SECONDS)
            if ready.get("ready") is not True:
                raise LocalClusterError(str(ready.get("error", ready)))
        except BaseException:
            self.close()
            raise
        self._nodes = tuple(_node(node) for node in ready["nodes"])

    @property
    def endpoints(self) -> str:
        """The addresses of all nodes, as ``quorate.connect`` and ``QUORATE_ENDPOINTS`` take them."""
        return ",".join(self.addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The address of each node."""
        return tuple(node.address for node in self._nodes)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each node, by which receipts and errors speak of it."""
        return tuple(node.name for node in self._nodes)

    def client(self, **options: Any) -> Client:
        """A client of this cluster, with the options of ``quorate.connect``; for asyncio: ``connect_async(cluster.endpoints)``."""
        from quorate import connect

        return connect(self.endpoints, **options)

    def kill(self, *nodes: int) -> None:
        """Ends nodes as a power switch would: no drain, no flush."""
        self._command("kill", nodes=nodes)

    def stop(self, *nodes: int) -> None:
        """Ends nodes in order: they finish what they have begun."""
        self._command("stop", nodes=nodes)

    def restart(self, *nodes: int) -> None:
        """Starts nodes again on the data they have and waits until they serve; those that still run are stopped first."""
        self._command("restart", nodes=nodes)

    def pause(self, *nodes: int) -> None:
        """Stops the clocks of nodes: they neither answer nor hang up, as a machine that is out of breath."""
        self._command("pause", nodes=nodes)

    def resume(self, *nodes: int) -> None:
        """Lets paused nodes go on."""
        self._command("resume", nodes=nodes)

    def add_node(self) -> int:
        """Starts another node and has it join the ring, and waits until it holds its part of the data. Its number."""
        return self._change("add")

    def remove_node(self, node: int) -> None:
        """Has a node hand over what it holds and leave the ring, and ends it. It keeps its number."""
        self._command("remove", node=node)

    def replace_node(self, node: int) -> int:
        """Kills a node, removes its data, and has a new node take its place, as after the loss of a machine.

        Returns the number of the new one.
        """
        return self._change("replace", node=node)

    def partition(self, groups: Iterable[Iterable[int]], *, clients: int = 0) -> None:
        """Lets only those of the same group reach each other, until ``heal`` or another partition.

        ``clients`` is the group in which all clients are; a node in no group is alone. Connections stay open and carry
        nothing, as in a network that loses everything.
        """
        self._command("partition", groups=[list(group) for group in groups], clients=clients)

    def heal(self) -> None:
        """Lets everybody reach everybody again; what was under way arrives late."""
        self._command("heal")

    def log(self, node: int) -> str:
        """What a node has logged; of a long log the last MiB."""
        return str(self._command("log", node=node)["log"])

    def status(self) -> Status:
        """How the nodes are, and who can reach whom."""
        answer = self._command("status")
        groups = answer.get("groups")
        return Status(
            nodes=tuple(_node(node) for node in answer["nodes"]),
            groups=None if groups is None else tuple(tuple(group) for group in groups),
            clients=answer.get("clients"),
        )

    def _change(self, verb: str, **fields: Any) -> int:
        answer = self._command(verb, **fields)
        self._nodes = tuple(_node(node) for node in answer["nodes"])
        return len(self._nodes) - 1

    def close(self) -> None:
        """Ends the nodes and removes their data, unless they have a directory of their own. May be called again."""
        # A child of a fork has a copy of this object and must leave the parent's cluster alone.
        if os.getpid() != self._owner:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"LocalCluster({self.endpoints})"

    def _command(self, verb: str, **fields: object) -> dict[str, Any]:
        with self._lock:
            self._number += 1
            line = json.dumps({"id": self._number, "do": verb, **fields}) + "\n"
            deadline = time.monotonic() + _COMMAND_SECONDS
            stdin = self._process.stdin
            if stdin is None or stdin.closed:
                raise LocalClusterError("the cluster is closed")
            try:
                stdin.write(line.encode())
                stdin.flush()
            except BrokenPipeError:
                raise LocalClusterError(f"quorate testkit has ended ({self._process.wait()})") from None
            answer = self._receive(deadline)
            # An interrupted command leaves its answer unread.
            while answer.get("id") != self._number:
                answer = self._receive(deadline)
        if answer.get("ok") is not True:
            raise LocalClusterError(str(answer.get("error", answer)))
        return answer

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next line of the command's output."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        readable = select.poll()
        readable.register(descriptor, select.POLLIN)
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not readable.poll(left * 1000):
                raise LocalClusterError(f"quorate testkit did not answer within {_COMMAND_SECONDS:.0f} s")
            chunk = os.read(descriptor, _READ_BYTES)
            if not chunk:
                raise LocalClusterError(f"quorate testkit has ended ({self._process.wait()}); stderr says why")
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


def binary() -> pathlib.Path:
    """Finds the server: ``QUORATE_BINARY``, else the one in this package, else the newest one built in the source tree
    this package is installed from, else one that cargo builds there, else the one on ``PATH``."""
    named = os.environ.get("QUORATE_BINARY")
    if named:
        if not pathlib.Path(named).is_file():
            raise LocalClusterError(f"QUORATE_BINARY names {named}, which is not there")
        return pathlib.Path(named)
    here = pathlib.Path(__file__).resolve()
    shipped = here.parent / "bin" / "quorate"
    if shipped.is_file():
        return shipped
    tree = next((folder for folder in here.parents if (folder / "server" / "Cargo.toml").is_file()), None)
    if tree is not None:
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or tree / "target")
        built = _newest(target / profile / "quorate" for profile in ("debug", "release")) or _build(tree, target)
        if built is not None:
            return built
    found = shutil.which("quorate")
    if found:
        return pathlib.Path(found)
    raise LocalClusterError(
        "there is no quorate binary to run nodes with: set QUORATE_BINARY to one; or install a package that has one "
        f"({shipped} is not there); or use this package from a source tree in which `cargo build -p quorate-server` works "
        f"({'no source tree is around ' + str(here.parent) if tree is None else 'it did not in ' + str(tree)}); "
        "or put one on PATH"
    )


def _newest(candidates: Iterable[pathlib.Path]) -> pathlib.Path | None:
    built = [path for path in candidates if path.is_file()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def _build(tree: pathlib.Path, target: pathlib.Path) -> pathlib.Path | None:
    if shutil.which("cargo") is None:
        return None
    print(f"building the quorate binary in {tree}, once", file=sys.stderr)
    command = ["cargo", "build", "--locked", "--package", "quorate-server", "--bin", "quorate"]
    ended = subprocess.run(command, cwd=tree, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, stdout=2)
    return target / "debug" / "quorate" if ended.returncode == 0 else None


def _node(fields: Mapping[str, Any]) -> NodeStatus:
    return NodeStatus(
        name=fields["name"],
        address=fields["address"],
        process=fields["process"],
        state=fields["state"],
        ended=fields["ended"],
        data=pathlib.Path(fields["data"]),
        log=pathlib.Path(fields["log"]),
    )


def _written(value: str | float) -> str:
    """A setting's value as the configuration file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
