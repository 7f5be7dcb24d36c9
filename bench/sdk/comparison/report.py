"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from environment import Environment
from rounds import Figures, Outcome

PERCENTILES = (50.0, 99.0, 99.9)
HEADER = f"{'':4}{'':36}{'ops/s':>10}{'ours/this':>11}{'in rounds':>13}{'p50 us':>10}{'p99 us':>10}{'p99.9 us':>10}{'client us':>11}{'server us':>11}"


def table(outcome: Outcome) -> str:
    """One row of the comparison, with a line for each contender."""
    row = outcome.row
    how_many = f"{row.in_flight} threads" if row.family == "python" else f"{row.in_flight} in flight"
    lines = [f"{row.family}, {row.operation}, {'1 thread' if how_many == '1 threads' else how_many}"]
    lines.append("  * " + line(outcome.ours, "", ""))
    for theirs in outcome.theirs:
        ratios = outcome.ratios(theirs)
        mark = "  > " if theirs is outcome.strongest else "    "
        shown = f"{outcome.ratio(theirs):.2f}x" if theirs.contender.counts else f"({outcome.ratio(theirs):.2f}x)"
        lines.append(mark + line(theirs, shown, f"{min(ratios):.2f}..{max(ratios):.2f}"))
    return "\n".join(lines)


def line(figures: Figures, ratio: str, spread: str) -> str:
    percentiles = "".join(f"{figures.latencies.percentile_us(percent):>10,.0f}" for percent in PERCENTILES)
    costs = f"{figures.client_us:>11.1f}{figures.server_us:>11.1f}"
    return f"{figures.contender!s:36}{figures.per_second:>10,.0f}{ratio:>11}{spread:>13}{percentiles}{costs}"


def verdicts(outcomes: list[Outcome]) -> str:
    """A line for each row: our ratio to the strongest of the others, beside the aim."""
    lines = ["ratios to the strongest that promises as much (>), beside the aim:"]
    for outcome in outcomes:
        strongest = outcome.strongest
        ratio, aim = outcome.ratio(strongest), outcome.row.aim
        met = "met" if ratio >= aim else "short"
        lines.append(f"  {outcome.row.name:18} {ratio:6.2f}x of {strongest.contender!s:36} aim {aim:.1f}x: {met}")
    return "\n".join(lines)


def as_json(outcomes: list[Outcome], machine: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return {"machine": machine, "settings": settings, "rows": [row_as_json(outcome) for outcome in outcomes]}


def row_as_json(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row
    theirs = [
        figures_as_json(figures)
        | {"counts": figures.contender.counts, "ratio": outcome.ratio(figures), "ratios": outcome.ratios(figures)}
        for figures in outcome.theirs
    ]
    return {
        "name": row.name,
        "family": row.family,
        "operation": row.operation,
        "in_flight": row.in_flight,
        "aim": row.aim,
        "ratio": outcome.ratio(outcome.strongest),
        "strongest": str(outcome.strongest.contender),
        "ours": figures_as_json(outcome.ours),
        "theirs": theirs,
    }


def figures_as_json(figures: Figures) -> dict[str, Any]:
    return {
        "client": str(figures.contender.client),
        "store": figures.contender.store,
        "per_second": figures.per_second,
        "rounds_per_second": [measured.per_second for measured in figures.rounds],
        "operations": figures.operations,
        "client_processor_us": figures.client_us,
        "server_processor_us": figures.server_us,
        "latency_us": {f"p{percent:g}": figures.latencies.percentile_us(percent) for percent in PERCENTILES},
    }


def machine(environment: Environment, scratch: Path) -> dict[str, Any]:
    """Where this was measured, and with which versions."""
    redis = shutil.which("redis-server") or "redis-server"
    return {
        "processors": os.cpu_count(),
        "processor": processor_name(),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": printed(["stat", "--file-system", "--format", "%T", str(scratch)]),
        "load_before": os.getloadavg()[0],
        "quorate": printed([str(environment.quorate), "--version"]),
        "redis_server": printed([redis, "--version"]).split(" sha")[0],
        "python": printed([str(environment.python), "--version"]),
        "node": printed(["node", "--version"]),
    }


def processor_name() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.machine()


def printed(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
