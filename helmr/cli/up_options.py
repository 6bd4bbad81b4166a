"""The options of `helmr up` and `helmr dev`, from which help, `[runtime]` of helmr.toml and `helmr config` follow.

The command line goes before the environment, that before the file, and the file before the defaults here.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from helmr.cli.app import Cli, CommandWithExamples, gives_options
from helmr.cli.config import form_of, log_url_of, otel_of, runtime_table
from helmr.client.whereabouts import DATA_DIR_VARIABLE
from helmr.errors import UsageError
from helmr.hash_seed import DATA_DIR
from helmr.wire import durations

N = TypeVar("N", int, float)
T = TypeVar("T", bound="DevFlags")
PORT = 4356
HOST = "127.0.0.1"


class Transport(StrEnum):
    """Values of `--transport`."""

    SOCKETS = "sockets"
    RAY = "ray"


class LogFormat(StrEnum):
    """Values of `--log-format`."""

    TEXT = "text"
    JSON = "json"


class CheckMode(StrEnum):
    """Values of `--check`."""

    NO = "no"
    WARN = "warn"
    REFUSE = "refuse"


Tasks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TASKS…",
        help="Files or dotted modules with tasks; else `[tool.helmr] tasks` of pyproject.toml.",
    ),
]
Folder = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        envvar=DATA_DIR_VARIABLE,
        show_envvar=False,
        is_eager=True,  # before the file, which lies beside it
        help="Where sessions are stored. [env: HELMR_DATA_DIR]",
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        is_eager=True,
        callback=lambda ctx, value: _read_file(ctx, value),
        help="The file with settings, notices, people and limits; helmr.toml beside the data directory if not given.",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevFlags:
    """The options of `helmr dev`; `helmr up` has more. An attribute's annotation is what its help says."""

    tasks: Tasks = None
    host: Annotated[str, typer.Option(metavar="HOST", help="Where HTTP listens.")] = HOST
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one.")
    ] = PORT
    data_dir: Folder = DATA_DIR
    config: File = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpFlags(DevFlags):
    """The options of `helmr up`."""

    hosts: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of host processes; one for every two cores if not given.",
        ),
    ] = None
    sessions_per_host: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Live sessions in one host, at most; 500 if not given.",
        ),
    ] = None
    host_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that a host may allocate before another host replaces it, such as 4GB; a "
            "quarter of the machine's memory if not given. Not with --in-process.",
        ),
    ] = None
    linger: Annotated[
        str, typer.Option(metavar="DURATION", help="How long a waiting session stays in memory.")
    ] = "30s"
    external_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What links to tokens begin with if there is a proxy."),
    ] = None
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="Believe X-Forwarded-For and X-Forwarded-Proto from this network; may be given again.",
        ),
    ] = None
    encrypt: Annotated[
        bool | None,
        typer.Option(
            "--encrypt/--no-encrypt",
            help="Encrypt the payloads of new entries; the data directory remembers it.",
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Start the runtime in this Ray cluster and return; `auto` is this machine's cluster. If you "
            "run it again, it repairs what is missing or has changed.",
        ),
    ] = None
    http: Annotated[
        bool,
        typer.Option(
            "--http/--no-http", help="Serve HTTP; without it, only the cluster reaches the runtime."
        ),
    ] = True
    otel: Annotated[
        bool,
        typer.Option(
            "--otel",
            help="Send OpenTelemetry traces to where the OTEL_ variables say.",
        ),
    ] = False
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar="HELMR_LOG_FORMAT",
            help="Format of the lines in its log files.",
            show_default=True,
        ),
    ] = LogFormat.TEXT
    transport: Annotated[
        Transport,
        typer.Option(help="How its processes on one machine call each other."),
    ] = Transport.SOCKETS
    in_process: Annotated[
        bool | None,
        typer.Option(
            "--in-process/--ray",
            help="Without Ray, all in one process: starts in a second, for code that you trust. If neither is given, "
            "`form` below [runtime] in helmr.toml decides, else it is Ray where that is installed.",
        ),
    ] = None
    ensure: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Also start a session of this task, unless one is open as --external-id.",
        ),
    ] = None
    external_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The external id of the session of --ensure.")
    ] = None
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="The payload for the task of --ensure.")
    ] = "null"
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Store commits in this bucket or PostgreSQL instead of beside the database, as `url` below [log] in "
            "helmr.toml does.",
        ),
    ] = None
    check: Annotated[
        CheckMode,
        typer.Option(
            help="Before the start, replay every run that has not ended; if this code would block any, "
            "`refuse` to start or only `warn`."
        ),
    ] = CheckMode.NO


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartValues:
    """What texts among the options stand for: seconds, bytes, networks."""

    linger_s: float
    host_memory_bytes: int | None
    trusted_proxies: tuple[str, ...]


