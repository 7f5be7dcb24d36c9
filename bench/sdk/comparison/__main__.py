"""`bench/sdk/run`: our Python and Node clients beside those of Redis. The first page of `bench/sdk/README.md` says what is compared."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from cases import Row, rows
from environment import BuildError, prepare
from rounds import Outcome, field_of, measure
from servers import ServerError, redis_command
from workers import WorkerError, Workload


def main() -> int:
    arguments = parse()
    wanted = [row for row in rows() if not arguments.only or any(word in row.name for word in arguments.only)]
    if not wanted:
        print(f"no row is named like {arguments.only}; there are: " + ", ".join(row.name for row in rows()), file=sys.stderr)
        return 2
    try:
        # Before minutes of building: without Redis there is nothing to compare with.
        redis_command(0, Path(), synced=False)
        return compare(arguments, wanted)
    except (BuildError, ServerError, WorkerError) as error:
        print(f"bench/sdk: {error}", file=sys.stderr)
        return 1


def compare(arguments: argparse.Namespace, wanted: list[Row]) -> int:
    environment = prepare(build=not (arguments.no_build or arguments.debug), profile="debug" if arguments.debug else "release")
    workload = Workload(arguments.keys, arguments.value_bytes, arguments.seed)
    most = max(row.in_flight for row in wanted)
    people = arguments.output == "table"

    def show(outcome: Outcome) -> None:
        print(report.table(outcome), flush=True, file=sys.stdout if people else sys.stderr)

    with tempfile.TemporaryDirectory(prefix="quorate-bench-", dir=arguments.directory) as scratch:
        machine = report.machine(environment, Path(scratch))
        if people:
            print(", ".join(f"{name}: {value}" for name, value in machine.items()))
            print(report.HEADER, flush=True)
        began = time.monotonic()
        with field_of(environment, workload, Path(scratch), most) as started:
            outcomes = measure(started, wanted, arguments.rounds, arguments.seconds, show)
    machine["load_after"] = os.getloadavg()[0]
    if people:
        print(report.verdicts(outcomes))
        print(f"{len(outcomes)} rows after {time.monotonic() - began:.0f} s; load {machine['load_before']:.1f} before, {machine['load_after']:.1f} after")
    else:
        settings = {"rounds": arguments.rounds, "seconds": arguments.seconds, **vars(workload)}
        print(json.dumps(report.as_json(outcomes, machine, settings), indent=2))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/sdk/run", description="Compare the Python and Node clients with those of Redis, on this machine.")
    parser.add_argument("--rounds", type=positive(int), default=5, help="how often every contender of a row runs (5)")
    parser.add_argument("--seconds", type=positive(float), default=0.6, help="how long each time (0.6)")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of a second: shows that every row runs, measures nothing")
    parser.add_argument("--only", action="append", metavar="WORD", help="rows whose name contains this, as in: 'asyncio get 512', python, put")
    parser.add_argument("--keys", type=positive(int), default=10_000, help="how many different keys (10000)")
    parser.add_argument("--value-bytes", type=positive(int), default=100, help="bytes of a value (100)")
    parser.add_argument("--seed", type=int, default=1, help="where the random choices begin (1)")
    parser.add_argument("--directory", type=Path, help="where the stores keep their data: on the disk that is to be measured (a temporary folder)")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--no-build", action="store_true", help="take the release builds of an earlier run as they are")
    parser.add_argument("--debug", action="store_true", help="take the builds for tests as they are, which says nothing about speed; only with --quick")
    arguments = parser.parse_args()
    if arguments.debug and not arguments.quick:
        parser.error("--debug measures nothing: it goes with --quick")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.1
    return arguments


def positive(kind: type) -> Any:
    """The numbers of a kind above zero, as argparse wants it."""

    def parsed(text: str) -> Any:
        number = kind(text)
        if number <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return number

    return parsed


if __name__ == "__main__":
    sys.exit(main())
