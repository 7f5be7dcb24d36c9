"""The scenarios that every client must pass (`tests/scenarios/` of the repository), as the Python clients play them: an interpreter
of their small language. Rust's and Node's stand in their tests; all read the same file and must come to the same results.

A step that is not understood fails: a scenario with a slip of the pen shall not pass.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import pattern
from world import World

import quorate

UNTIL_SECONDS = 10
UNTIL_PAUSE_SECONDS = 0.02
"""How long a step with `until` is repeated, and the pause between."""

STEP_FIELDS = {"do", "client", "bucket", "times", "until", "within_ms", "expect", "save", "why"}
CALL_FIELDS = {"level", "r", "w", "n", "timeout_ms"}
READ, WRITE = ("level", "r", "n", "timeout"), ("level", "w", "n", "timeout")
CALLS: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "get": ({"key", "single"}, READ),
    "lookup": ({"key"}, READ),
    "exists": ({"key"}, READ),
    "explain": ({"key"}, ()),
    "put": ({"key", "value", "context", "ttl_ms"}, (*WRITE, "context", "ttl")),
    "delete": ({"key", "context"}, (*WRITE, "context")),
    "update": ({"key", "add"}, ("level", "r", "w", "n", "timeout")),
    "get_many": ({"keys"}, READ),
    "put_many": ({"entries"}, WRITE),
    "delete_many": ({"keys"}, WRITE),
    "scan": ({"values"}, (*READ, "values")),
    "scan_all": ({"values"}, (*READ, "values")),
    "connect": ({"settings"}, ()),
    "ring": (set(), ()),
    "stats": (set(), ()),
    "ping": (set(), ()),
    "close": (set(), ()),
}
"""The fields of each call's step besides those of all, and the options that its method takes."""

SETTINGS = {"endpoints", "attempts", "in_flight", "waiting", "zone"}
SETTINGS_IN_MS = {"timeout_ms", "attempt_timeout_ms", "connect_timeout_ms"}


class Slip(Exception):
    """A step went otherwise than expected, or can't be understood."""


