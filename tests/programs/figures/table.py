"""The tables of docs/reliability.md and of the README, from what is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs.figures.record import ROOT, Run

PAGE = ROOT / "docs" / "reliability.md"
README = ROOT / "README.md"
BEGIN = "<!-- figures: make figures -->\n"
END = "\n<!-- end of figures -->"
NOT_YET = "not run yet"

Figures = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Args:
        what: What was counted.
        source: Whose record it is in.
        value: The figure, of all runs on record.
    """

    what: str
    source: str
    value: Callable[[Figures], str]


COMMANDS = {
    "simulation": 'make simulate SIMULATE_ARGS="--total 10000000 --counts --record"',
    "pairs": 'make simulate-pairs SIMULATE_ARGS="--total 10000000 --counts --record"',
    "histories": 'make histories HISTORY_ARGS="campaign --calls 1000000 --kills 1000 --record"',
    "model": 'make model MODEL_ARGS="--record"',
    "planted": 'make planted PLANTED_ARGS="--record"',
    "powerloss": 'make powerloss POWERLOSS_ARGS="--record"',
    "toolbox": 'make toolbox TOOLBOX_ARGS="--record"',
}
"""What puts each on record."""


def total(key: str) -> Callable[[Figures], str]:
    """The sum of a figure over all runs."""
    return lambda runs: f"{sum(run[key] for run in runs):,}"


def hours(key: str) -> Callable[[Figures], str]:
    """A sum of seconds, in hours."""
    return lambda runs: f"{sum(run[key] for run in runs) / 3600:.1f} h"


def counts(key: str) -> Callable[[Figures], str]:
    """A sum for each name."""

    def told(runs: Figures) -> str:
        found: Counter[str] = Counter()
        for run in runs:
            found.update(run[key])
        return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()))

    return told


def broken(*promises: str) -> Callable[[Figures], str]:
    """How often promises of these kinds were."""
    return lambda runs: f"{sum(run['broken'][one] for run in runs for one in promises):,}"


def caught(runs: Figures) -> str:
    """Of how many."""
    return f"{runs[-1]['caught']} of {runs[-1]['planted']}"


def last(key: str) -> Callable[[Figures], str]:
    """A figure of the last run."""
    return lambda runs: f"{runs[-1][key]:,}"


def spoilt(runs: Figures) -> str:
    """Of how many images that were spoilt the judge said so; in the others there was nothing to lose yet."""
    return f"{runs[-1]['sabotage_found']} of {runs[-1]['sabotaged']}"


def verified(runs: Figures) -> str:
    """How many entries, and in what time."""
    found = runs[-1]["verify"]
    return f"{found['entries']:,} in {found['cpu_s']:.1f} s of processor time"


def waited(beside: str) -> Callable[[Figures], str]:
    """What commits took beside something, and without it."""

    def told(runs: Figures) -> str:
        kinds = [runs[-1][beside][kind] for kind in ("beside", "without")]
        p50, p99, longest = (
            " and ".join(f"{one[what]:.0f}" for one in kinds) for what in ("p50", "p99", "longest")
        )
        return f"{p50} ms at the median, {p99} at p99, {longest} the longest"

    return told


ROWS = (
    Row("simulated seeds", "simulation", total("seeds")),
    Row("simulated events, each followed by every check", "simulation", total("steps")),
    Row("processor time of it", "simulation", hours("cpu_s")),
    Row("faults in it", "simulation", counts("faults")),
    Row("rules broken", "simulation", total("broken")),
    Row("simulated seeds of pairs", "pairs", total("seeds")),
    Row("simulated events of pairs, each followed by every check", "pairs", total("steps")),
    Row("processor time of that", "pairs", hours("cpu_s")),
    Row("faults in that", "pairs", counts("faults")),
    Row("rules broken by a pair", "pairs", total("broken")),
    Row("calls in checked histories of the real stack", "histories", total("calls")),
    Row("in so many histories", "histories", total("histories")),
    Row("hours of it", "histories", hours("took_s")),
    Row("processes killed or stopped", "histories", total("hits")),
    Row("faults", "histories", counts("faults")),
    Row("operations called more than once", "histories", total("repeated")),
    Row("acknowledged and lost, moved or doubled", "histories", broken("log", "creations")),
    Row("waits and tokens resolved twice", "histories", broken("waits", "tokens")),
    Row("repeated operations answered with something else", "histories", broken("repeats")),
    Row("recorded steps run again", "histories", broken("steps")),
    Row("runs that took something else than their waits", "histories", broken("runs")),
    Row("uses of public tokens over their bound", "histories", broken("uses")),
    Row("runs that stood still at the end", "histories", total("unfinished")),
    Row("sequences of commands, through model and core", "model", total("sequences")),
    Row("commands in them", "model", total("commands")),
    Row("differences", "model", total("differences")),
    Row("planted bugs caught", "planted", caught),
    Row("crash images of lost power, built from a record and opened", "powerloss", last("images")),
    Row("of them whole at once", "powerloss", last("whole")),
    Row("refused, and whole after `helmr repair`", "powerloss", last("repaired")),
    Row("refused, and `helmr repair` names what is lost", "powerloss", last("dropped")),
    Row("refused, and only a backup helps", "powerloss", last("backup")),
    Row(
        "opened without something acknowledged, or with something else", "powerloss", last("broken")
    ),
    Row("spoilt on purpose, and seen", "powerloss", spoilt),
    Row("entries verified by `helmr verify`", "toolbox", verified),
    Row("commits beside a backup, and without", "toolbox", waited("backup")),
    Row("commits beside pruning, and without", "toolbox", waited("prune")),
    Row("load averages before these three", "toolbox", lambda runs: str(runs[-1]["load"])),
)


