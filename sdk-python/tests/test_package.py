"""The package itself: what is generated is up to date, types are right, examples are true, one version, builds."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import pytest

import free_threaded
import quorate
from conftest import not_run
from quorate import _async, _sync, resolvers
from quorate.testing import LocalCluster

ROOM = pathlib.Path(__file__).resolve().parents[1]

TOOL_SECONDS = 300


def ended_well(*command: str) -> None:
    """Runs a tool in the package's room; fails with what it prints."""
    ended = subprocess.run(command, cwd=ROOM, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}\n{ended.stderr}"


def test_the_blocking_client_is_what_the_tool_makes_of_the_other() -> None:
    ended_well(sys.executable, "tools/sync_twin.py", "--check")


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    for waits, gives in [(_sync.Bucket, _async.AsyncBucket), (_sync.Client, _async.AsyncClient)]:
        names = {name for name in dir(waits) if not name.startswith("_")}
        assert names == {name for name in dir(gives) if not name.startswith("_")} - {"aclose"}
        for name in names - {"name", "ring"}:
            one, other = (inspect.signature(getattr(kind, name)) for kind in (waits, gives))
            assert [str(each).split(":")[0] for each in one.parameters.values()] == [
                str(each).split(":")[0] for each in other.parameters.values()
            ]
    assert inspect.signature(quorate.connect).parameters == inspect.signature(quorate.connect_async).parameters


def test_everything_public_has_documentation() -> None:
    for name in quorate.__all__:
        public = getattr(quorate, name)
        if inspect.isclass(public) or inspect.isroutine(public):
            assert inspect.getdoc(public), name
    for kind in (
        quorate.Client,
        quorate.AsyncClient,
        quorate.Found,
        quorate.Stored,
        quorate.Absent,
        quorate.Scanned,
        quorate.Context,
    ):
        for name in dir(kind):
            if not name.startswith("_") and name != "EMPTY":
                assert inspect.getdoc(inspect.getattr_static(kind, name)), f"{kind.__name__}.{name}"


def test_the_examples_in_the_documentation_are_true(cluster: LocalCluster) -> None:
    with quorate.connect(cluster.endpoints, timeout=20, attempt_timeout=10) as db:
        names = {"db": db, "quorate": quorate, "Context": quorate.Context, "endpoints": cluster.endpoints}
        ended = doctest.testmod(_sync, extraglobs=names)
        assert ended.attempted > 30 and ended.failed == 0
    ended = doctest.testmod(resolvers)
    assert ended.attempted >= 3 and ended.failed == 0


def test_the_strict_type_checker_has_nothing_to_say() -> None:
    ended_well(sys.executable, "-m", "mypy", "--python-executable", sys.executable)


def test_the_type_checker_of_editors_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("node") is None:
        not_run("what pyright says about the Python package: no node, which it runs in")
    # It is told to look for no newer version of itself, and to put whatever it may want to keep beside the interpreter that runs it.
    monkeypatch.setenv("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    monkeypatch.setenv("PYRIGHT_PYTHON_CACHE_DIR", str(pathlib.Path(sys.prefix) / "cache"))
    ended_well(sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


def test_the_stub_says_what_the_native_module_has() -> None:
    ended_well(sys.executable, "-m", "mypy.stubtest", "quorate")


def test_the_package_has_the_version_of_the_workspace() -> None:
    manifest = tomllib.loads((ROOM.parent / "Cargo.toml").read_text(encoding="utf-8"))
    version = manifest["workspace"]["package"]["version"]
    assert quorate.__version__ == version == importlib.metadata.version("quorate")
    assert (pathlib.Path(quorate.__file__).parent / "py.typed").exists()


def test_the_native_module_needs_no_library_of_python() -> None:
    if shutil.which("readelf") is None:
        not_run("what the native Python module links: no readelf")
    from quorate import _native

    path = _native.__file__
    assert path
    needed = subprocess.run(["readelf", "--dynamic", path], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed and "libpython" not in needed


def test_a_free_threaded_interpreter_serves_threads_and_tasks(cluster: LocalCluster, tmp_path: pathlib.Path) -> None:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not free_threaded.has_interpreter_lock()
        free_threaded.work(cluster.endpoints)
        assert not free_threaded.has_interpreter_lock()
        return
    names = ("python3.14t", "python3.15t", "python3.13t")
    interpreter = next((found for name in names if (found := shutil.which(name))), None)
    if interpreter is None:
        not_run(f"the Python client in a free-threaded interpreter: none of {', '.join(names)} was found")
        return
    ended_well(sys.executable, "-m", "maturin", "build", "-i", interpreter, "--out", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    ended_well(interpreter, "-m", "venv", str(tmp_path / "environment"))
    python = str(tmp_path / "environment" / "bin" / "python")
    ended_well(python, "-m", "pip", "install", "--no-index", str(wheel))
    ended_well(python, "tests/free_threaded.py", cluster.endpoints)