class Scenario:
    """A scenario that is played by the blocking clients (each call in a thread of its own) or by those for asyncio."""

    def __init__(self, scenario: dict[str, Any], bucket: str, world: World, *, blocking: bool) -> None:
        self._steps, self._settings = scenario["steps"], scenario.get("connect", {})
        self._bucket, self._world, self._blocking = bucket, world, blocking
        self._clients: dict[str, Any] = {}
        self._contexts = {"EMPTY": quorate.Context.EMPTY}

    async def play(self) -> dict[str, Any]:
        """Plays it; what its last step came to."""
        try:
            return await self._play(self._steps)
        finally:
            for client in self._clients.values():
                await self._called(client.close)

    async def _play(self, steps: list[dict[str, Any]]) -> dict[str, Any]:
        last: dict[str, Any] = {"is": "nothing"}
        for at, step in enumerate(steps, 1):
            for turn in range(step.get("times", 1)):
                try:
                    last = await self._step(self._filled(step, turn))
                except Slip as slip:
                    raise Slip(f"step {at} ({step.get('do')}): {slip}") from None
        return last

    async def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        """Plays a step until it is as expected: once, unless it says `until`."""
        end = time.monotonic() + UNTIL_SECONDS
        while True:
            began = time.monotonic()
            result = await self._once(step)
            took_ms = (time.monotonic() - began) * 1000
            slip = pattern.mismatch(step.get("expect", {"is": {"$not": "error"}}), result, "result")
            if slip is None and took_ms > step.get("within_ms", float("inf")):
                raise Slip(f"within_ms: {took_ms:.0f} ms")
            if slip is None:
                return result
            if not step.get("until") or time.monotonic() > end:
                raise Slip(f"{slip}, in {json.dumps(result)}" if result["is"] == "error" else slip)
            await asyncio.sleep(UNTIL_PAUSE_SECONDS)

    async def _once(self, step: dict[str, Any]) -> dict[str, Any]:
        """Does what a step says; an error of the client is a result like another."""
        match step.get("do"):
            case "world":
                self._check(step, {"ask"})
                answer = await asyncio.to_thread(self._world.ask, step["ask"])
                return {**answer, "is": "error" if "error" in answer else "answer"}
            case "sleep":
                self._check(step, {"ms"})
                await asyncio.sleep(step["ms"] / 1000)
                return {"is": "slept"}
            case "together":
                self._check(step, {"branches"})
                return {"is": "together", "items": await asyncio.gather(*map(self._play, step["branches"]))}
            case "context":
                self._check(step, {"text", "bytes", "of"})
                make: Callable[[], Any] = lambda: self._context(step)  # noqa: E731
            case str(name) if name in CALLS:
                self._check(step, CALLS[name][0] | CALL_FIELDS)
                make = lambda: self._call(name, step)  # noqa: E731
            case unknown:
                raise Slip(f"no step is called {unknown}")
        try:
            made = await make()
        except quorate.QuorateError as error:
            return pattern.shown(error)
        self._save(step, getattr(made, "context", made))
        try:
            return pattern.shown(made.value) if step.get("single") else pattern.shown(made)
        except quorate.SiblingsError as error:
            return pattern.shown(error)

    async def _call(self, name: str, step: dict[str, Any]) -> Any:
        client = await self._client(step)
        if name == "connect":
            return pattern.Done("connected")
        if name == "ring":
            return client.ring
        if name == "close":
            await self._called(client.close)
            return pattern.Done("closed")
        about = client if name in ("scan_all", "stats", "ping") else client.bucket(step.get("bucket", self._bucket))
        options = {option: self._option(option, step) for option in CALLS[name][1]}
        method, arguments = getattr(about, name), self._arguments(name, step)
        given = {option: value for option, value in options.items() if value is not None}
        if name not in ("scan", "scan_all"):
            return await self._called(method, *arguments, **given)
        if self._blocking:
            return pattern.Scan(await asyncio.to_thread(lambda: list(method(**given))))
        return pattern.Scan([scanned async for scanned in method(**given)])

    def _arguments(self, name: str, step: dict[str, Any]) -> list[Any]:
        match name:
            case "put":
                return [pattern.data(step["key"]), pattern.data(step["value"])]
            case "update":
                return [pattern.data(step["key"]), functools.partial(pattern.union, step["add"])]
            case "get_many" | "delete_many":
                return [[pattern.data(key) for key in step["keys"]]]
            case "put_many":
                return [[(pattern.data(key), pattern.data(value)) for key, value in step["entries"]]]
            case _:
                return [pattern.data(step["key"])] if "key" in step else []

    def _option(self, option: str, step: dict[str, Any]) -> Any:
        if option == "context":
            return self._saved(step["context"]) if "context" in step else None
        milliseconds = step.get(f"{option}_ms")
        return step.get(option) if milliseconds is None else milliseconds / 1000

    async def _client(self, step: dict[str, Any]) -> Any:
        """The client that a step names; connected when it is named for the first time."""
        name = step.get("client", "a")
        if name not in self._clients:
            settings = step.get("settings", self._settings)
            for unknown in settings.keys() - SETTINGS - SETTINGS_IN_MS:
                raise Slip(f"no setting is called {unknown}")
            options = {key.removesuffix("_ms"): value / 1000 if key in SETTINGS_IN_MS else value for key, value in settings.items()}
            endpoints = options.pop("endpoints", self._world.endpoints)
            connect = quorate.connect if self._blocking else quorate.connect_async
            self._clients[name] = await self._called(connect, endpoints, **options)
        return self._clients[name]

    async def _context(self, step: dict[str, Any]) -> quorate.Context:
        if "bytes" in step:
            return quorate.Context.from_bytes(pattern.to_bytes(step["bytes"]))
        return quorate.Context.parse(step["text"] if "text" in step else str(self._saved(step["of"])))

    async def _called(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self._blocking:
            return await asyncio.to_thread(method, *arguments, **options)
        return await method(*arguments, **options)

    def _saved(self, name: str) -> quorate.Context:
        if name not in self._contexts:
            raise Slip(f"no context was saved as {name}")
        return self._contexts[name]

    def _save(self, step: dict[str, Any], context: object) -> None:
        if "save" in step:
            if not isinstance(context, quorate.Context):
                raise Slip("there is no context to save")
            self._contexts[step["save"]] = context

    def _check(self, step: dict[str, Any], own: set[str]) -> None:
        for unknown in step.keys() - STEP_FIELDS - own:
            raise Slip(f"the step has no field {unknown}")

    def _filled(self, value: Any, turn: int) -> Any:
        """A step with the number of its turn in place of `{n}` and the scenario's bucket in place of `{bucket}`."""
        if isinstance(value, str):
            return value.replace("{n}", str(turn)).replace("{bucket}", self._bucket)
        several, fields = pattern.as_list(value), pattern.as_fields(value)
        if several is not None:
            return [self._filled(one, turn) for one in several]
        if fields is not None:
            return {name: one if name == "branches" else self._filled(one, turn) for name, one in fields.items()}
        return value
