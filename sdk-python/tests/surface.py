"""The public methods of the Python clients, as this interpreter sees them: for the table that compares the clients."""

from __future__ import annotations

from typing import Any

import quorate
from quorate import testing

CLASSES: dict[str, dict[str, type[Any]]] = {
    "blocking": {"Client": quorate.Client, "Bucket": quorate.Bucket},
    "asyncio": {"Client": quorate.AsyncClient, "Bucket": quorate.AsyncBucket},
}
VALUES: dict[str, type[Any]] = {
    "Context": quorate.Context,
    "Found": quorate.Found,
    "Absent": quorate.Absent,
    "Stored": quorate.Stored,
    "Sibling": quorate.Sibling,
    "Receipt": quorate.Receipt,
    "Scanned": quorate.Scanned,
    "Explanation": quorate.Explanation,
    "Stats": quorate.Stats,
    "Ring": quorate.Ring,
    "Error": quorate.QuorateError,
    "LocalCluster": testing.LocalCluster,
}


def surface(name: str) -> dict[str, list[str]]:
    """What each class offers, without what begins with an underscore; connecting is a function of the package."""
    connect = quorate.connect if name == "blocking" else quorate.connect_async
    offered = {shown: members(kind) for shown, kind in (CLASSES[name] | VALUES).items()}
    return {**offered, "Client": sorted([*offered["Client"], connect.__name__.removesuffix("_async")])}


def members(kind: type[Any]) -> list[str]:
    annotated = {field for base in kind.__mro__ for field in base.__dict__.get("__annotations__", {})}
    inherited = set(dir(Exception))
    return sorted(member for member in {*dir(kind), *annotated} - inherited if not member.startswith("_"))
