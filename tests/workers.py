"""The workers of `make test`: forked when all tests are collected, each takes the next file when it has done one; a
pytest plugin.

Workers that are started instead, as pytest-xdist does it, collect everything again, each of them: 8 s of CPU, and
25 s in a fresh checkout, where nothing is compiled. A fork has all of it at once.

A worker is what pytest's own plugins take for one of xdist's: its configuration has `workerinput`, its reports have a
node. What plugins of ours do in one stands in `pytest_worker_begins` and `pytest_worker_ended`.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import pytest

FORK = get_context("fork")
END_S = 30.0
"""A worker that was interrupted has so long to take its fixtures down."""

Unit = list[pytest.Item]
"""Tests of one worker, one after the other."""


class Hooks:
    """What plugins hear of workers."""

    @pytest.hookspec
    def pytest_worker_begins(self, config: pytest.Config, name: str) -> None:
        """In the worker: it has its folder, and runs its first test next."""

    @pytest.hookspec
    def pytest_worker_ended(self, config: pytest.Config, output: dict[str, Any]) -> None:
        """In the process that shares out: what a worker put into its `config.workeroutput`. One that died has none."""


@dataclass(eq=False, slots=True)
class Worker:
    """A worker, seen from where tests are shared out.

    Attributes:
        rest: The tests of its unit that it has not begun.
        running: The test that it has begun.
    """

    name: str
    process: BaseProcess
    pipe: connection.Connection[Any, Any]
    rest: Unit = field(default_factory=list)
    running: pytest.Item | None = None
    is_done: bool = False

    @property
    def node(self) -> SimpleNamespace:
        """As a terminal wants to see it."""
        info = {
            "id": self.name,
            "sysplatform": sys.platform,
            "version_info": sys.version_info,
            "executable": sys.executable,
        }
        return SimpleNamespace(gateway=SimpleNamespace(id=self.name), workerinfo=info)


class Sharing:
    """Shares out units to workers, and hands on what these say.

    Args:
        units: In the order in which they are begun.
        count: Of workers.
    """

    def __init__(self, session: pytest.Session, units: Sequence[Unit], count: int) -> None:
        self._session = session
        self._config = session.config
        self._items = {item.nodeid: item for unit in units for item in unit}
        self._units = list(reversed(units))
        self._count = count
        self._started = 0
        self._workers: list[Worker] = []

    def run(self) -> None:
        """Return when all units have been run.

        Raises:
            pytest.Session.Failed: Enough tests have failed.
            pytest.Session.Interrupted: A plugin wants the run to stop.
        """
        try:
            for _ in range(min(self._count, len(self._units))):
                self._start()
            while self._workers:
                pipes = {worker.pipe: worker for worker in self._workers}
                for pipe in connection.wait(list(pipes)):
                    self._hear(pipes[pipe])  # type: ignore[index]
                if self._session.shouldfail:
                    raise self._session.Failed(self._session.shouldfail)
                if self._session.shouldstop:
                    raise self._session.Interrupted(self._session.shouldstop)
        finally:
            self._end()

    def _start(self) -> None:
        here, there = FORK.Pipe()
        name = f"w{self._started}"
        self._started += 1
        process = FORK.Process(target=work, args=(self._session, self._items, name, there))
        process.start()
        there.close()
        self._workers.append(Worker(name, process, here))

    def _hear(self, worker: Worker) -> None:
        try:
            kind, *parts = worker.pipe.recv()
        except (EOFError, OSError):
            self._left(worker)
            return
        hook = self._config.hook
        if kind == "next":
            worker.rest = self._units.pop() if self._units else []
            worker.pipe.send([item.nodeid for item in worker.rest])
        elif kind == "start":
            worker.running = self._items[parts[0]]
            worker.rest = [item for item in worker.rest if item is not worker.running]
            hook.pytest_runtest_logstart(nodeid=parts[0], location=parts[1])
        elif kind == "report":
            report = hook.pytest_report_from_serializable(config=self._config, data=parts[0])
            report.node = worker.node
            hook.pytest_runtest_logreport(report=report)
        elif kind == "finish":
            worker.running = None
            hook.pytest_runtest_logfinish(nodeid=parts[0], location=parts[1])
        elif kind == "warning":
            message, category, filename, line, when, nodeid, location = parts
            said = warnings.WarningMessage(message, category, filename, line)
            hook.pytest_warning_recorded.call_historic(
                kwargs={
                    "warning_message": said,
                    "when": when,
                    "nodeid": nodeid,
                    "location": location,
                }
            )
        else:
            worker.is_done = True
            hook.pytest_worker_ended(config=self._config, output=parts[0])

    def _left(self, worker: Worker) -> None:
        """Take leave of a worker; for one that died its test fails, and another does what it has not begun."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        if worker.is_done:
            return
        died = f"worker {worker.name} ended with {worker.process.exitcode}"
        if worker.running is None:
            raise RuntimeError(f"{died}, and ran no test")
        item = worker.running
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", f"{died} while it ran {item.nodeid}", "call"
        )
        report.node = worker.node  # type: ignore[attr-defined]
        self._config.hook.pytest_runtest_logreport(report=report)
        if worker.rest:
            self._units.append(worker.rest)
        if self._units:
            self._start()

    def _end(self) -> None:
        """Interrupt what still runs, and wait until it has ended."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in self._workers:
            worker.process.join(END_S)
            worker.process.kill()
            worker.process.join()


class Telling:
    """In a worker: hands on what plugins hear."""

    def __init__(self, config: pytest.Config, pipe: connection.Connection[Any, Any]) -> None:
        self._config = config
        self._pipe = pipe

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tell that a test begins."""
        self._pipe.send(("start", nodeid, location))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tell that it ended."""
        self._pipe.send(("finish", nodeid, location))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell how one of its phases went."""
        to_data = self._config.hook.pytest_report_to_serializable
        self._pipe.send(("report", to_data(config=self._config, report=report)))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        """Tell of a warning."""
        said = warning_message
        what = (str(said.message), said.category, said.filename, said.lineno)
        self._pipe.send(("warning", *what, when, nodeid, location))


