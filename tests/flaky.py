"""What CI makes of tests that fail once and pass when they are run again.

`.ci/run` runs everything, then what failed once more. Between the two it has `remember` keep what failed, after them
`report` print the closing table. A test that passed the second time is flaky: it stops no landing, but it is shown, and
loudly if `tests/flaky.txt` does not know it. That file may only shrink (`tests/project/test_flaky.py`).

A failure that is no test's (a secret in a log, a module that can't be imported, a run that was killed) is forgiven by
no second run.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".pytest_cache"
CODES = CACHE / "parts.json"
FIRST = CACHE / "first.json"
KNOWN = ROOT / "tests" / "flaky.txt"

FAILED_MAX = 40
"""Tests that are run once more; if more fail something is broken, and a second run only costs time."""
PASSED, FAILED, NONE_COLLECTED = 0, 1, 5
"""Exit codes of pytest."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of all parts left.

    Attributes:
        failed: Ids of the tests that failed, by part.
        codes: Each part's exit code.
    """

    failed: Mapping[str, Collection[str]] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tests(self) -> set[str]:
        """All that failed."""
        return {test for tests in self.failed.values() for test in tests}

    def broken(self) -> list[str]:
        """The parts that went wrong for another reason than a failed test."""
        return [
            part
            for part, code in self.codes.items()
            if code not in (PASSED, FAILED, NONE_COLLECTED)
            or (code == FAILED and not self.failed.get(part))
        ]


def known_of(text: str) -> dict[str, str]:
    """The known flaky tests, and what was seen of each: lines of `id  # what was seen`."""
    found = {}
    for line in text.splitlines():
        test, _, seen = line.partition("  # ")
        if test.strip() and not test.startswith("#"):
            found[test.strip()] = seen.strip()
    return found


def missing(known: Collection[str], root: Path) -> list[str]:
    """The tests that are listed and are not in the suite any more."""

    def is_there(test: str) -> bool:
        file, *names = test.partition("[")[0].split("::")
        path = root / file
        if not path.is_file() or not names:
            return False
        nodes: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
        for name in names:
            found = [
                node
                for node in nodes
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                and node.name == name
            ]
            if not found:
                return False
            nodes = found[-1].body
        return True

    return [test for test in known if not is_there(test)]


def table(first: Run, second: Run, known: Collection[str]) -> list[str]:
    """The closing table: a line for each test that failed in the first run, and the count."""
    twice = first.tests & second.tests
    flaky = first.tests - second.tests
    new = sorted(
        test for test in flaky if test.partition("[")[0] not in known and test not in known
    )
    old = sorted(flaky - set(new))
    return [
        "CI: what failed and was run again",
        *(f"CI:   FAILED TWICE   {test}" for test in sorted(twice)),
        *(f"CI:   FLAKY (new)    {test}" for test in new),
        *(f"CI:   flaky (known)  {test}" for test in old),
        *(
            f"CI:   BROKEN         {part}: no test's failure, see its output"
            for part in first.broken()
        ),
        f"CI: flaky {len(flaky)}, of them new {len(new)}; twice {len(twice)}; known {len(known)}",
    ]


def verdict(first: Run, second: Run) -> int:
    """0 if everything that went wrong in the first run went well in the second."""
    is_broken = bool(first.broken() or second.broken())
    went_well = first.codes and second.codes and not second.tests
    return PASSED if went_well and not is_broken and first.tests else FAILED


def read_run() -> Run:
    """What the newest run left in the parts' caches."""
    codes = json.loads(CODES.read_text()) if CODES.is_file() else {}
    failed = {}
    for part in codes:
        path = CACHE / part / "v" / "cache" / "lastfailed"
        failed[part] = sorted(json.loads(path.read_text())) if path.is_file() else []
    return Run(failed, codes)


def main(arguments: list[str]) -> int:
    """`remember`: 0 if a second run can help. `report`: print the table; 0 if all is well in the end."""
    run = read_run()
    if arguments == ["remember"]:
        FIRST.parent.mkdir(exist_ok=True)
        FIRST.write_text(json.dumps({"failed": dict(run.failed), "codes": dict(run.codes)}))
        count = len(run.tests)
        if 0 < count <= FAILED_MAX and not run.broken():
            return 0
        sys.stdout.write("".join(f"{line}\n" for line in refusal(run)))
        return 1
    if arguments == ["report"]:
        first = Run(**json.loads(FIRST.read_text()))
        known = known_of(KNOWN.read_text(encoding="utf-8"))
        sys.stdout.write("".join(f"{line}\n" for line in table(first, run, known)))
        return verdict(first, run)
    sys.stderr.write("flaky: remember or report\n")
    return 2


def refusal(run: Run) -> list[str]:
    """Why nothing is run again."""
    if broken := run.broken():
        return [f"CI: {', '.join(broken)}: no test's failure; nothing is run again"]
    if not run.tests:
        return ["CI: no test failed, and yet the run did; nothing is run again"]
    return [f"CI: {len(run.tests)} tests failed, over {FAILED_MAX}; nothing is run again"]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
