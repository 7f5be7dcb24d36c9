"""What scenarios expect, and how results and bytes stand in them: the same form in every client's tests, so that one expectation fits
all. Bytes are `"text"`, `{"hex": "00ff"}` or `{"bytes": 16385}`: so many of a pattern that is the same everywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import quorate

SHOWN_BYTES_MAX = 64
"""Longer bytes are shown as their number, if they are of the pattern."""


@dataclass
class Done:
    """What a call came to that returns nothing."""

    word: str


@dataclass
class Scan:
    """The keys of a scan."""

    keys: list[quorate.Scanned]


def fill(length: int) -> bytes:
    """The pattern: bytes that show where they were cut or shifted."""
    period = bytes((at * 31 + length) % 251 for at in range(251))
    return (period * (length // 251 + 1))[:length]


def to_bytes(spec: Any) -> bytes:
    """The bytes that a scenario means."""
    data_ = data(spec)
    return data_.encode() if isinstance(data_, str) else data_


def data(spec: Any) -> str | bytes:
    """The same as an application would write them: text as text."""
    if isinstance(spec, str):
        return spec
    return fill(spec["bytes"]) if "bytes" in spec else bytes.fromhex(spec["hex"])


def show(shown: bytes) -> Any:
    """Bytes as a scenario writes them."""
    if len(shown) > SHOWN_BYTES_MAX and shown == fill(len(shown)):
        return {"bytes": len(shown)}
    try:
        return shown.decode()
    except UnicodeDecodeError:
        return {"hex": shown.hex()}


def union(added: str, values: list[bytes]) -> str:
    """What `update` merges in scenarios: sets of words, separated by commas."""
    return ",".join(sorted({added, *(word for value in values for word in value.decode().split(","))}))


def mismatch(expected: Any, actual: Any, place: str) -> str | None:
    """Where and how `actual` is not as `expected` says: an object has at least the fields that are named, a list has as many
    elements, and `$words` say less than equality."""
    slips: list[str | None]
    fields, actual_fields, several, elements = as_fields(expected), as_fields(actual), as_list(expected), as_list(actual)
    if fields is not None and any(name.startswith("$") for name in fields):
        slips = [_mismatch_word(word, argument, actual, place) for word, argument in fields.items()]
    elif fields is not None and actual_fields is not None:
        slips = [mismatch(one, actual_fields.get(name), f"{place}.{name}") for name, one in fields.items()]
    elif several is not None and elements is not None and len(several) == len(elements):
        pairs = enumerate(zip(several, elements, strict=True))
        slips = [mismatch(one, other, f"{place}[{at}]") for at, (one, other) in pairs]
    elif type(expected) is type(actual) and expected == actual:
        return None
    else:
        return f"{place}: expected {json.dumps(expected)}, was {json.dumps(actual)}"
    return next((slip for slip in slips if slip is not None), None)


def _mismatch_word(word: str, argument: Any, actual: Any, place: str) -> str | None:
    def fits(expected: Any, one: Any) -> bool:
        return mismatch(expected, one, place) is None

    is_number = isinstance(actual, int | float) and not isinstance(actual, bool)
    elements = as_list(actual)
    match word:
        case "$at_least":
            holds = is_number and actual >= argument
        case "$at_most":
            holds = is_number and actual <= argument
        case "$one_of":
            holds = any(fits(one, actual) for one in argument)
        case "$not":
            holds = not fits(argument, actual)
        case "$some":
            holds = elements is not None and any(fits(argument, one) for one in elements)
        case "$every":
            holds = elements is not None and all(fits(argument, one) for one in elements)
        case "$count":
            holds = elements is not None and fits(argument, len(elements))
        case _:
            return f"{place}: no word is called {word}"
    return None if holds else f"{place}: expected {word} {json.dumps(argument)}, was {json.dumps(actual)}"


def as_fields(value: Any) -> dict[str, Any] | None:
    """An object of JSON, if that is what it is."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: Any) -> list[object] | None:
    """A list of JSON, if that is what it is."""
    return cast("list[object]", value) if isinstance(value, list) else None


