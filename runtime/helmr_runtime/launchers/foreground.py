"""`helmr up --in-process` and `helmr dev`: a runtime without Ray in this process, in the foreground.

Ends as `helmr up` does: a signal parks what waits, a second one ends it at once. What tasks log and print goes to the
terminal, with the session in front, and to a log file. `helmr dev` starts again when a task file has changed and can be
read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from helmr.errors import BadDefinition, LedgerSuperseded
from helmr.wire.safe_text import plain
from helmr_runtime import tracing
from helmr_runtime.launchers.in_process import InProcess
from helmr_runtime.launchers.runtime import (
    READY,
    SUPERSEDED,
    Stop,
    serve,
    tell_manager,
)
from helmr_runtime.launchers.startup import (
    LOGS,
    StartClaim,
    UpOptions,
    announce,
    claim,
    keep_keys,
    keep_seed,
    load_code,
    make_spec,
    trim_logs,
    writing,
)
from helmr_runtime.process import local_access
from helmr_runtime.process.garbage import look_through_less
from helmr_runtime.process.local_access import local_key
from helmr_runtime.process.output import (
    JsonFormatter,
    LogFileHandler,
    SessionFilter,
    Terminal,
    current_session,
    json_formatter,
    tag_prints,
)
from helmr_runtime.replay import outside_steps
from helmr_runtime.replay.round_trips import comparing
from helmr_runtime.security import payloads

RUN = "run"
"""The folder in the data directory where hosts say what executes."""

LOG_NAME = "in-process.log"

SWITCH_INTERVAL_S = 0.0005
"""Seconds that a spinning task may keep the GIL from the runtime's loop."""


def run_in_process(options: UpOptions, terminal: Terminal) -> int:
    """Run a runtime in this process until a signal ends it; returns the exit code.

    Raises:
        RuntimeHeld: Another runtime has the data directory; names it.
        BadDefinition: A task module can't be used.
        Conflict: The port is taken.
        DataError: The ledger's file is not a database.
    """
    with claim(options, terminal.say) as claimed:
        run = _Foreground(options, claimed, terminal)
        is_over, code = True, 0
        try:
            is_over = run.run()
        except KeyboardInterrupt:
            terminal.say("stopped before it was ready")
            return 0
        except LedgerSuperseded as error:
            if options.log_url is None:  # by a follower that 0.7 or earlier promoted
                raise
            terminal.say(f"{error.message}; started again, this one stands by")
            code = SUPERSEDED
        finally:
            run.clean_up()
    return _end(code) if is_over else _start_again(options, claimed.port)


