"""`helmr up --in-process` and `helmr dev`: a runtime without Ray in this process, in the foreground.

Ends as `helmr up` does: a signal parks what waits, a second one ends it at once. What tasks log and print goes to the
terminal, with the session in front, and to a log file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from helmr.errors import BadDefinition
from helmr.safe_text import plain
from helmr_runtime import tracing
from helmr_runtime.process import pointer_files, service_manager, watch_files
from helmr_runtime.process.in_process import InProcess
from helmr_runtime.process.json_logs import JsonFormatter
from helmr_runtime.process.log_file import LogFileHandler
from helmr_runtime.process.seeds import keep_seed
from helmr_runtime.process.session_output import (
    SessionFilter,
    current_session,
    json_formatter,
    tag_prints,
)
from helmr_runtime.process.startup import (
    LOGS,
    Claim,
    UpOptions,
    announce,
    claim,
    keep_keys,
    load_code,
    local_key,
    make_spec,
    trim_logs,
    writing,
)
from helmr_runtime.process.stop import Stop
from helmr_runtime.process.terminal import Terminal
from helmr_runtime.replay import outside_steps
from helmr_runtime.security import payloads

RUN = "run"
"""The folder in the data directory where hosts say what executes."""

LOG_NAME = "in-process.log"

SWITCH_INTERVAL_S = 0.0005
"""How long a spinning task may keep the interpreter from the runtime's loop."""


def run_in_process(options: UpOptions, terminal: Terminal) -> int:
    """Run a runtime in this process until a signal ends it; returns the exit code.

    Raises:
        RuntimeHeld: Another runtime has the data directory; names it.
        BadDefinition: A task module can't be used.
        Conflict: The port is taken.
        DataError: The ledger's file is no database.
    """
    with claim(options, terminal.say) as claimed:
        run = _Foreground(options, claimed, terminal)
        try:
            is_over = run.run()
        except KeyboardInterrupt:
            terminal.say("stopped before it was ready")
            return 0
        finally:
            run.clean_up()
    return _end() if is_over else _start_again(options, claimed.port)


class _Foreground:
    """One runtime from its start to its end."""

    def __init__(self, options: UpOptions, claimed: Claim, terminal: Terminal) -> None:
        self._options = options
        self._claim = claimed
        self._say = terminal.say
        self._key = local_key(claimed.data_dir)
        self._stamps = watch_files.stamps(options.tasks, claimed.folder)
        self._pointer: Path | None = None

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
        spec = make_spec(options, self._claim, catalog, run_dir=data_dir / RUN, key=self._key)
        with writing(data_dir):
            trim_logs(data_dir / LOGS)
            formatter = json_formatter("in-process", is_wanted=options.json_logs)
            _log_to(data_dir / LOGS / LOG_NAME, formatter)
        keep_keys(spec, self._key)
        keep_seed(data_dir, self._say)
        if spec.traces:
            tracing.start("in-process")
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        watched = registry.written_in if options.reloads else ()
        with outside_steps.watching(watched):
            return asyncio.run(self._serve(InProcess(spec, registry, catalog, self._say)))

    async def _serve(self, runtime: InProcess) -> bool:
        stop = Stop(self._say)
        stop.on_signals()
        watching: asyncio.Task[None] | None = None
        try:
            if await stop.before(runtime.start()):
                self._pointer = announce(self._options, self._claim, self._key, self._say)
                service_manager.tell(service_manager.READY)
                if self._options.reloads:
                    watching = asyncio.create_task(self._watch())
                    watching.add_done_callback(lambda _: stop.asked.set())
                    self._say("`helmr console` in another terminal shows what waits for people")
                await stop.asked.wait()
        finally:
            if not await stop.unless_hurried(runtime.stop()):
                await runtime.abandon()
        return stop.hurried.is_set() or watching is None or watching.cancel()

    def clean_up(self) -> None:
        """Take back what pointed here."""
        if self._pointer is not None:
            pointer_files.withdraw(self._claim.data_dir, self._pointer)

    # --- the code changes -------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Return when a task file has changed, and is Python."""
        while not await asyncio.to_thread(self._has_changed):  # noqa: ASYNC110 - no file tells that it changes
            await asyncio.sleep(watch_files.POLL_S)
        self._say("the code has changed: starting again")

    def _await_change(self) -> None:
        while not self._has_changed():
            time.sleep(watch_files.POLL_S)

    def _has_changed(self) -> bool:
        before = self._stamps
        self._stamps = watch_files.stamps(self._options.tasks, self._claim.folder)
        changed = watch_files.changed(before, self._stamps)
        trouble = watch_files.syntax_error(changed)
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
    """What sessions have supplied is shown, not obeyed."""

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


def _end() -> NoReturn:
    """End the process, whatever threads of tasks still do."""
    _flush()
    os._exit(0)


def _flush() -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
