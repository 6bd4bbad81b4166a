"""What CI makes of tests that fail once and pass when they are run again.

`.ci/run` runs everything, then what failed once more. Between the two it has `remember` keep what failed, after them
`report` print the closing table. A test that passed the second time is flaky: it stops no landing, but it is shown, and
loudly if `tests/flaky.txt` does not know it. That file may only shrink (`tests/project/test_flaky.py`).

A failure that is not a test's (a secret in a log, a module that can't be imported, a run that was killed) is forgiven
by no second run.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.suite import EXIT_CODE

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".pytest_cache"
CODE = CACHE / "v" / EXIT_CODE
FAILURES = CACHE / "v" / "cache" / "lastfailed"
FIRST = CACHE / "first.json"
KNOWN = ROOT / "tests" / "flaky.txt"

FAILED_MAX = 40
"""Tests that are run once more; if more fail something is broken, and a second run only costs time."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left.

    Attributes:
        failed: Ids of the tests that failed.
        code: pytest's exit code; None if it did not come to its end.
    """

    failed: frozenset[str]
    code: int | None

    @property
    def is_broken(self) -> bool:
        """Whether it went wrong for another reason than a failed test."""
        return self.code not in (PASSED, FAILED) or (self.code == FAILED and not self.failed)


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
    twice = first.failed & second.failed
    flaky = first.failed - second.failed
    new = sorted(
        test for test in flaky if test.partition("[")[0] not in known and test not in known
    )
    old = sorted(flaky - set(new))
    return [
        "CI: what failed and was run again",
        *(f"CI:   FAILED TWICE   {test}" for test in sorted(twice)),
        *(f"CI:   FLAKY (new)    {test}" for test in new),
        *(f"CI:   flaky (known)  {test}" for test in old),
        f"CI: flaky {len(flaky)}, of them new {len(new)}; twice {len(twice)}; known {len(known)}",
    ]


def verdict(first: Run, second: Run) -> int:
    """0 if everything that went wrong in the first run went well in the second."""
    went_well = first.code == FAILED and not first.is_broken and second.code == PASSED
    return PASSED if went_well else FAILED


def read_run() -> Run:
    """What the newest run left in pytest's cache."""
    failed = json.loads(FAILURES.read_text()) if FAILURES.is_file() else {}
    return Run(frozenset(failed), json.loads(CODE.read_text()) if CODE.is_file() else None)


def main(arguments: list[str]) -> int:
    """`remember`: 0 if a second run can help. `report`: print the table; 0 if all is well in the end."""
    run = read_run()
    if arguments == ["remember"]:
        if reason := refusal(run):
            sys.stdout.write(f"CI: {reason}; nothing is run again\n")
            return 1
        FIRST.write_text(json.dumps({"failed": sorted(run.failed), "code": run.code}))
        return 0
    if arguments == ["report"]:
        remembered = json.loads(FIRST.read_text())
        first = Run(frozenset(remembered["failed"]), remembered["code"])
        known = known_of(KNOWN.read_text(encoding="utf-8"))
        sys.stdout.write("".join(f"{line}\n" for line in table(first, run, known)))
        return verdict(first, run)
    sys.stderr.write("flaky: remember or report\n")
    return 2


def refusal(run: Run) -> str | None:
    """Why a second run can't help; None if it can."""
    if run.is_broken:
        return f"pytest ended with {run.code} for another reason than a failed test"
    if len(run.failed) > FAILED_MAX:
        return f"{len(run.failed)} tests failed, over {FAILED_MAX}"
    return None if run.failed else "no test failed"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
