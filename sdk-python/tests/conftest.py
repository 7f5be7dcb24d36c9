"""What the tests share: one real cluster of three nodes, clients of it, and a way to run coroutines."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar

import pytest

import quorate
from quorate.testing import LocalCluster

T = TypeVar("T")

Run: TypeAlias = Callable[[Callable[[quorate.AsyncClient], Coroutine[Any, Any, T]]], T]

RUN_SECONDS = 60
"""Longer than any test takes, so that a hang is a failure."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes that no test may harm."""
    with LocalCluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def db(cluster: LocalCluster) -> Iterator[quorate.Client]:
    """A blocking client that no test may close. Patient, because what its tests look at is not how busy the machine is."""
    with quorate.connect(cluster.endpoints, timeout=20, attempt_timeout=10) as client:
        yield client


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"key {next(_numbers)}"


@pytest.fixture
def run(cluster: LocalCluster) -> Run[Any]:
    """Runs a coroutine function with a client of its own."""

    def run(main: Callable[[quorate.AsyncClient], Coroutine[Any, Any, T]]) -> T:
        async def with_client() -> T:
            async with await quorate.connect_async(cluster.endpoints, timeout=20, attempt_timeout=10) as client:
                return await asyncio.wait_for(main(client), RUN_SECONDS)

        return asyncio.run(with_client())

    return run


def not_run(reason: str) -> None:
    """Skips the test that calls this, and says so in the summary of `tests/run`."""
    path = os.environ.get("QUORATE_NOT_RUN")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{reason}\n")
    pytest.skip(reason)
