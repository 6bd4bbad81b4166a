"""`make test`: pytest runs side by side, each with a part of the tests. Also the pytest plugin that picks a part.

The tests that start whole runtimes mostly wait for processes, those of what people see wait for screens, the others
compute; one after the other they leave a core idle. Each part has a cache of its own, and so a `--last-failed` of its
own. The first is shown as it runs, the others when all have ended. Arguments go to each; of
`--junit-xml=report.xml` each part makes a file of its own, `report-runtimes.xml` and so on. `make test-all` adds
`--all`: more of them behind these, side by side too.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

HERE = Path(__file__).parent
DEFAULT = "not soak and not perf and not long and not extras"
SHORT_OF_HOURS = "not soak and not perf"
AFTER = {
    "longer": f"long and not ray and {SHORT_OF_HOURS}",
    "longer-with-ray": f"long and ray and {SHORT_OF_HOURS}",
    "extras": f"extras and not long and {SHORT_OF_HOURS}",
    "over-ray": f"transports and {DEFAULT}",
}
"""Marks of what `--all` adds when the parts have ended: minutes, or fresh environments; the last again, with Ray calls
where the parts had frames on sockets."""
ALL = "--all"
CACHE = Path(".pytest_cache")
CODES = CACHE / "parts.json"
"""The exit code of each part of the newest run: `tests/flaky.py` reads it."""

WITH_RAY = {
    "runtimes": ("benchmarks", "cluster", "histories", "ordinary", "outside", "process"),
    "stack": ("stack",),
    "tours": ("demo", "docs", "examples", "notebooks"),
}
WITHOUT_RAY = {
    "screens": ("console",),
    "pages": ("http", "cli", "docs"),
    "processes": ("process", "stack", "ledger", "toolbox", "notebooks"),
}
"""The folders whose tests a part has, of those with Ray and of those without."""
REST = "others"
HALVES = {"screens": "more-screens", "processes": "more-processes"}
"""Who has about half of a part's files: tests that wait for one screen or process after another, and all together ended
last."""
PARTS = (*WITH_RAY, *WITHOUT_RAY, *HALVES.values(), REST)

NONE_COLLECTED = 5
OVERDUE = 124
"""The exit code of a part that was ended; that of timeout(1)."""
PARTS_MAX_S = 40 * 60.0
"""Four times what the parts take on two cores that do nothing else."""
JUNIT = re.compile(r"^(--junit-?xml=.*?)((?:\.xml)?)$")


def command(part: str, arguments: list[str]) -> list[str]:
    """The pytest run of a part."""
    cache = f"cache_dir={CACHE / part}"
    own = [JUNIT.sub(rf"\1-{part}\2", argument) for argument in arguments]
    picked = (
        ["-m", AFTER[part]]
        if part in AFTER
        else ["-m", DEFAULT, "-p", "tests.parts", f"--part={part}"]
    )
    return [sys.executable, "-m", "pytest", *picked, "-o", cache, *own]


def part_of(folder: str, *, has_ray: bool) -> str:
    """The part of a test below that folder of `tests`."""
    tables = (WITH_RAY, WITHOUT_RAY) if has_ray else (WITHOUT_RAY,)
    found = (part for table in tables for part, folders in table.items() if folder in folders)
    return next(found, REST)


def half_of(part: str, file: Path) -> str:
    """Who has this file of the part: by its name, so that no list grows with a new one."""
    is_others = part in HALVES and zlib.crc32(file.name.encode()) % 2 == 1
    return HALVES[part] if is_others else part


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which part to run."""
    parser.addoption("--part", choices=PARTS, help="run the tests of this part of `make test` only")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Read no folder none of whose tests can be of the part."""
    wanted = config.getoption("part")
    if wanted is None or collection_path.parent != HERE or not collection_path.is_dir():
        return None
    folder = collection_path.name
    found = {part_of(folder, has_ray=has_ray) for has_ray in (True, False)}
    return wanted not in found | {HALVES[part] for part in found if part in HALVES} or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the part."""
    wanted = config.getoption("part")
    if wanted is None:
        return
    others = [item for item in items if _part_of(item) != wanted]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if _part_of(item) == wanted]


def _part_of(item: pytest.Item) -> str:
    inside = HERE in item.path.parents
    folder = item.path.relative_to(HERE).parts[0] if inside else ""
    part = part_of(folder, has_ray=item.get_closest_marker("ray") is not None)
    return half_of(part, item.path)


def environment(part: str) -> dict[str, str]:
    """Of a part's run; read in `tests/stack/live.py`."""
    return {**os.environ, "HELMR_TEST_TRANSPORT": "ray"} if part == "over-ray" else {**os.environ}


@contextmanager
def begun(
    part: str, arguments: list[str], said: IO[bytes] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A part that runs meanwhile, into a file or shown; it ends with the block."""
    errors = subprocess.STDOUT if said is not None else None
    told, environ = command(part, arguments), environment(part)
    run = subprocess.Popen(told, env=environ, stdout=said, stderr=errors)
    try:
        yield run
    finally:
        run.terminate()
        run.wait()


def verdict(codes: Collection[int]) -> int:
    """The first exit code that says something went wrong; that nothing was collected only if it was so in all."""
    if set(codes) == {NONE_COLLECTED}:
        return NONE_COLLECTED
    return next((code for code in codes if code not in (0, NONE_COLLECTED)), 0)


def waited(run: subprocess.Popen[bytes], ends_at_s: float) -> int:
    """A part's exit code; `OVERDUE` if it has not ended in time."""
    try:
        return run.wait(max(0.0, ends_at_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        return OVERDUE


def together(parts: Collection[str], arguments: list[str], within_s: float) -> dict[str, int]:
    """Run them side by side and show what each has said; their exit codes. What takes longer is ended."""
    ends_at_s = time.monotonic() + within_s
    _, *quiet = parts
    with ExitStack() as stack:
        texts = [stack.enter_context(tempfile.TemporaryFile()) for _ in quiet]
        outputs = dict(zip(quiet, texts, strict=True))
        runs = {
            part: stack.enter_context(begun(part, arguments, outputs.get(part))) for part in parts
        }
        codes = {part: waited(run, ends_at_s) for part, run in runs.items()}
        for text in texts:
            text.seek(0)
            sys.stdout.buffer.write(text.read())
        for part in (part for part, code in codes.items() if code == OVERDUE):
            sys.stdout.write(f"{part}: not done within {within_s:.0f} s\n")
        sys.stdout.flush()
    return codes


def main(arguments: list[str]) -> int:
    """Run all, and leave each part's exit code for whoever asks."""
    has_longer = ALL in arguments
    arguments = [argument for argument in arguments if argument != ALL]
    CODES.unlink(missing_ok=True)
    codes = together(PARTS, arguments, PARTS_MAX_S)
    if has_longer:
        codes |= together(AFTER, arguments, math.inf)
    CACHE.mkdir(exist_ok=True)
    CODES.write_text(json.dumps(codes))
    return verdict(codes.values())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
