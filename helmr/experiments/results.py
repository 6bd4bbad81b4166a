"""Results of an experiment, a row per session and a row per wait, and its progress.

Frames are polars: a missing time or number stays missing without turning a column of integers into floats, instants
keep their zone, and two frames compare exactly. `.to_pandas()` is there for what needs it.

A progress bar shows on a terminal (rich's) and in a notebook (a line of HTML).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from helmr.errors import MissingExtra, UsageError
from helmr.experiments.simulation import SimulatedSession, SimulatedWait

if TYPE_CHECKING:
    import polars


SESSION_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "status": "String",
    "result": "String",
    "error": "String",
    "started_at": "Datetime",
    "ended_at": "Datetime",
    "duration_s": "Float64",
    "waits": "Int64",
    "answered": "Int64",
    "timed_out": "Int64",
    "waited_s": "Float64",
}
"""Columns of `Results.sessions()` after the parameters, with polars types."""

WAIT_TYPES = {
    "session": "Int64",
    "number": "Int64",
    "kind": "String",
    "stream": "String",
    "subject": "String",
    "opened_at": "Datetime",
    "deadline_at": "Datetime",
    "status": "String",
    "ended_at": "Datetime",
    "waited_s": "Float64",
    "operator": "String",
    "taken_at": "Datetime",
    "answer": "String",
    "assignee": "String",
    "reminders": "Int64",
    "by_default": "Boolean",
}
"""Columns of `Results.waits()` after the parameters."""

Scalar = str | int | float | bool | None


class Results:
    """The rows of one or more experiments.

    Args:
        parts: For each experiment its parameters, sessions and waits.
    """

    def __init__(
        self,
        parts: Iterable[
            tuple[Mapping[str, Scalar], Sequence[SimulatedSession], Sequence[SimulatedWait]]
        ],
    ) -> None:
        self._sessions: list[dict[str, Any]] = []
        self._waits: list[dict[str, Any]] = []
        self._parameters: list[str] = []
        for parameters, sessions, waits in parts:
            self._parameters = list(parameters)
            self._sessions += [{**parameters, **asdict(row)} for row in sessions]
            ordered = sorted(waits, key=lambda row: (row.session, row.number))
            self._waits += [{**parameters, **asdict(row)} for row in ordered]

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        return f"<Results {len(self._sessions)} sessions, {len(self._waits)} waits>"

    def session_rows(self) -> list[dict[str, Any]]:
        """A dict per session, ordered by parameters as they were swept, then by number; needs no extra."""
        return [dict(row) for row in self._sessions]

    def wait_rows(self) -> list[dict[str, Any]]:
        """A dict per wait, ordered by parameters, session and number; needs no extra."""
        return [dict(row) for row in self._waits]

    def sessions(self) -> polars.DataFrame:
        """A row per session: the parameters, then `SESSION_TYPES`. `result` is JSON; times are UTC, spans seconds.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._sessions, SESSION_TYPES, parameters=self._parameters)

    def waits(self) -> polars.DataFrame:
        """A row per wait, timers left out: the parameters, then `WAIT_TYPES`. `answer` is JSON.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._waits, WAIT_TYPES, parameters=self._parameters)


def frame(
    rows: Sequence[Mapping[str, Any]], types: Mapping[str, str], *, parameters: Iterable[str] = ()
) -> polars.DataFrame:
    """A frame of these rows: the parameters, of whatever type they are, then the columns of `types`.

    Raises:
        MissingExtra: polars is not installed.
    """
    frames = _polars()
    schema: dict[str, Any] = dict.fromkeys(parameters)
    for name, kind in types.items():
        schema[name] = frames.Datetime("us", "UTC") if kind == "Datetime" else getattr(frames, kind)
    columns = {name: [row[name] for row in rows] for name in schema}
    made: polars.DataFrame = frames.DataFrame(columns, schema=schema, strict=True)
    return made


def check_parameters(names: Iterable[str]) -> None:
    """Check that parameters can become columns.

    Raises:
        UsageError: One is called like a column that is there already.
    """
    taken = sorted(set(names) & (SESSION_TYPES.keys() | WAIT_TYPES.keys()))
    if taken:
        raise UsageError(f"a parameter can't be called {taken[0]}: results have that column")


def _polars() -> Any:
    try:
        return importlib.import_module("polars")
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise MissingExtra(
            "frames need polars, which is not installed",
            hint="pip install 'helmr[experiments]'",
            extra="experiments",
        ) from error


class Tell(Protocol):
    """Reports the number of ended sessions."""

    def __call__(self, done: int) -> None:
        """Report the number of sessions done."""
        ...


@contextmanager
def progress(total: int, *, shows: bool | None) -> Iterator[Tell]:
    """A bar over `total` sessions.

    Args:
        total: Number of sessions.
        shows: None: on a terminal or in a notebook.
    """
    if shows is not False and _in_notebook():
        with _notebook_bar(total) as tell:
            yield tell
        return
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("sessions"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not (console.is_terminal if shows is None else shows),
    )
    with bar:
        task = bar.add_task("sessions", total=total)
        yield lambda done: bar.update(task, completed=done)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


@contextmanager
def _notebook_bar(total: int) -> Iterator[Tell]:
    # rich's and tqdm's bars ask a notebook for ipywidgets; an element of HTML asks for nothing.
    display: Any = importlib.import_module("IPython.display")
    handle = display.display(display.HTML(_bar(0, total)), display_id=True)
    shown = 0

    def tell(done: int) -> None:
        nonlocal shown
        if done == total or done - shown >= max(1, total // 100):
            shown = done
            handle.update(display.HTML(_bar(done, total)))

    yield tell


def _bar(done: int, total: int) -> str:
    return f'<progress value="{done}" max="{total}"></progress> {done:,} of {total:,} sessions'
