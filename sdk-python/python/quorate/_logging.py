"""What the client has to say, passed on to the logger `quorate` and those beneath it. Called by the native module."""

from __future__ import annotations

import logging
import time

__all__ = ["emit", "level"]


def level() -> int:
    """From which level up the native module shall note anything: what the logger `quorate` has when a client connects."""
    return logging.getLogger("quorate").getEffectiveLevel()


def emit(number: int, target: str, message: str, at: float | None) -> None:
    """Passes one record on; `target` names the part of the client it comes from, `at` is when it was noted."""
    logger = logging.getLogger(target.replace("::", "."))
    if not logger.isEnabledFor(number):
        return
    record = logger.makeRecord(logger.name, number, "(quorate)", 0, message, (), None)
    if at is not None:
        record.created = at
        record.msecs = (at - int(at)) * 1000
        record.relativeCreated += (at - time.time()) * 1000
    logger.handle(record)