def work(
    session: pytest.Session,
    items: dict[str, pytest.Item],
    name: str,
    pipe: connection.Connection[Any, Any],
) -> None:
    """Be a worker until no unit is left."""
    config: Any = session.config
    config.workerinput, config.workeroutput = {"workerid": name}, {}
    config.pluginmanager.unregister(name="terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:  # its files are those of all workers
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
    folders = config._tmp_path_factory
    folders._basetemp = folders.getbasetemp() / name
    folders._basetemp.mkdir()
    # What is recorded before is told by the process that was forked.
    config.pluginmanager.register(Telling(config, pipe))
    config.hook.pytest_worker_begins(config=config, name=name)
    code = pytest.ExitCode.OK
    try:
        _run(session, Taken(items, lambda: _ask(pipe)))
    except (KeyboardInterrupt, pytest.exit.Exception):
        code = pytest.ExitCode.INTERRUPTED
    config.hook.pytest_sessionfinish(session=session, exitstatus=code)
    pipe.send(("end", config.workeroutput))


class Taken:
    """The tests of a worker, in the order in which it runs them.

    Args:
        ask: Gives the next unit, empty if none is left.
    """

    def __init__(self, items: dict[str, pytest.Item], ask: Callable[[], list[str]]) -> None:
        self._items = items
        self._ask = ask
        self._ahead: Unit = []
        self._is_over = False

    def first(self) -> pytest.Item | None:
        """The next one; None if all have been run. It stays the next one until it is taken."""
        if not self._ahead and not self._is_over:
            self._ahead = [self._items[test] for test in self._ask()]
            self._is_over = not self._ahead
        return self._ahead[0] if self._ahead else None

    def take(self) -> pytest.Item | None:
        """The next one, which is run now."""
        item = self.first()
        del self._ahead[:1]
        return item

    def listchain(self) -> list[pytest.Item | pytest.Collector]:
        """What the next one needs of the fixtures that are up.

        A test has the one behind it from the start, for this. Behind the last one of a unit stands what can answer when
        fixtures are taken down: a unit that was asked for before would wait for that test.
        """
        item = self.first()
        return item.listchain() if item is not None else []  # type: ignore[return-value]


def _run(session: pytest.Session, taken: Taken) -> None:
    while (item := taken.take()) is not None:
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=taken)
        if session.shouldfail or session.shouldstop:
            return


def _ask(pipe: connection.Connection[Any, Any]) -> list[str]:
    pipe.send(("next",))
    unit: list[str] = pipe.recv()
    return unit
