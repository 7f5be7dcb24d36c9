"""Resolvers: how the concurrent values of a key become one, on the caller's side.

A resolver is a function from all concurrent values, the one that was written last at the end, to one value. Give it to a bucket
(`db.bucket("carts", resolver=...)`), where `found.value` applies it to what was read, or to `update`, which also writes the
result. It must give the same for the same values, and must not depend on anything else: different readers have to agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import cast

__all__ = ["last_written", "union_of_json_sets", "union_of_lines"]


def last_written(values: Sequence[bytes]) -> bytes:
    """The value that was written last by the clocks of the nodes. The others are lost: fine for caches, wrong for carts.

    >>> last_written([b"older", b"newer"])
    b'newer'
    """
    return values[-1]


def union_of_lines(values: Sequence[bytes]) -> bytes:
    """The union of values that are sets with one member on each line, sorted.

    A member that one writer removed comes back when another wrote the set at the same time: the shopping cart of Dynamo.

    >>> union_of_lines([b"milk", b"bread\\nmilk"])
    b'bread\\nmilk'
    """
    lines = {line for value in values for line in value.split(b"\n") if line}
    return b"\n".join(sorted(lines))


def union_of_json_sets(values: Sequence[bytes]) -> bytes:
    """The union of values that are JSON arrays of strings or numbers, sorted by their JSON.

    >>> union_of_json_sets([b'["milk"]', b'["bread", "milk"]'])
    b'["bread","milk"]'
    """
    encode: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    members = {encode(member) for value in values for member in cast("list[object]", json.loads(value))}
    return f"[{','.join(sorted(members))}]".encode()
