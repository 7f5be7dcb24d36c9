"""The golden vectors of the repository's `tests/vectors/`, as both Python clients show them through their own public surface."""

from __future__ import annotations

import asyncio
import builtins
import json
from typing import Any

import pytest
from scenario import Scenario
from world import REPOSITORY, World

from quorate import errors

SURFACES = ("blocking", "asyncio")


def vectors(name: str) -> Any:
    return json.loads((REPOSITORY / f"tests/vectors/{name}.json").read_text())


def play(steps: list[dict[str, Any]], nodes: int, surface: str) -> None:
    world = World.stage(nodes)
    try:
        asyncio.run(Scenario({"steps": steps}, "default", world, blocking=surface == "blocking").play())
    finally:
        world.close()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("vector", vectors("ring")["layouts"], ids=lambda vector: vector["layout"]["name"])
def test_keys_have_their_places_and_owners(vector: dict[str, Any], surface: str) -> None:
    steps: list[dict[str, Any]] = [{"do": "world", "ask": {"do": "publish", "layout": vector["layout"]}}]
    for key in vector["keys"]:
        expected = {"epoch": vector["layout"]["epoch"], **{field: key[field] for field in ("id", "partition", "owners")}}
        steps.append({"do": "explain", "bucket": key["bucket"], "key": key["key"], "expect": expected})
    assert len(steps) > 10
    play(steps, 5, surface)


@pytest.mark.parametrize(("how", "name"), [("from_bytes", "bytes"), ("from_text", "text")])
def test_contexts_have_their_texts(how: str, name: str) -> None:
    steps = [{"do": "context", name: vector[name], "expect": vector["result"]} for vector in vectors("contexts")[how]]
    assert len(steps) > 5
    play(steps, 1, "blocking")


@pytest.mark.parametrize("kind", vectors("errors")["kinds"], ids=lambda kind: kind["kind"])
def test_each_kind_of_error_has_its_class(kind: dict[str, Any]) -> None:
    error = getattr(errors, kind["python"])
    assert issubclass(error, errors.QuorateError)
    if kind["python_base"] is not None:
        assert issubclass(error, getattr(builtins, kind["python_base"]))
    else:
        standard = [base for base in error.__mro__ if base.__module__ == "builtins"]
        assert standard == [Exception, BaseException, object]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case", vectors("errors")["cases"], ids=lambda case: case["name"])
def test_errors_say_what_happened(case: dict[str, Any], surface: str) -> None:
    steps = [*case["steps"][:-1], {**case["steps"][-1], "expect": case["error"]}]
    play(steps, 3, surface)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case", vectors("receipts")["cases"], ids=lambda case: case["name"])
def test_receipts_say_what_came_over_the_wire(case: dict[str, Any], surface: str) -> None:
    call = {"do": case["do"], "key": "k", "expect": case["result"]} | ({"value": "v"} if case["do"] == "put" else {})
    play([{"do": "world", "ask": {"do": "act", "node": "all", "then": {"answer": case["wire"]}}}, call], 3, surface)
