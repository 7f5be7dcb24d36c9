"""Names for the types of arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from quorate._native import Context

    Data: TypeAlias = str | Buffer
    Pair: TypeAlias = tuple[Data, Data] | tuple[Data, Data, Context | None]
    # Mappings are invariant in their keys: one with `str` for keys is none with `str | bytes`.
    Entries: TypeAlias = Mapping[str, Data] | Mapping[bytes, Data] | Iterable[Pair]
else:
    Data = str | bytes | bytearray | memoryview
    Pair = tuple[Data, Data] | tuple[Data, Data, None]
    Entries = Mapping | Iterable

__all__ = ["AsyncMerge", "Data", "Entries", "Level", "Merge", "Resolver"]

Level: TypeAlias = Literal["one"] | Literal["available"] | Literal["quorum"] | Literal["all"]
"""How many replicas a call waits for, by name."""

Merge: TypeAlias = Callable[[list[bytes]], Data]
"""Makes one value of the concurrent ones, of which there may be none; the one that was written last is at the end."""

AsyncMerge: TypeAlias = Callable[[list[bytes]], Data | Awaitable[Data]]
"""As `Merge`, or a coroutine function that does the same."""

Resolver: TypeAlias = Callable[[list[bytes]], Data]
"""Makes one value of the concurrent ones, of which there are at least two; the one that was written last is at the end."""