def shown(result: Any) -> dict[str, Any]:
    """What a call returned or raised."""
    match result:
        case None:
            return {"is": "absent"}
        case Done():
            return {"is": result.word}
        case bool():
            return {"is": "exists", "exists": result}
        case bytes():
            return {"is": "value", "value": show(result)}
        case list():
            return {"is": "many", "items": [shown(item) for item in cast("list[object]", result)]}
        case dict():
            answers = cast("dict[str, object]", result).values()
            return {"is": "ping", "answers": [isinstance(answer, float) for answer in answers]}
        case quorate.QuorateError():
            fields = ("code", "retryable", "maybe_applied", "attempts", "node", "need", "got")
            kind = type(result).__name__.removesuffix("Error")
            return {"is": "error", "kind": kind, **{field: getattr(result, field) for field in fields}}
        case quorate.Found():
            siblings = sorted(result.siblings, key=lambda sibling: sibling.value)
            assert sorted(result.values) == [sibling.value for sibling in siblings]
            return {
                "is": "found",
                "values": [show(sibling.value) for sibling in siblings],
                "clocks": [str(sibling.clock) for sibling in siblings],
                "hashes": [sibling.hash for sibling in siblings],
                "value_bytes": [sibling.value_bytes for sibling in siblings],
                "siblings": len(siblings),
                "conflict": result.is_conflict,
                "context": str(result.context),
                "receipt": _receipt(result.receipt),
            }
        case quorate.Absent():
            context = result.context
            nothing = {"seen_nothing": context.is_empty, "context": str(context)}
            return {"is": "absent", **nothing, "receipt": _receipt(result.receipt)}
        case quorate.Stored():
            return {
                "is": "stored",
                "siblings": result.siblings,
                "stands_alone": result.context is not None,
                "context": None if result.context is None else str(result.context),
                "clock": str(result.clock),
                "receipt": _receipt(result.receipt),
            }
        case quorate.Context():
            nothing = {"bytes": show(bytes(result)), "seen_nothing": result.is_empty}
            return {"is": "context", "text": str(result), **nothing}
        case Scan():
            keys = sorted(result.keys, key=lambda scanned: (scanned.bucket, scanned.key))
            return {"is": "scan", "keys": [_scanned(key) for key in keys]}
        case quorate.Explanation():
            owners = [owner.name for owner in result.owners]
            place = {"id": result.id, "partition": result.partition, "epoch": result.epoch}
            return {"is": "explanation", **place, "owners": owners}
        case quorate.Ring():
            names = [node.name for node in result.nodes]
            counts = {"epoch": result.epoch, "partitions": result.partitions, "replicas": result.replicas}
            return {"is": "ring", **counts, "nodes": names}
        case quorate.Stats():
            names = [node.name for node in result.nodes]
            counts = {"succeeded": result.succeeded, "failed": result.failed, "epoch": result.epoch}
            return {"is": "stats", **counts, "retries": result.retries, "refreshes": result.refreshes, "nodes": names}
        case _:
            raise TypeError(f"no scenario speaks of {result!r}")


def _receipt(receipt: quorate.Receipt) -> dict[str, Any]:
    fields = ("need", "durable", "stand_ins", "repaired", "replicas")
    rest = {field: getattr(receipt, field) for field in fields}
    return {"answered": list(receipt.answered), "epoch": str(receipt.epoch), **rest}


def _scanned(scanned: quorate.Scanned) -> dict[str, Any]:
    size = {"siblings": scanned.siblings, "value_bytes": scanned.value_bytes}
    values = None if scanned.found is None else [show(value) for value in sorted(scanned.found.values)]
    return {"bucket": scanned.bucket, "key": show(scanned.key), **size, "values": values}
