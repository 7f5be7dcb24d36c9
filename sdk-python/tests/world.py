"""The world of a scenario: a process that sets nodes up and harms them as it is told, in lines of JSON."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import subprocess
from typing import Any

from quorate.testing import binary

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class World:
    """Real nodes (`quorate testkit`), or fake ones that do as their script says (`quorate-stage`)."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._numbers = itertools.count(1)
        endpoints = self._read()["endpoints"]
        self.endpoints: str = endpoints if isinstance(endpoints, str) else ",".join(endpoints)

    @classmethod
    def testkit(cls, nodes: int) -> World:
        return cls(str(binary()), "testkit", "--nodes", str(nodes))

    @classmethod
    def stage(cls, nodes: int) -> World:
        stage = os.environ.get("QUORATE_STAGE") or str(binary().with_name("quorate-stage"))
        return cls(stage, str(nodes))

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**command, "id": number}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert answer.pop("id") == number
        return answer

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
