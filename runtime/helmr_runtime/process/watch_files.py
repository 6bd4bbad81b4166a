"""Which files of task modules have changed, and whether they can be read now; for `helmr dev`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.5

Stamps = Mapping[Path, int]
"""Modification times in nanoseconds, by file."""


def stamps(tasks: Sequence[str], folder: Path) -> Stamps:
    """Of the task modules' files, named as for `up`, and of the modules beside them."""
    found = {}
    for place in {path.parent for path in _files(tasks, folder)}:
        for path in place.glob("*.py"):
            try:
                found[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return found


def _files(tasks: Iterable[str], folder: Path) -> Iterable[Path]:
    for task in tasks:
        if task.endswith(".py"):
            yield (folder / task).resolve()
            continue
        path = folder.joinpath(*task.split("."))
        yield from (one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file())


def changed(before: Stamps, now: Stamps) -> list[Path]:
    """The files that are not as they were, those that are gone too."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def syntax_error(paths: Iterable[Path]) -> str | None:
    """What is wrong with the first of these files that is no Python."""
    for path in paths:
        try:
            compile(path.read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError) as error:
            return f"{path.name}: {error}"
        except OSError:
            continue
    return None
