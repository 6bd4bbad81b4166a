"""A search for live secrets over everything that the suite leaves or shows; a pytest plugin.

It reads every log record as it stands behind the runtime's filter, every text of an error of ours, every entry
sealed in this process, what each test printed and why it failed, and at the end every file below pytest's temporary
folder: data files, logs and output of the runtimes that tests started. A well-formed secret (its CRC fits) in any of
them fails the test, or the run if no test can be blamed.

`MAY_HOLD_ONE` and the marker `shows_secrets` are all the exceptions there are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import HelmrError
from runtime.core import entries
from runtime.security.redaction import RedactingFilter, find_secrets

MAY_HOLD_ONE = {
    "credentials.json": "a local program's way in, 0600",
    "admin.key": "the local key itself, 0600",
    "*/runtimes/*.json": "the pointer to credentials.json, 0600",
    "*/pages/*": "what a task handed to a web page's server: the example's public token",
    "*/mail/*": "an e-mail that a task sent: the demo's and the tests' outbox",
}
"""Files whose purpose is to hold a secret, as patterns of their path."""

PREFIX = b"hlmr_"
FILE_BYTES_MAX = 256 * 1024 * 1024
SHOWN_CHARS = 14
"""Of a found secret: enough to know its kind, too little to use it."""


class SecretSearch:
    """What was found, by test and place."""

    def __init__(self) -> None:
        self.current = "no test"
        self.found: list[str] = []
        self.searched = {"log": 0, "error": 0, "entry": 0, "output": 0, "file": 0}

    def look(self, kind: str, text: str, place: str = "") -> None:
        """Remember the secrets in a text."""
        self.searched[kind] += 1
        for secret in find_secrets(text):
            shown = f"{secret[:SHOWN_CHARS]}… in {kind} {place}".rstrip()
            self.found.append(f"{shown} ({self.current})")

    def look_into(self, folder: Path) -> None:
        """Search all files below a folder, but those that may hold a secret."""
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or may_hold_one(path):
                continue
            try:
                content = path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else b""
            except OSError:  # it went away, or a test took its rights
                continue
            text = content.decode("latin-1") if PREFIX in content else ""
            self.look("file", text, str(path.relative_to(folder)))


def may_hold_one(path: Path) -> bool:
    """The file is one whose purpose is to hold a secret."""
    return any(path.match(pattern) for pattern in MAY_HOLD_ONE)


class _Handler(logging.Handler):
    """Stands where the runtime's handlers stand: behind the redacting filter."""

    def __init__(self, search: SecretSearch) -> None:
        super().__init__(logging.NOTSET)
        self._search = search
        self.addFilter(RedactingFilter())

    def handle(self, record: logging.LogRecord) -> bool:
        # The filter redacts in place, and other handlers shall see the record as it was.
        return bool(super().handle(logging.makeLogRecord(record.__dict__)))

    def emit(self, record: logging.LogRecord) -> None:
        self._search.look("log", self.format(record), record.name)


SEARCH = pytest.StashKey[SecretSearch]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin: listen to logs, errors and entries."""
    config.addinivalue_line(
        "markers", "shows_secrets: the test puts a secret where none belongs, on purpose"
    )
    search = config.stash[SEARCH] = SecretSearch()
    handler = _Handler(search)
    logging.getLogger().addHandler(handler)
    make_error: Callable[..., None] = HelmrError.__init__
    body_text = entries.body_text

    def made_error(self: HelmrError, message: str, **parts: Any) -> None:
        make_error(self, message, **parts)
        search.look("error", f"{message} {self.hint} {self.errors} {self.facts}", self.code)

    def made_body(body: Any) -> str:
        text = body_text(body)
        search.look("entry", text)
        return text

    HelmrError.__init__ = made_error  # type: ignore[method-assign]
    entries.body_text = made_body

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        HelmrError.__init__ = make_error  # type: ignore[method-assign]
        entries.body_text = body_text

    config.add_cleanup(undo)


@pytest.fixture(autouse=True)
def no_secret_shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test during which a secret appeared in a log, an error or an entry."""
    search = request.config.stash[SEARCH]
    search.current, before = request.node.nodeid, len(search.found)
    yield
    search.current = f"after {request.node.nodeid}"
    shown, search.found[before:] = search.found[before:], []
    if shown and not request.node.get_closest_marker("shows_secrets"):
        pytest.fail("a live secret appeared: " + "; ".join(shown))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search what a test printed and why it failed."""
    report = yield
    if not item.get_closest_marker("shows_secrets"):
        search = item.config.stash[SEARCH]
        search.current = item.nodeid
        shown = [text for name, text in report.sections if "log" not in name]
        search.look("output", "".join(shown) + report.longreprtext, report.when or "")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search the files, and fail the run for what no test was failed for."""
    search = session.config.stash[SEARCH]
    search.current = "at the end"
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None:
        search.look_into(factory._basetemp)
    if search.found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was found, else how much was searched."""
    search = terminalreporter.config.stash[SEARCH]
    for line in search.found:
        terminalreporter.write_line(f"LIVE SECRET: {line}", red=True)
    if not search.found:
        counts = ", ".join(f"{kind} {count}" for kind, count in search.searched.items())
        terminalreporter.write_line(f"no live secret in what was searched: {counts}")
