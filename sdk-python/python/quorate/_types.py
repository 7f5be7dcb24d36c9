"""Names for the types of arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Data: TypeAlias = str | Buffer
else:
    Data = str | bytes | bytearray | memoryview

__all__ = ["AsyncMerge", "Data", "Level", "Merge", "Resolver"]

Level: TypeAlias = Literal["one", "available", "quorum", "all"]
"""How many replicas a call waits for, by name."""

Merge: TypeAlias = Callable[[list[bytes]], Data]
"""Makes one value of the concurrent ones, of which there may be none; the one that was written last is at the end."""

AsyncMerge: TypeAlias = Callable[[list[bytes]], Data | Awaitable[Data]]
"""As `Merge`, or a coroutine function that does the same."""

Resolver: TypeAlias = Callable[[list[bytes]], Data]
"""Makes one value of the concurrent ones, of which there are at least two; the one that was written last is at the end."""