def rendered(runs: Mapping[str, Sequence[Run]]) -> str:
    """The table, and of which runs it is."""
    lines = ["| what | figure | by |", "|---|---|---|"]
    for row in ROWS:
        found = [run.figures for run in runs.get(row.source, ())]
        lines.append(f"| {row.what} | {row.value(found) if found else NOT_YET} | {row.source} |")
    lines += ["", "| by | command | on | version | commit | machine |", "|---|---|---|---|---|---|"]
    for source, usual in COMMANDS.items():
        some = runs.get(source, ())
        command = some[0].command if len(some) == 1 else usual
        on = ", ".join(sorted({run.date for run in some})) or NOT_YET
        commits = ", ".join(sorted({run.commit for run in some}))
        machines = "; ".join(sorted({run.machine for run in some}))
        lines.append(
            f"| {source} | `{command}` | {on} | {versions(some)} | {commits} | {machines} |"
        )
    return "\n".join(lines) + "\n"


def versions(runs: Sequence[Run]) -> str:
    """The first and the last that ran, since what came later was not in it."""
    ran = [run.version for run in sorted(runs, key=lambda run: run.date)]
    return " to ".join(dict.fromkeys([*ran[:1], *ran[-1:]])) or NOT_YET


def summary(runs: Mapping[str, Sequence[Run]]) -> str:
    """The README's table: four of the rows in one sentence each."""

    def of(source: str) -> Figures:
        return [run.figures for run in runs[source]]

    sources = ("simulation", "histories", "model", "powerloss")
    seen, sent, sequences, cut = map(of, sources)
    became = "([what became of them](docs/reliability.md#figures))"
    refused = sum(cut[-1][one] for one in ("repaired", "dropped", "backup"))
    rows = (
        (
            "the whole system in a simulator, with crashes, stopped processes, lost frames and failing disks",
            f"{total('steps')(seen)} events, each followed by every check",
            f"rules broken: {total('broken')(seen)} {became}",
        ),
        (
            "the real stack under faults; a checker judges its answers afterwards",
            f"{total('calls')(sent)} calls, {total('hits')(sent)} kills and stops",
            f"acknowledged and lost: {broken('log', 'creations')(sent)}; "
            f"waits resolved twice: {broken('waits', 'tokens')(sent)}",
        ),
        (
            "random commands, sent to the core and to a naive model of the contract",
            f"{total('commands')(sequences)} commands",
            f"differences: {total('differences')(sequences)} {became}",
        ),
        (
            "power loss: a program builds images of the files and opens each",
            f"{last('images')(cut)} images",
            f"opened with acknowledged data missing: {last('broken')(cut)}; opened whole: {last('whole')(cut)}; "
            f"refused: {refused}, of which `helmr repair` opens {last('repaired')(cut)} without loss",
        ),
    )
    lines = ["| test | with | size | result |", "|---|---|---|---|"]
    for source, (test, *rest) in zip(sources, rows, strict=True):
        lines.append(f"| {' | '.join((test, versions(runs[source]), *rest))} |")
    return "\n".join(lines) + "\n"


def on_page(text: str) -> str:
    """The table that a page shows."""
    return text.split(f"{BEGIN}\n", 1)[1].split(END, 1)[0]


def put_on_page(table: str, page: Path = PAGE) -> None:
    """Show it there."""
    text = page.read_text()
    before, rest = text.split(f"{BEGIN}\n", 1)
    page.write_text(f"{before}{BEGIN}\n{table}{END}{rest.split(END, 1)[1]}")
