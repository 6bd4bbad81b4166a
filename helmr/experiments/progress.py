"""A progress bar where someone looks: rich's on a terminal, a line of HTML in a notebook, else none."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Tell(Protocol):
    """Says how many sessions have ended."""

    def __call__(self, done: int) -> None:
        """So many."""
        ...


@contextmanager
def progress(total: int, *, shows: bool | None) -> Iterator[Tell]:
    """A bar over `total` sessions.

    Args:
        total: How many.
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
