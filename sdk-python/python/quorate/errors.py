"""What can go wrong: one class per kind, the same kinds in every language.

Every error knows whether the same call may succeed later (`retryable`) and whether a write may have been stored all the same
(`maybe_applied`). Absence is not an error: `get` returns `None`. Which kind an error is, the Rust client says; nothing is
decided here.
"""

from __future__ import annotations

import builtins

__all__ = [
    "ClientClosedError",
    "ConnectionError",
    "CorruptError",
    "ForbiddenError",
    "ForkedClientError",
    "InternalError",
    "InvalidRequestError",
    "OverloadedError",
    "QuorateError",
    "QuorumTimeoutError",
    "SiblingsError",
    "TimeoutError",
    "TooLargeError",
    "TooManySiblingsError",
    "UnauthenticatedError",
    "UnavailableError",
]


class QuorateError(Exception):
    """Anything that this package raises, except `TypeError` for arguments of a wrong type."""

    code: str
    """A stable name for programs, finer than the class: `timeout`, `storage_full`, ..."""
    message: str
    """What happened and what to do, for people. `str(error)` has the rest too."""
    retryable: bool
    """Whether the same call may succeed later."""
    maybe_applied: bool
    """Whether a write may have been stored somewhere, and so may become visible although this call failed."""
    node: str | None
    """The node that was asked last."""
    attempts: int
    """How often the operation was sent to a node."""
    elapsed_ms: float
    """From the call to the error."""
    need: int | None
    """Replicas that were needed, where too few of them is what failed."""
    got: int | None
    """Replicas that answered well, where too few of them is what failed."""

    def __init__(
        self,
        text: str = "",
        code: str = "internal",
        message: str | None = None,
        retryable: bool = False,
        maybe_applied: bool = False,
        node: str | None = None,
        attempts: int = 0,
        elapsed_ms: float = 0.0,
        need: int | None = None,
        got: int | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.message = text if message is None else message
        self.retryable = retryable
        self.maybe_applied = maybe_applied
        self.node = node
        self.attempts = attempts
        self.elapsed_ms = elapsed_ms
        self.need = need
        self.got = got

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[type[QuorateError], tuple[object, ...]]:
        parts = (str(self), self.code, self.message, self.retryable, self.maybe_applied)
        return type(self), (*parts, self.node, self.attempts, self.elapsed_ms, self.need, self.got)


class TimeoutError(QuorateError, builtins.TimeoutError):
    """The operation's time was over before it was answered."""


class UnavailableError(QuorateError):
    """Not enough replicas can be reached, or none that can serve."""


class QuorumTimeoutError(QuorateError, builtins.TimeoutError):
    """Not enough replicas answered the coordinator in time: `got` of the `need` that were needed."""


class OverloadedError(QuorateError):
    """Refused before anything was done, by a node or by this client's own limits: try later."""


class TooManySiblingsError(QuorateError):
    """The key holds as many concurrent versions as are allowed: get, merge, put with the context."""


class SiblingsError(QuorateError, ValueError):
    """One value was asked for, and there are concurrent ones: merge them, or use `update` or a resolver."""


class TooLargeError(QuorateError, ValueError):
    """A key, value or context above its limit."""


class InvalidRequestError(QuorateError, ValueError):
    """The request itself is wrong; never retry it unchanged."""


class UnauthenticatedError(QuorateError, PermissionError):
    """Missing or wrong credentials."""


class ForbiddenError(QuorateError, PermissionError):
    """Known, but not allowed."""


class ConnectionError(QuorateError, builtins.ConnectionError):
    """No node could be reached, a connection broke before the answer came, or what was reached is not the cluster expected."""


class ClientClosedError(QuorateError):
    """The client was closed."""


class ForkedClientError(ClientClosedError):
    """The client was made before `fork` and is used in the child: connect again there."""


class CorruptError(QuorateError):
    """Replicas hold the key but can't verify their record of it."""


class InternalError(QuorateError):
    """A bug, or a condition nobody foresaw."""


_CLASSES: dict[str, type[QuorateError]] = {
    "Timeout": TimeoutError,
    "Unavailable": UnavailableError,
    "QuorumTimeout": QuorumTimeoutError,
    "Overloaded": OverloadedError,
    "TooManySiblings": TooManySiblingsError,
    "Siblings": SiblingsError,
    "TooLarge": TooLargeError,
    "InvalidRequest": InvalidRequestError,
    "Unauthenticated": UnauthenticatedError,
    "Forbidden": ForbiddenError,
    "Connection": ConnectionError,
    "ClientClosed": ClientClosedError,
    "ForkedClient": ForkedClientError,
    "Corrupt": CorruptError,
    "Internal": InternalError,
}


def _build(kind: str, *parts: object) -> QuorateError:  # pyright: ignore[reportUnusedFunction]
    """The exception of a kind; the one place where exceptions are made, called by the native module."""
    return _CLASSES.get(kind, InternalError)(*parts)  # type: ignore[arg-type]
