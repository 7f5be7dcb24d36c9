"""Writes `_sync.py`, the blocking client, from `_async.py`, the one for asyncio.

    python tools/sync_twin.py            writes it
    python tools/sync_twin.py --check    fails if it is not what would be written

The two have the same methods with the same documentation; what differs is said by the replacements below, each of which must
apply, so that none is forgotten here when the source changes.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "python" / "quorate"

HEADER = '''"""The blocking client. Generated from `_async.py` by `tools/sync_twin.py`: change that file and run the tool."""
'''

# Pattern and replacement, in this order. First what only asyncio has, then words.
REPLACEMENTS: tuple[tuple[str, str], ...] = (
    (r'\A""".*?"""\n', HEADER),
    (r"from asyncio import .*\n", ""),
    (r"from inspect import isawaitable\n", ""),
    (r"from typing import Self, TypeVar\n", "from typing import Self\n"),
    (r'\n_T = TypeVar\("_T"\)\n', ""),
    # A call that waits is not withdrawn by its caller: the native module does it when a signal's handler raises.
    (
        r"( +)call = (self\._calls\..*)\n +try:\n +return await call\n +except .*:\n +self\._calls\.withdraw\(call\)\n +raise\n",
        r"\1return \2\n",
    ),
    (r"\n    async def _ended\(.*?\n            raise\n", ""),
    (r"\n    async def aclose\(.*?\n        await self\.close\(\)\n", ""),
    (r"\n\nasync def _merged\(.*?\n    return .*\n", ""),
    (r"await _merged\(update, (merge\(values\))\)", r"\1"),
    (r"AsyncMerge, Data, Entries, Level, Resolver", "Data, Entries, Level, Merge, Resolver"),
    (r"AsyncMerge", "Merge"),
    (r"AsyncIterator, Awaitable, Iterable", "Iterable, Iterator"),
    (r"AsyncIterator", "Iterator"),
    (r"await self\._ended\((.*)\)(:?)\n", r"\1\2\n"),
    (r"for (\w+) in page:\n +yield \1\n", "yield from page\n"),
    (r" async for ", " for "),
    (r"async def ", "def "),
    (r"\(await (db|carts)\.(get|lookup|explain)\(([^()]*)\)\)", r"\1.\2(\3)"),
    (r"await ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"connect_async", "connect"),
    (r"AsyncClient", "Client"),
    (r"AsyncBucket", "Bucket"),
    (
        r"any number of tasks,\n    threads and event loops at the same time",
        "any number\n    of threads at the same time",
    ),
)


def twin(source: str) -> str:
    """The blocking client's source."""
    for pattern, replacement in REPLACEMENTS:
        source, count = re.subn(pattern, replacement, source, flags=re.DOTALL if ".*?" in pattern else 0)
        if count == 0:
            raise SystemExit(f"nothing in _async.py matches {pattern!r}: the tool has to follow the source")
    left = re.search(r".*\b(await|async|asyncio|Async\w*|Future)\b.*", source.removeprefix(HEADER))
    if left:
        raise SystemExit(f"_async.py has a line that the tool can't translate: {left[0]}")
    return source


def main() -> int:
    """Writes or checks the file; the exit status."""
    arguments = argparse.ArgumentParser(description="Writes _sync.py from _async.py.")
    arguments.add_argument("--check", action="store_true", help="only say whether it is up to date")
    check: bool = arguments.parse_args().check
    path = PACKAGE / "_sync.py"
    source = twin((PACKAGE / "_async.py").read_text(encoding="utf-8"))
    if not check:
        path.write_text(source, encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == source:
        return 0
    print("_sync.py is not up to date: python tools/sync_twin.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
