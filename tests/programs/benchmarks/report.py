"""The result as tables, and as files: `bench.json` with every round, `bench.md` to read. Pure but for `write`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.programs.benchmarks.measures import Summary

BASE = "helmr"
NONE = "-"
COLUMNS = (
    "system",
    "done",
    "time",
    "per second",
    "acknowledged p50",
    "acknowledged p99",
    "visible p50",
    "visible p99",
    "server CPU each",
    "load CPU each",
    "memory (PSS)",
    "rate, times Helmr",
    "CPU, times Helmr",
)

Key = tuple[str, int, str]
"""Case, size and system."""


def row(one: Summary, base: Summary | None) -> list[str]:
    """A line of a case's table; the ratios are to the base's."""
    return [
        one.system,
        f"{one.done}" if one.done == one.wanted else f"{one.done} of {one.wanted}, time was up",
        f"{one.elapsed_s:.1f} s",
        f"{one.rate_per_s:.1f}",
        _ms(one.acknowledged_p50_ms),
        _ms(one.acknowledged_p99_ms),
        _ms(one.visible_p50_ms),
        _ms(one.visible_p99_ms),
        _ms(one.server_cpu_ms),
        _ms(one.load_cpu_ms),
        f"{one.pss_mb:.0f} MB",
        _ratio(one.rate_per_s, base.rate_per_s if base else 0),
        _ratio(one.server_cpu_ms, base.server_cpu_ms if base else 0),
    ]


def base_of(system: str) -> str:
    """Return the system that another's ratios are to: an earlier commit's are to the same one of today."""
    name, at, _ = system.partition("@")
    return name if at else BASE


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up, so that it reads in a terminal too."""
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    ruler = ["-" * width if n == 0 else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join([line(titles), line(ruler), *map(line, lines)])


def markdown(
    summaries: Sequence[Summary],
    titles: Mapping[str, str],
    facts: Mapping[str, Any],
    reasons: Mapping[Key, str] | None = None,
) -> str:
    """Machine and settings, then a table for each case and size.

    Args:
        reasons: Why a system has no figures in a case.
    """
    reasons = reasons or {}
    parts = ["# Benchmark", *(f"- {name}: {value}" for name, value in facts.items())]
    measured = [(one.case, one.size) for one in summaries]
    for case, size in dict.fromkeys([*measured, *(key[:2] for key in reasons)]):
        same = [one for one in summaries if (one.case, one.size) == (case, size)]
        by_name = {one.system: one for one in same}
        parts += ["", f"## {case}, {size}: {titles[case]}", ""]
        lines = [row(one, by_name.get(base_of(one.system))) for one in same]
        lines += [
            [key[2], reason, *[NONE] * (len(COLUMNS) - 2)]
            for key, reason in reasons.items()
            if key[:2] == (case, size)
        ]
        parts.append(table(COLUMNS, lines))
        extra = [f"- {one.system}: {_extra(one.extra)}" for one in same if one.extra]
        parts += ["", *extra] if extra else []
    return "\n".join(parts) + "\n"


def write(folder: Path, text: str, content: Mapping[str, Any], *, name: str = "bench") -> None:
    """Both files, into a folder that is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f} ms"


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else NONE


def _extra(extra: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in extra.items())