def values_of(options: UpFlags) -> StartValues:
    """Read the options that are texts, and check those that belong together.

    Raises:
        UsageError: One can't be read, or lacks another; names the option.
    """
    if (options.ensure is None) != (options.external_id is None):
        raise UsageError(
            "--ensure and --external-id belong together",
            hint="`--ensure TASK --external-id ID` keeps one session of a task.",
        )
    if options.ensure is not None and options.address is not None:
        raise UsageError(
            "--ensure is for a runtime in the foreground",
            hint="`helmr session start TASK --external-id ID` does the same for one in a cluster.",
        )
    memory = options.host_memory
    return StartValues(
        linger_s=_read("linger", partial(durations.seconds, allow_zero=True), options.linger),
        host_memory_bytes=(
            _read("host-memory", durations.size_bytes, memory) if memory is not None else None
        ),
        trusted_proxies=tuple(network(text) for text in options.trusted_proxy or ()),
    )


def _read(option: str, read: Callable[[str], N], text: str) -> N:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"--{option}: {error.message}", hint=error.hint) from error


def network(text: str) -> str:
    """Return an address or a network as a network.

    Raises:
        UsageError: It is neither.
    """
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as error:
        raise UsageError(
            f"--trusted-proxy {text!r} is not an address or network: {error}",
            hint="Give it as 10.1.2.3 or 10.1.2.0/24.",
        ) from error


ELSEWHERE = {
    "tasks": "`tasks` stands below [tool.helmr] in pyproject.toml",
    "data_dir": "the data directory is the one that the file lies beside",
    "config": "this file is the one",
    "in_process": '`form = "in-process"`, or "ray", says it',
    "otel": "`traces` below [otel] says it",
    "log": "`url` below [log] says it",
}
"""Options that are no keys of `[runtime]`, and where the file has them."""

FORM = "form"
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    str: "a text",
    list: "a list of texts",
}


def keys() -> dict[str, type]:
    """The keys of `[runtime]` and the type of each in TOML: the options of `helmr up`, and `form`."""
    hints = get_type_hints(UpFlags)
    return {FORM: str, **{name: _kind(hints[name]) for name in hints if name not in ELSEWHERE}}


def _kind(hint: Any) -> type:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    found = get_origin(hint) or hint
    return found if found in KINDS else str


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def options_of_file(config: Path | None, data_dir: Path) -> dict[str, Any]:
    """Return the options that the file sets, by name, as the command line's words would be taken.

    Raises:
        UsageError: As `config.notices_table`; or `[runtime]` has a key that is none, or a value of another type.
    """
    table, path = runtime_table(config, data_dir)
    known = keys()
    for name, value in table.items():
        if name in ELSEWHERE:
            raise UsageError(f"{path}: `{name}` is no key of [runtime]: {ELSEWHERE[name]}")
        if name not in known:
            raise UsageError(
                f"{path}: `{name}` is no key of [runtime]",
                hint=f"It takes options of `helmr up`: {', '.join(sorted(known))}.",
            )
        kind = known[name]
        if type(value) is not kind or any(type(one) is not str for one in _items(value)):
            raise UsageError(f"{path}: `{name}` of [runtime] is {KINDS[kind]}, not {value!r}")
    form_of(config, data_dir)
    said = {name: value for name, value in table.items() if name != FORM}
    if (url := log_url_of(config, data_dir)) is not None:
        said["log"] = url
    if otel_of(config, data_dir):
        said["otel"] = True
    return said


def _read_file(ctx: typer.Context, config: Path | None) -> Path | None:
    """Take what the file says for defaults, before the options that it may name are looked at."""
    if not ctx.resilient_parsing:
        beside = ctx.params.get("data_dir", DATA_DIR)  # not yet there if this file was named
        ctx.default_map = options_of_file(config, place_of(ctx, beside))
    return config


def place_of(ctx: typer.Context, data_dir: Path) -> Path:
    """Return the data directory to start on: `--data-dir` on either side of the command goes before the environment."""
    shared: Cli = ctx.find_root().obj or Cli()
    is_said = source_of(ctx, "data_dir") == "COMMANDLINE"
    return shared.data_dir if shared.data_dir is not None and not is_said else data_dir


def source_of(ctx: typer.Context, name: str) -> str:
    """Return where an option's value is from: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (the file) or DEFAULT."""
    source = ctx.get_parameter_source(name)
    return source.name if source is not None else "DEFAULT"


class StartCommand(CommandWithExamples):
    """A command whose options the file may set: an error names the file, not an option that no one typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, then what it leaves to the file."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = error.param.name if error.param is not None else None
            if name is None or source_of(ctx, name) != "DEFAULT_MAP":
                raise
            file = ctx.params.get("config") or "helmr.toml"
            raise UsageError(f"{file}: `{name}` of [runtime]: {error.message}") from error


def add_start(
    app: typer.Typer,
    name: str,
    options: type[T],
    run: Callable[[typer.Context, T], None],
    *,
    examples: str,
) -> None:
    """Add a command that takes these options; `run` gets them as one value, its data directory the one to start on."""

    def invoked(ctx: typer.Context, **given: Any) -> None:
        given["data_dir"] = place_of(ctx, given["data_dir"])
        run(ctx, options(**given))

    invoked.__doc__ = run.__doc__
    hints = get_type_hints(options, include_extras=True)
    gives_options(
        invoked, {one.name: (hints[one.name], one.default) for one in dataclasses.fields(options)}
    )
    app.command(name, cls=StartCommand, epilog=examples)(invoked)
