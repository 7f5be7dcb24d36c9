"""Runs one Python block of the documents, given as a file and the line at which it begins, against the nodes that QUORATE_ENDPOINTS names.

Where the block uses a client that it does not make, `db` is one: for asyncio if the block awaits something at its top level.
"""
import ast
import asyncio
import inspect
import os
import subprocess
import sys

import quorate

ENDPOINTS = os.environ["QUORATE_ENDPOINTS"]
USUAL_ENDPOINT = "127.0.0.1:7601"


def main():
    path, line, only_compiled = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "no-run"
    with open(path, encoding="utf-8") as file:
        # Errors then name the line of the page.
        text = "\n" * line + file.read().replace(USUAL_ENDPOINT, ENDPOINTS)
    code = compile(text, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if only_compiled:
        return
    if "import pytest" in text:
        # Tests of an application, which start what they need.
        sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-q", path]))
    names = {"__name__": "__main__", "quorate": quorate}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(run(code, names))
    else:
        with quorate.connect(ENDPOINTS) as names["db"]:
            exec(code, names)


async def run(code, names):
    async with await quorate.connect_async(ENDPOINTS) as names["db"]:
        await eval(code, names)


if __name__ == "__main__":
    main()
