"""Client for Quorate, a replicated key-value store in the line of Amazon's Dynamo.

    import quorate

    with quorate.connect("127.0.0.1:7601") as db:
        db.put("greeting", "hello")
        found = db.get("greeting")            # None when there is no value
        if found is not None:
            print(found.value)                # SiblingsError when writes conflicted: found.values has them all
            db.put("greeting", "good day", context=found.context)    # replaces exactly what was read

`await quorate.connect_async(...)` gives the same with `await` before each call.
"""

from __future__ import annotations

from quorate import errors, resolvers, values
from quorate._async import AsyncBucket, AsyncClient, connect_async
from quorate._native import Absent, Context, Found, Scanned, Stored, __version__
from quorate._sync import Bucket, Client, connect
from quorate._types import AsyncMerge, Data, Level, Merge, Resolver
from quorate.errors import (
    ClientClosedError,
    ConnectionError,
    CorruptError,
    ForbiddenError,
    ForkedClientError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    QuorateError,
    QuorumTimeoutError,
    SiblingsError,
    TimeoutError,
    TooLargeError,
    TooManySiblingsError,
    UnauthenticatedError,
    UnavailableError,
)
from quorate.values import Explanation, Node, NodeStats, Receipt, Ring, Sibling, Stats

__all__ = [
    "Absent",
    "AsyncBucket",
    "AsyncClient",
    "AsyncMerge",
    "Bucket",
    "Client",
    "ClientClosedError",
    "ConnectionError",
    "Context",
    "CorruptError",
    "Data",
    "Explanation",
    "ForbiddenError",
    "ForkedClientError",
    "Found",
    "InternalError",
    "InvalidRequestError",
    "Level",
    "Merge",
    "Node",
    "NodeStats",
    "OverloadedError",
    "QuorateError",
    "QuorumTimeoutError",
    "Receipt",
    "Resolver",
    "Ring",
    "Scanned",
    "Sibling",
    "SiblingsError",
    "Stats",
    "Stored",
    "TimeoutError",
    "TooLargeError",
    "TooManySiblingsError",
    "UnauthenticatedError",
    "UnavailableError",
    "__version__",
    "connect",
    "connect_async",
    "errors",
    "resolvers",
    "values",
]
