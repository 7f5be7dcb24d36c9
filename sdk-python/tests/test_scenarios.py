"""The scenarios of the repository's `tests/scenarios/`, played by both Python clients: against real nodes, and on a stage of fake
ones. `pytest -k stage` or `-k "a receipt"` plays some of them."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenario import Scenario, Slip
from surface import surface
from world import REPOSITORY, World

FILE: dict[str, Any] = json.loads((REPOSITORY / "tests/scenarios/scenarios.json").read_text())

NODES = 3
SCENARIO_SECONDS = 120
"""Several times what the slowest needs on a busy machine."""

PASSED: dict[str, list[str]] = {"blocking": [], "asyncio": []}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Callable[[], World]]:
    """Real nodes that scenarios share, started when the first one wants them."""
    worlds: list[World] = []

    def start() -> World:
        if not worlds:
            worlds.append(World.testkit(NODES))
        return worlds[0]

    yield start
    for world in worlds:
        world.close()


@pytest.fixture(scope="module", autouse=True)
def record() -> Iterator[None]:
    """Writes down what was passed, for the table that compares the clients (`docs/parity.md`)."""
    yield
    folder = os.environ.get("QUORATE_CONFORMANCE")
    if folder:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        for surface_name, passed in PASSED.items():
            text = json.dumps({"runner": surface_name, "passed": passed, "surface": surface(surface_name)})
            (pathlib.Path(folder) / f"python-{surface_name}.json").write_text(text)


def play(scenario: dict[str, Any], bucket: str, world: World, surface_name: str) -> dict[str, Any]:
    played = Scenario(scenario, bucket, world, blocking=surface_name == "blocking").play()
    return asyncio.run(asyncio.wait_for(played, SCENARIO_SECONDS))


@pytest.mark.parametrize("surface_name", PASSED)
@pytest.mark.parametrize("at", range(len(FILE["scenarios"])), ids=lambda at: f"{FILE['scenarios'][at]['world']}: {FILE['scenarios'][at]['name']}")
def test_the_python_clients_do_what_the_scenarios_say(at: int, surface_name: str, nodes: Callable[[], World]) -> None:
    scenario = FILE["scenarios"][at]
    worlds: dict[str, Callable[[], World]] = {
        "nodes": nodes,
        "own nodes": lambda: World.testkit(NODES),
        "stage": lambda: World.stage(NODES),
    }
    world = worlds[scenario["world"]]()
    try:
        play(scenario, f"{surface_name}-{at}", world, surface_name)
    finally:
        if scenario["world"] != "nodes":
            world.close()
    PASSED[surface_name].append(scenario["name"])


@pytest.mark.parametrize("surface_name", PASSED)
@pytest.mark.parametrize("wrong", FILE["wrong"], ids=lambda wrong: wrong["name"])
def test_a_scenario_that_expects_something_else_fails_and_says_why(wrong: dict[str, Any], surface_name: str) -> None:
    world = World.stage(NODES)
    try:
        with pytest.raises(Slip) as slip:
            play(wrong, "wrong", world, surface_name)
    finally:
        world.close()
    assert wrong["fails_with"] in str(slip.value)
