"""The entry point `helmr`: puts the commands together, and turns errors into one line and an exit code.

How help looks: whole sentences, arguments as they are typed, examples as they are, and a first screen.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from helmr.cli import printing
from helmr.cli.app import (
    FIRST_SCREEN,
    HELP_NAMES,
    At,
    Cli,
    DataDir,
    ExitCode,
    KeyFile,
    OnBehalfOf,
    Url,
    exit_code,
    group_class,
)
from helmr.errors import HelmrError
from helmr.features import FEATURES
from helmr.wire.old_names import GONE_OPTIONS, arguments_of_today, renamed
from helmr.wire.safe_text import one_line

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a stdout that is a full file."""

COMMANDS: Mapping[str, str] = {
    "init": "helmr.cli.init:register_init",
    "doctor": "helmr.cli.doctor:register_doctor",
    "upgrade-check": "helmr.cli.upgrade_check:register_upgrade_check",
    "up": "helmr.cli.up:register_up",
    "dev": "helmr.cli.up:register_dev",
    "down": "helmr.cli.up:register_down",
    "takeover": "helmr.cli.up:register_takeover",
    "config": "helmr.cli.settings:register_config",
    "check": "helmr.cli.check:register_check",
    "experiment": "helmr.cli.check:register_experiment",
    "status": "helmr.cli.status:register_status",
    "logs": "helmr.cli.logs:register_logs",
    "demo": "helmr.cli.console:register_demo",
    "console": "helmr.cli.console:register_console",
    "inbox-link": "helmr.cli.console:register_inbox_link",
    "next": "helmr.cli.next:register_next",
    **dict.fromkeys(("listen", "waiting"), "helmr.cli.notices:register_listening"),
    **dict.fromkeys(("login", "logout", "whoami"), "helmr.cli.sign_in:register_sign_in"),
    **dict.fromkeys(("query", "export"), "helmr.cli.query:register_query"),
    **dict.fromkeys(
        ("backup", "restore", "verify", "repair"), "helmr.cli.toolbox:register_toolbox"
    ),
    "prune": "helmr.cli.pruning:register_pruning",
    "session": "helmr.cli.session:app",
    "run": "helmr.cli.run:app",
    "wait": "helmr.cli.wait:app",
    "input": "helmr.cli.streams:input_app",
    "output": "helmr.cli.streams:output_app",
    "token": "helmr.cli.token:app",
    "public-token": "helmr.cli.public_token:app",
    "key": "helmr.cli.key:app",
    "person": "helmr.cli.person:app",
    **{name: place for one in FEATURES for name, place in one.commands.items()},
    "rule": "helmr.cli.rule:app",
    "limit": "helmr.cli.limit:app",
    "notices": "helmr.cli.notices:app",
    "context": "helmr.cli.context:app",
    "log": "helmr.cli.log:log_app",
}
"""Where each command is, in the order of help: only the module of the command that runs is imported."""

app = typer.Typer(
    name="helmr",
    help="Durable sessions of agent tasks that stop for people: actors on Ray, a ledger in DuckDB, a Textual console.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    cls=group_class(COMMANDS),
    context_settings={"help_option_names": HELP_NAMES},
)


def _version(asked: bool) -> None:
    if asked:
        from helmr.version import version

        printing.write(f"helmr {version()}")
        raise typer.Exit(ExitCode.OK)


@app.callback()
def _shared(
    ctx: typer.Context,
    url: Url = None,
    at: At = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    on_behalf_of: OnBehalfOf = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    ctx.obj = Cli(url=url, at=at, data_dir=data_dir, key_file=key_file, on_behalf_of=on_behalf_of)
    if ctx.invoked_subcommand is None:
        printing.write(FIRST_SCREEN)
        raise typer.Exit(ExitCode.USAGE)


def main() -> NoReturn:
    """Run the command of this process, then exit with its code; see `helmr.cli.start` for what comes before."""
    _prepare()
    code: int = ExitCode.INTERRUPTED
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        arguments = arguments_of_today(sys.argv[1:])
        for old, new in renamed(sys.argv[1:], arguments):
            printing.note(f"helmr: {old} is deprecated and will go; it is called {new} now")
        code = invoke(arguments)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:  # between two lines of the above
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


@cache
def _command() -> typer.core.TyperGroup:
    """Build the command tree, once: that takes as long as many a command."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    return command


def invoke(arguments: Sequence[str]) -> int:
    """Run one command; the exit code says how it went."""
    try:
        code: Any = _command().main(list(arguments), prog_name="helmr", standalone_mode=False)
        sys.stdout.flush()
    except HelmrError as error:
        if error.facts.get("connecting"):
            error.hint = _hint_if_it_runs(error.facts["url"]) or error.hint
        printing.error(error)
        return exit_code(error)
    except TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "helmr")
        gone = GONE_OPTIONS.get(getattr(error, "option_name", ""))
        hint = gone or f"`{command} --help` says what it takes."
        printing.error_lines(error.format_message(), hint)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except printing.ReaderGone:
        _give_up_output()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _give_up_output()
        printing.error_lines(f"the output can't be written: {error.strerror}", None)
        return ExitCode.USAGE
    return int(code or ExitCode.OK)


def _hint_if_it_runs(url: str) -> str | None:
    """Hint to try again while the runtime's process lives on this machine: its gateway is restarting."""
    from helmr.client.discovery import with_process
    from helmr.client.endpoint import Endpoint

    pid = with_process(Endpoint(url=url, key=None, found_by="url")).pid
    return f"Its process runs (pid {pid}): try again in a moment." if pid is not None else None


def _give_up_output() -> None:
    """Discard unwritten output: the interpreter would flush it at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        # An odd locale is not a reason to end in the middle of a list.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("helmr")
    if not logger.handlers:
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False


class _Warnings(logging.Handler):
    """Shows warnings of the client as lines like those of errors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        printing.note(f"helmr: {one_line(record.getMessage(), None)}")
