"""`make test`: four pytest runs side by side.

The tests that start whole runtimes mostly wait for processes, those of what people see wait for screens, the others
compute; one after the other they leave a core idle. Each part has a cache of its own, and so a `--last-failed` of its
own. The first is shown as it runs, the others when all have ended. Arguments go to each; of
`--junit-xml=report.xml` each part makes a file of its own, `report-runtimes.xml` and so on.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

DEFAULT = "not soak and not perf and not extras"
FOLDERS = {
    "tours": ("demo", "docs", "examples", "notebooks"),
    "seen": ("console", "http", "answer_page"),
}
"""Whose tests `tests/conftest.py` marks so: about half of those with Ray, and of those without."""

PARTS = {
    "runtimes": f"ray and not tours and {DEFAULT}",
    "tours": f"ray and tours and {DEFAULT}",
    "seen": f"not ray and seen and {DEFAULT}",
    "others": f"not ray and not seen and {DEFAULT}",
}
"""Marks of each part's tests."""

NONE_COLLECTED = 5
JUNIT = re.compile(r"^(--junit-?xml=.*?)((?:\.xml)?)$")


def command(part: str, arguments: list[str]) -> list[str]:
    """The pytest run of a part."""
    cache = f"cache_dir=.pytest_cache/{part}"
    own = [JUNIT.sub(rf"\1-{part}\2", argument) for argument in arguments]
    return [sys.executable, "-m", "pytest", "-m", PARTS[part], "-o", cache, *own]


@contextmanager
def begun(part: str, arguments: list[str], said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A part that runs meanwhile; it ends with the block."""
    run = subprocess.Popen(command(part, arguments), stdout=said, stderr=subprocess.STDOUT)
    try:
        yield run
    finally:
        run.terminate()
        run.wait()


def main(arguments: list[str]) -> int:
    """Run all; the first exit code that says something went wrong."""
    shown, *quiet = PARTS
    with ExitStack() as stack:
        texts = [stack.enter_context(tempfile.TemporaryFile()) for _ in quiet]
        runs = [
            stack.enter_context(begun(part, arguments, text))
            for part, text in zip(quiet, texts, strict=True)
        ]
        codes = [subprocess.run(command(shown, arguments), check=False).returncode]
        codes += [run.wait() for run in runs]
        for text in texts:
            text.seek(0)
            sys.stdout.buffer.write(text.read())
        sys.stdout.flush()
    if set(codes) == {NONE_COLLECTED}:
        return NONE_COLLECTED
    return next((code for code in codes if code not in (0, NONE_COLLECTED)), 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
