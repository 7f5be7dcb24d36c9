"""The stores under comparison: one Redis, one Redis that syncs every write, one Quorate node of a release build, each with its data in
the scratch folder and a free port of the loopback interface. They end with this process, however it ends.
"""

from __future__ import annotations

import ctypes
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cases import Store

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
# Another process may take a port between our looking and the server's listening; this often in a row is no accident.
PORT_ATTEMPTS = 5
LOG_LINES_SHOWN = 12

REDIS_MISSING = "redis-server is not installed; on Debian: apt-get install redis-server (nothing but the program /usr/bin/redis-server is used)"


class ServerError(Exception):
    """A store could not be started."""


@dataclass
class Server:
    """A running store."""

    store: Store
    endpoint: str
    process: subprocess.Popen[bytes]

    def processor_ns(self) -> int:
        """What all its threads have had of the processors so far."""
        return sum(threads_ns(self.process.pid).values())

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def threads_ns(process: int) -> Counter[str]:
    """What the threads of a process have had of the processors so far, by their names without numbers."""
    used: Counter[str] = Counter()
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip().rstrip("0123456789").rstrip("-")
            used[name] += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            # It has ended meanwhile.
            continue
    return used


def start(store: Store, folder: Path, quorate: Path) -> Server:
    """Starts a store and waits until it accepts connections."""
    folder.mkdir()
    commands: dict[Store, Callable[[int, Path], list[str]]] = {
        "redis": lambda port, folder: redis_command(port, folder, synced=False),
        "redis-always": lambda port, folder: redis_command(port, folder, synced=True),
        "quorate": lambda port, folder: quorate_command(quorate, port, folder),
    }
    for attempt in range(PORT_ATTEMPTS):
        port = free_port()
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                commands[store](port, folder), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=end_with_parent
            )
        if accepts(port, process):
            return Server(store, f"{HOST}:{port}", process)
        process.kill()
        process.wait()
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    raise ServerError(f"{store} does not serve; the end of its log:\n" + "\n".join(lines))


def redis_command(port: int, folder: Path, *, synced: bool) -> list[str]:
    """Redis with the settings it has by itself; only where it listens and keeps its files is said."""
    program = shutil.which("redis-server")
    if program is None:
        raise ServerError(REDIS_MISSING)
    command = [program, "--port", str(port), "--bind", HOST, "--dir", str(folder)]
    return [*command, "--appendonly", "yes", "--appendfsync", "always"] if synced else command


def quorate_command(program: Path, port: int, folder: Path) -> list[str]:
    """A ring of one node with the settings it has by itself."""
    configuration = folder / "node.toml"
    configuration.write_text(
        f'name = "n1"\nlisten = "{HOST}:{port}"\ndata = "{folder / "data"}"\n'
        f'[cluster]\nname = "bench"\nsecret = "{secrets.token_hex(32)}"\nreplicas = 1\n'
        f'members = [{{ name = "n1", address = "{HOST}:{port}", zone = "a", weight = 100 }}]\n'
    )
    configuration.chmod(0o600)
    return [str(program), "serve", "--config", str(configuration)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def accepts(port: int, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """In the new process, before it becomes the server: the kernel ends it when the one that started it is gone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
