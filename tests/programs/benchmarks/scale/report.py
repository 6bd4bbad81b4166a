"""What was measured at each size: a table, the bounds that must hold, and a plot. Pure but for `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs.benchmarks.report import NONE, table

DISK_BYTES_MAX = 4096
MEMORY_BYTES_MAX = 3072
RESUME_RATIO_MAX = 1.5
INBOX_RATIO_MAX = 3.0
READY_RATIO_MAX = 1.5
DUE_S_MAX = 5.0
REFERENCE = 1_000
"""What the largest is compared with."""


@dataclass(frozen=True, slots=True)
class AtSize:
    """One size; medians over the rounds. None is what was not measured, or has no meaning with nothing parked.

    Attributes:
        memory_bytes_each: Of the ledger's own, beyond what it holds without sessions.
        engine_bytes: The engine's buffers after opening.
    """

    sessions: int
    entries: int
    ready_s: float
    first_inbox_ms: float
    inbox_ms: float
    filters_ms: Mapping[str, float]
    open_s: float
    engine_bytes: int
    memory_bytes_each: float | None = None
    disk_bytes_each: float | None = None
    resume_p50_ms: float | None = None
    resume_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """Something that must hold at the largest size."""

    what: str
    found: float
    most: float

    @property
    def holds(self) -> bool:
        return self.found <= self.most

    def __str__(self) -> str:
        said = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.what}: {self.found:.2f}, at most {self.most:g}: {said}"


def bounds(sizes: Sequence[AtSize], due_s: float | None = None) -> list[Bound]:
    """The bounds of which both sides were measured."""
    by_size = {one.sessions: one for one in sizes}
    largest = by_size[max(by_size)]
    found: list[Bound] = []

    def bound(what: str, value: float | None, most: float) -> None:
        if value is not None:
            found.append(Bound(what, value, most))

    bound("bytes on disk for each parked session", largest.disk_bytes_each, DISK_BYTES_MAX)
    bound(
        "bytes of the ledger's memory for each parked session",
        largest.memory_bytes_each,
        MEMORY_BYTES_MAX,
    )
    empty, few = by_size.get(0), by_size.get(REFERENCE)
    if empty is not None and largest.sessions:
        ratio = largest.ready_s / empty.ready_s
        bound("restart until ready, times that with none", ratio, READY_RATIO_MAX)
    if few is not None and largest.sessions > REFERENCE:
        ratio = largest.first_inbox_ms / few.first_inbox_ms
        bound(f"first inbox page, times that at {REFERENCE:,}", ratio, INBOX_RATIO_MAX)
        if largest.resume_p50_ms is not None and few.resume_p50_ms is not None:
            ratio = largest.resume_p50_ms / few.resume_p50_ms
            bound(f"resume p50, times that at {REFERENCE:,}", ratio, RESUME_RATIO_MAX)
    bound("seconds until all that are due in one second are on disk", due_s, DUE_S_MAX)
    return found


def growth(sizes: Sequence[AtSize]) -> str:
    """A line for each figure, a column for each size."""
    filters = list(dict.fromkeys(name for one in sizes for name in one.filters_ms))
    lines = [
        ("entries", [f"{one.entries:,}" for one in sizes]),
        ("start until ready", [f"{one.ready_s:.1f} s" for one in sizes]),
        ("of that, opening the ledger alone", [f"{one.open_s:.2f} s" for one in sizes]),
        ("first inbox page", [f"{one.first_inbox_ms:.1f} ms" for one in sizes]),
        ("inbox page, later", [f"{one.inbox_ms:.1f} ms" for one in sizes]),
        *(
            (f"page: {name}", [_of(one.filters_ms.get(name), "{:.1f} ms") for one in sizes])
            for name in filters
        ),
        ("resume, p50", [_of(one.resume_p50_ms, "{:.1f} ms") for one in sizes]),
        ("resume, p99", [_of(one.resume_p99_ms, "{:.1f} ms") for one in sizes]),
        ("ledger memory, each", [_of(one.memory_bytes_each, "{:,.0f} B") for one in sizes]),
        ("engine's buffers", [f"{one.engine_bytes / 1e6:.0f} MB" for one in sizes]),
        ("disk, each", [_of(one.disk_bytes_each, "{:,.0f} B") for one in sizes]),
    ]
    titles = ["parked sessions", *(f"{one.sessions:,}" for one in sizes)]
    return table(titles, [[name, *cells] for name, cells in lines])


def _of(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def markdown(
    facts: Mapping[str, Any], sizes: Sequence[AtSize], due: tuple[int, float] | None
) -> str:
    """All of it."""
    parts = ["# Scale", *(f"- {name}: {value}" for name, value in facts.items()), "", growth(sizes)]
    if due is not None:
        parts += ["", f"{due[0]:,} deadlines in the same second: all on disk after {due[1]:.1f} s."]
    parts += ["", *(f"- {one}" for one in bounds(sizes, due[1] if due is not None else None))]
    return "\n".join(parts) + "\n"


def plot(sizes: Sequence[AtSize], path: Path) -> None:
    """How each figure grows from the smallest size to the largest, as an SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "helmr"
    shown = [one for one in sizes if one.sessions]
    numbers = [one.sessions for one in shown]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    times, bytes_each = figure.subplots(1, 2)
    for label, values in (
        ("start until ready", [one.ready_s * 1e3 for one in shown]),
        ("opening the ledger", [one.open_s * 1e3 for one in shown]),
        ("first inbox page", [one.first_inbox_ms for one in shown]),
        ("resume, p50", [one.resume_p50_ms for one in shown]),
        ("resume, p99", [one.resume_p99_ms for one in shown]),
    ):
        times.plot(numbers, values, marker="o", label=label)
    for label, each in (
        ("disk", [one.disk_bytes_each for one in shown]),
        ("ledger's memory", [one.memory_bytes_each for one in shown]),
    ):
        bytes_each.plot(numbers, each, marker="o", label=label)
    times.set(xscale="log", yscale="log", xlabel="parked sessions", ylabel="ms")
    bytes_each.set(xscale="log", xlabel="parked sessions", ylabel="bytes each", ylim=(0, None))
    for axes in (times, bytes_each):
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
