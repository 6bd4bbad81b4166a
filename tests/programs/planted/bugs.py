"""The patches beside this file: each is one small bug, with the promise that it breaks and what catches it.

A patch begins with its header:

```
Breaks: the promise, in a sentence.
Caught-by: pytest tests/core/test_deadlines.py
Caught-by: python -m tests.programs.simulation --first 1 --total 100000 --no-shrink
```

Each line of what catches it is a command that succeeds without the patch and fails with it. The diff follows, as
`git diff` makes it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

_HEADER = re.compile(r"^(Breaks|Caught-by): (\S.*)$")


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug. `caught_by`: the words of one command each, `pytest …` or the simulation's."""

    name: str
    path: Path
    breaks: str
    caught_by: tuple[tuple[str, ...], ...]


def known_bugs() -> dict[str, Bug]:
    """Every bug that there is a patch for, by name."""
    return {path.stem: read(path) for path in sorted(HERE.glob("*.patch"))}


def read(path: Path) -> Bug:
    """The bug of a patch file.

    Raises:
        ValueError: Its header lacks something, or says something else.
    """
    header, _, _ = path.read_text().partition("\ndiff --git ")
    breaks: list[str] = []
    caught_by: list[tuple[str, ...]] = []
    for line in filter(None, header.splitlines()):
        found = _HEADER.match(line)
        if found is None:
            raise ValueError(f"{path.name}: neither 'Breaks: …' nor 'Caught-by: …': {line!r}")
        if found[1] == "Breaks":
            breaks.append(found[2])
        else:
            caught_by.append(tuple(shlex.split(found[2])))
    if len(breaks) != 1 or not caught_by:
        raise ValueError(f"{path.name}: begin it with one 'Breaks: …' and a 'Caught-by: …' or more")
    return Bug(path.stem, path, breaks[0], tuple(caught_by))


def apply(bug: Bug, root: Path, *, only_check: bool = False) -> str | None:
    """Apply the patch to the sources in `root`; why it can't be, None if it could."""
    ran = subprocess.run(
        ["git", "apply", *(["--check"] if only_check else []), str(bug.path)],
        cwd=root,
        # Below a repository's top git would look for other paths, and pass over those that it does not track.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stderr.strip() if ran.returncode else None
