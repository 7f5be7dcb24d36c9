"""Where the workers run: a virtual environment and a folder of npm packages under target/, and release builds of the node and of both clients.

Everything is made here at the first run and found again at later ones. The versions of the other clients are those of
`workers/requirements.txt` and `workers/package-lock.json`; where packages come from is the business of pip's and npm's own settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
WORKERS = BENCH / "workers"

# A first release build takes minutes on two cores; what takes longer than this hangs.
STEP_TIMEOUT_S = 3600.0


NPM_CI = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]

# The release build of our addon: the package is told by QUORATE_NATIVE_PATH to load this one, whatever else has been built in the tree.
ADDON = "quorate-release.node"


class BuildError(Exception):
    """Something that the comparison needs could not be made."""


@dataclass(frozen=True)
class Environment:
    """What has been made."""

    quorate: Path
    python: Path
    node_folder: Path

    def worker_command(self, worker: Literal["python", "node"]) -> list[str]:
        if worker == "python":
            return [str(self.python), str(WORKERS / "python_worker.py")]
        # Node looks for packages beside the program, so the program stands beside the packages.
        return ["node", str(self.node_folder / "node_worker.mjs")]

    def worker_variables(self) -> dict[str, str]:
        return {**os.environ, "QUORATE_NATIVE_PATH": str(self.node_folder / ADDON)}

    def worker_folder(self, worker: Literal["python", "node"]) -> Path:
        return self.python.parent if worker == "python" else self.node_folder


def prepare(*, build: bool, profile: Literal["release", "debug"] = "release") -> Environment:
    """Makes what is missing or out of date; without `build`, takes the builds of this profile as they are."""
    target = target_folder()
    python = python_environment(target / "bench-sdk" / "python")
    node_folder = node_packages(target / "bench-sdk" / "node")
    built = target / profile
    if build:
        packages = ["-p", "quorate-server", "-p", "quorate-python", "-p", "quorate-node"]
        variables = {"PYO3_PYTHON": str(python), "PYO3_BUILD_EXTENSION_MODULE": "1"}
        step("release builds", ["cargo", "build", "--release", "--locked", *packages], **variables)
        step("TypeScript", [*NPM_CI, "--ignore-scripts"], ROOT / "sdk-node")
        step("TypeScript", ["npm", "run", "--silent", "build:typescript"], ROOT / "sdk-node")
    if profile == "release":
        modules = built / "lib_native.so", built / "libquorate_node.so"
    else:
        # Builders of packages for tests put them in place, and keep their own order under target/.
        modules = only(ROOT / "sdk-python/python/quorate", "_native.*.so"), only(ROOT / "sdk-node", "*.node")
    python_package(modules[0], python)
    node_package(modules[1], node_folder)
    return Environment(existing(built / "quorate"), python, node_folder)


def target_folder() -> Path:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=STEP_TIMEOUT_S).stdout
    return Path(json.loads(printed)["target_directory"])


def python_environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    requirements = WORKERS / "requirements.txt"
    if not up_to_date(folder, requirements):
        venv.EnvBuilder(clear=True, with_pip=True).create(folder)
        step("redis-py", [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
        mark(folder, requirements)
    return python


def node_packages(folder: Path) -> Path:
    lock = WORKERS / "package-lock.json"
    if not up_to_date(folder, lock):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(WORKERS / name, folder / name)
        step("ioredis and node-redis", NPM_CI, folder)
        mark(folder, lock)
    shutil.copy(WORKERS / "node_worker.mjs", folder / "node_worker.mjs")
    return folder


def python_package(module: Path, python: Path) -> None:
    """The package of this tree with the build of its module, where the worker's interpreter finds it."""
    site = next((python.parent.parent / "lib").glob("python3*")) / "site-packages" / "quorate"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "sdk-python" / "python" / "quorate", site, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(existing(module), site / "_native.abi3.so")


def node_package(addon: Path, folder: Path) -> None:
    """The package of this tree, among the worker's packages, and the build of its addon beside the worker."""
    package = folder / "node_modules" / "quorate"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(existing(ROOT / "sdk-node" / "dist"), package / "dist")
    for name in ("package.json", "native.js"):
        shutil.copy(ROOT / "sdk-node" / name, package / name)
    shutil.copy(existing(addon), folder / ADDON)


def only(folder: Path, pattern: str) -> Path:
    return next(folder.glob(pattern), folder / pattern)


def existing(path: Path) -> Path:
    if not path.exists():
        raise BuildError(f"{path} is missing; run without --no-build")
    return path


def step(name: str, command: list[str], folder: Path = ROOT, **variables: str) -> None:
    print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
    ended = subprocess.run(command, cwd=folder, env={**os.environ, **variables}, stdout=sys.stderr, timeout=STEP_TIMEOUT_S)
    if ended.returncode != 0:
        raise BuildError(f"{name}: failed, see above")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def up_to_date(folder: Path, source: Path) -> bool:
    stamp = folder / "made-from"
    return stamp.exists() and stamp.read_text() == digest(source)


def mark(folder: Path, source: Path) -> None:
    (folder / "made-from").write_text(digest(source))