class _Foreground:
    """One runtime from its start to its end."""

    def __init__(self, options: UpOptions, claimed: StartClaim, terminal: Terminal) -> None:
        self._options = options
        self._claim = claimed
        self._say = terminal.say
        self._key = local_key(claimed.data_dir)
        self._stamps = file_stamps(options.tasks, claimed.folder)
        self._pointer: Path | None = None
        self._watching: asyncio.Task[None] | None = None

    def run(self) -> bool:
        """Start, serve until a signal, park and stop; False if the code has changed and it is to start again."""
        options, data_dir = self._options, self._claim.data_dir
        try:
            registry, catalog = load_code(options.tasks, self._claim.folder, self._say)
        except BadDefinition as error:
            if not options.reloads:
                raise
            self._say(f"error: {error.message}")
            self._say("waiting for it to be mended")
            self._await_change()
            return False
        spec = make_spec(
            options, self._claim, (registry, catalog), run_dir=data_dir / RUN, key=self._key
        )
        with writing(data_dir):
            trim_logs(data_dir / LOGS)
            formatter = json_formatter("in-process", is_wanted=options.json_logs)
            _log_to(data_dir / LOGS / LOG_NAME, formatter)
        spec = replace(spec, is_development=options.reloads)
        keep_keys(spec, self._key)
        keep_seed(data_dir, self._say)
        if spec.traces:
            tracing.start("in-process")
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        watched = registry.written_in if options.reloads else ()
        with outside_steps.watching(watched), ExitStack() as stack:
            if options.reloads:
                stack.enter_context(comparing(refuses=False))
            runtime = InProcess(spec, registry, catalog, self._say, self._stands_by)
            return asyncio.run(self._serve(runtime))

    async def _serve(self, runtime: InProcess) -> bool:
        stop = await serve(runtime, self._say, self._ready)
        is_over = stop.hurried.is_set() or self._watching is None
        return is_over or (self._watching is not None and self._watching.cancel())

    def _stands_by(self) -> None:
        """Let local programs find it: they end it, or have it take over."""
        self._pointer = announce(self._options, self._claim, self._key, self._say, "stands by")
        tell_manager(READY)

    def _ready(self, stop: Stop) -> None:
        """Let local programs find it, and look at the task files if they are to start it again."""
        self._pointer = announce(self._options, self._claim, self._key, self._say)
        tell_manager(READY)
        look_through_less()
        if self._options.reloads:
            self._watching = asyncio.create_task(self._watch())
            self._watching.add_done_callback(lambda _: stop.asked.set())
            self._say("`helmr console` in another terminal shows what waits for people")

    def clean_up(self) -> None:
        """Take back what pointed here."""
        if self._pointer is not None:
            local_access.withdraw(self._claim.data_dir, self._pointer)

    # --- the code changes -------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Return when a task file has changed, and is Python."""
        while not await asyncio.to_thread(self._has_changed):  # noqa: ASYNC110 - no file tells that it changes
            await asyncio.sleep(POLL_S)
        self._say("the code has changed: starting again")

    def _await_change(self) -> None:
        while not self._has_changed():
            time.sleep(POLL_S)

    def _has_changed(self) -> bool:
        before = self._stamps
        self._stamps = file_stamps(self._options.tasks, self._claim.folder)
        changed = changed_files(before, self._stamps)
        trouble = syntax_error(changed)
        if trouble is not None:
            self._say(f"{trouble}; the code stays as it was until that is mended")
        return bool(changed) and trouble is None


def _log_to(path: Path, formatter: JsonFormatter | None) -> None:
    """Send this process's log to a file, and what concerns a person to the terminal, prints to both."""
    everything = LogFileHandler(path, formatter, takes_output=False)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(_SafeFormatter("%(session)s %(levelname)s %(name)s: %(message)s"))
    shown.addFilter(SessionFilter())
    shown.addFilter(_concerns_a_person)
    logging.basicConfig(level=logging.INFO, handlers=[everything, shown], force=True)
    ours = logging.getLogger("helmr")  # the command line shows a client's warnings in its own way
    ours.handlers.clear()
    ours.propagate = True
    payloads.install()
    tag_prints(everything, formatter=formatter, written=everything.look)


class _SafeFormatter(logging.Formatter):
    """Escapes control characters, so that text from sessions can't control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return plain(super().format(record), None)


def _concerns_a_person(record: logging.LogRecord) -> bool:
    return current_session() is not None or record.levelno >= logging.WARNING


def _start_again(options: UpOptions, port: int) -> NoReturn:
    """Become a fresh process of the same command, on the same port."""
    given = sys.orig_argv[1:]
    known = [] if options.port else [f"--port={port}"]
    _flush()
    os.execv(sys.executable, [sys.executable, *given, *known])


def _end(code: int) -> NoReturn:
    """End the process, whatever threads of tasks still do."""
    _flush()
    os._exit(code)


def _flush() -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()


POLL_S = 0.5

Stamps = Mapping[Path, int]
"""Modification times in nanoseconds, by file."""


def file_stamps(tasks: Sequence[str], folder: Path) -> Stamps:
    """Return the modification times of the task modules' files, named as for `up`, and of modules beside them."""
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


def changed_files(before: Stamps, now: Stamps) -> list[Path]:
    """The files that are not as they were, those that are gone too."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def syntax_error(paths: Iterable[Path]) -> str | None:
    """Describe the first syntax error in these files; None if there is none."""
    for path in paths:
        try:
            compile(path.read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError) as error:
            return f"{path.name}: {error}"
        except OSError:
            continue
    return None
