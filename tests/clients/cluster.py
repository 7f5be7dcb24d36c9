"""Real nodes for tests in Python: processes of the `quorate` binary on free loopback ports, ended whatever happens."""
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "schema"
START_SECONDS = 30


def binary():
    """The `quorate` binary: QUORATE_BINARY, or the newest one in the target folder."""
    if "QUORATE_BINARY" in os.environ:
        return os.environ["QUORATE_BINARY"]
    built = [path for path in (ROOT / "target/debug/quorate", ROOT / "target/release/quorate") if path.exists()]
    if not built:
        raise FileNotFoundError("no quorate binary: cargo build -p quorate-server, or set QUORATE_BINARY")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """`with Cluster(nodes=3) as cluster:` serves on `cluster.ports` inside the block."""

    def __init__(self, nodes):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="quorate-test-"))
        self.ports = free_ports(nodes)
        self.processes = [None] * nodes

    def __enter__(self):
        try:
            for at in range(len(self.ports)):
                self.start(at)
            for at in range(len(self.ports)):
                self.wait(at)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in filter(None, self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def endpoints(self):
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def kill(self, at):
        """Ends a node as a power switch would."""
        process, self.processes[at] = self.processes[at], None
        process.kill()
        process.wait()

    def start(self, at):
        """Starts a node on the data it has; `wait` for it before use."""
        name = f"n{at + 1}"
        lines = [
            f'name = "{name}"',
            f'listen = "127.0.0.1:{self.ports[at]}"',
            f'data = "{self.directory / name}"',
            "[cluster]",
            'name = "clients"',
            'secret = "only for tests, long enough"',
            "replicas = 3",
        ]
        for member, port in enumerate(self.ports):
            lines += ["[[cluster.members]]", f'name = "n{member + 1}"', f'address = "127.0.0.1:{port}"', f'zone = "z{member}"']
        configuration = self.directory / f"{name}.toml"
        configuration.write_text("\n".join(lines) + "\n")
        log = open(self.directory / f"{name}.log", "ab")
        with log:
            command = [binary(), "serve", "--config", str(configuration)]
            self.processes[at] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self, at):
        """Waits until a node accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.ports[at]), timeout=1).close()
                return
            except OSError:
                log = (self.directory / f"n{at + 1}.log").read_text()
                if self.processes[at].poll() is not None:
                    raise RuntimeError(f"node n{at + 1} ended:\n{log[-2000:]}") from None
                if time.monotonic() > deadline:
                    raise RuntimeError(f"node n{at + 1} does not serve:\n{log[-2000:]}") from None
                time.sleep(0.05)
