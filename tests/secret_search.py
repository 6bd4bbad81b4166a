"""A search for live secrets over everything that the suite leaves or shows; a pytest plugin.

It reads every log record as it stands behind the runtime's filter, every text of an error of ours, every entry
sealed in this process, what each test printed and why it failed, and every file that is left: below pytest's temporary
folder, in a folder before a test removes it, and in what runtimes and demos would remove at their end, Ray's logs
above all (`HELMR_KEEP_TEMPORARY` has them moved here). A well-formed secret (its CRC fits) in any of them fails the
test, or the run if no test can be blamed. So does a master key or Ray's token outside its own file.

`MAY_HOLD_ONE` and the marker `shows_secrets` are all the exceptions there are.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import HelmrError
from helmr.hash_seed import KEEP_VARIABLE
from helmr_runtime.core import entries
from helmr_runtime.launchers import watchdog
from helmr_runtime.security.payloads import RedactingFilter, find_secrets
from tests import reaper, secret_files

SECRETS_LEFT = 9
"""The exit code of a run that left a secret for which no test could be blamed: none of pytest's own."""
SHOWN_CHARS = 14
"""Of a found secret: enough to know its kind, too little to use it."""


class SecretSearch:
    """What was found, by test and place.

    Args:
        folder: Where what is removed elsewhere is kept until the end, and what goes to the user's own folders.
    """

    def __init__(self, folder: Path) -> None:
        self.removed = folder / "removed"
        self.home = folder / "home"
        self.current = "no test"
        self.found: list[str] = []
        self.searched = {"log": 0, "error": 0, "entry": 0, "output": 0, "file": 0, "run folder": 0}
        self.foreign: set[bytes] = set()
        """Master keys and Ray's tokens that were met."""

    def look(self, kind: str, text: str, place: str = "") -> None:
        """Remember the secrets in a text."""
        self.searched[kind] += 1
        for secret in find_secrets(text):
            self._remember(kind, secret, place)

    def look_into(self, *folders: Path) -> None:
        """Search all files below folders, but those that may hold a secret."""
        for folder in folders:
            self.foreign |= secret_files.foreign_secrets(folder)
        with secret_files.Columns() as columns:
            for folder in folders:
                for path in secret_files.searched_in(folder):
                    self.searched["file"] += 1
                    for secret in secret_files.secrets_of(path, self.foreign, columns):
                        self._remember("file", secret, str(path.relative_to(folder)))

    def look_into_what_is_left(self, temporary: Path | None) -> None:
        """Search pytest's folder and what was kept; also the run folders of runtimes that nobody cleaned up after."""
        left = [temporary] if temporary is not None else []
        runs = list(self.removed.glob(f"{watchdog.RUN_DIR_PREFIX}*"))
        for record in (one for folder in left for one in folder.rglob(watchdog.RECORD_NAME)):
            known = watchdog.read_record(record.parent)
            if known is not None and known.mark.run_dir.is_dir():
                runs.append(known.mark.run_dir)
        self.searched["run folder"] += sum((run / "r").is_dir() for run in runs)
        beside = [run for run in runs if self.removed not in run.parents]
        self.look_into(*left, *beside, self.removed, self.home)

    def _remember(self, kind: str, secret: str, place: str) -> None:
        shown = f"{secret[:SHOWN_CHARS]}… in {kind} {place}".rstrip()
        self.found.append(f"{shown} ({self.current})")


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
    """Begin: listen to logs, errors and entries, and have nothing removed unseen."""
    config.addinivalue_line(
        "markers", "shows_secrets: the test puts a secret where none belongs, on purpose"
    )
    folder = reaper.folder("helmr-searched-")
    search = config.stash[SEARCH] = SecretSearch(folder)
    handler = _Handler(search)
    logging.getLogger().addHandler(handler)
    make_error: Callable[..., None] = HelmrError.__init__
    body_text = entries.body_text
    remove_tree: Any = shutil.rmtree
    environ = {name: os.environ.get(name) for name in _environment(search)}

    def made_error(self: HelmrError, message: str, **parts: Any) -> None:
        make_error(self, message, **parts)
        search.look("error", f"{message} {self.hint} {self.errors} {self.facts}", self.code)

    def made_body(body: Any) -> str:
        text = body_text(body)
        search.look("entry", text)
        return text

    def removed_tree(path: Any, *arguments: Any, **options: Any) -> None:
        if not _is_pytests(config, Path(os.fsdecode(path))):
            search.look_into(Path(os.fsdecode(path)))
        remove_tree(path, *arguments, **options)

    HelmrError.__init__ = made_error  # type: ignore[method-assign]
    entries.body_text = made_body
    shutil.rmtree = removed_tree  # type: ignore[assignment]
    os.environ.update(_environment(search))

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        HelmrError.__init__ = make_error  # type: ignore[method-assign]
        entries.body_text = body_text
        shutil.rmtree = remove_tree
        for name, value in environ.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})
        remove_tree(folder, ignore_errors=True)

    config.add_cleanup(undo)


def _environment(search: SecretSearch) -> dict[str, str]:
    """Where programs leave what they would remove, and what they keep in the user's own folders."""
    return {
        KEEP_VARIABLE: str(search.removed),
        "XDG_STATE_HOME": str(search.home / "state"),
        "XDG_CONFIG_HOME": str(search.home / "config"),
    }


def _is_pytests(config: pytest.Config, folder: Path) -> bool:
    """What earlier runs of pytest have left, which it tidies up."""
    factory = getattr(config, "_tmp_path_factory", None)
    current = factory._basetemp if factory is not None else None
    is_current = current is not None and current in folder.parents
    return not is_current and any(
        part.startswith(("pytest-of-", "garbage-")) for part in folder.parts
    )


@pytest.fixture(autouse=True)
def no_secret_shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test during which a secret appeared in a log, an error, an entry or a folder it removed."""
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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search the files, and fail the run for what no test was failed for; a worker hands on what it found."""
    search = session.config.stash[SEARCH]
    search.current = "at the end"
    if not getattr(session.config.option, "numprocesses", None):
        factory = getattr(session.config, "_tmp_path_factory", None)
        search.look_into_what_is_left(factory._basetemp if factory is not None else None)
    handed_on: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if handed_on is not None:
        handed_on.update(secrets=search.found, searched=search.searched)
    elif search.found:
        session.exitstatus = SECRETS_LEFT


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker found; one that crashed has handed on nothing, and its test has failed."""
    search, found = node.config.stash[SEARCH], getattr(node, "workeroutput", {})
    search.found += found.get("secrets", [])
    for kind, count in found.get("searched", {}).items():
        search.searched[kind] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was found, else how much was searched."""
    search = terminalreporter.config.stash[SEARCH]
    for line in search.found:
        terminalreporter.write_line(f"LIVE SECRET: {line}", red=True)
    if not search.found:
        counts = ", ".join(f"{kind} {count}" for kind, count in search.searched.items())
        terminalreporter.write_line(f"no live secret in what was searched: {counts}")
