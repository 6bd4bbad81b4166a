"""Shared by all commands: the runtime meant and its client, exit codes, filters, extras, layout of help.

The shared options may stand before the command or behind it: `helmr --url URL session list` and
`helmr session list --url URL` are the same. The clock here is only for showing how long ago and how long until.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Concatenate, ParamSpec, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from helmr.errors import HelmrError, UsageError
from helmr.wire.old_names import GONE_COMMANDS

if TYPE_CHECKING:
    from helmr.client import AsyncClient, Client, Endpoint

log = logging.getLogger("helmr.cli")


class ExitCode(IntEnum):
    """Exit codes; the docstring of each is its line in the reference."""

    OK = 0
    """Done."""
    BUG = 1
    """A mistake of Helmr's own; the traceback is on stderr."""
    USAGE = 2
    """The call is wrong: unknown option, bad JSON, bad id, data that does not fit its schema."""
    NOT_FOUND = 3
    """What the call names does not exist."""
    NOT_ALLOWED = 4
    """The key is missing, unknown, or has no right to it."""
    CONFLICT = 5
    """The world is not as the caller believed: look again, then decide."""
    UNAVAILABLE = 6
    """No runtime, or it can't do it now: try again later."""
    DATA = 7
    """Stored data is damaged: stop, and keep the data directory as it is."""
    SUPERSEDED = 8
    """Of `helmr up`: another runtime has taken the log over. Started again, this one stands by."""
    INTERRUPTED = 130
    """Ctrl-C, as shells report it (128 + SIGINT)."""
    BROKEN_PIPE = 141
    """The reader of the output has gone, as shells report it (128 + SIGPIPE)."""


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that ends a command."""
    match error:
        case HelmrError():
            return ExitCode(error.exit_code)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.BUG


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code for many outcomes: the highest class, `OK` if there is none."""
    return max(codes, default=ExitCode.OK)


P = ParamSpec("P")
R = TypeVar("R")

KEY_FILE_BYTES_MAX = 4096

Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="The runtime's URL. [env: HELMR_URL]")
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="NAME",
        help="The runtime with this name in `helmr context`. [env: HELMR_AT]",
        autocompletion=lambda incomplete: _context_names(incomplete),
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The runtime's data directory, e.g. .helmr [env: HELMR_DATA_DIR]",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="File with the API key. [env: HELMR_API_KEY]"),
]
OnBehalfOf = Annotated[
    str | None,
    typer.Option(
        "--on-behalf-of", metavar="NAME", help="The person who acts; Helmr records the name."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=200, metavar="N", help="Items at most, 1 to 200.")
]
Cursor = Annotated[
    str | None,
    typer.Option("--cursor", metavar="CURSOR", help="Go on where the last page ended."),
]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="WORDS", help="As in the console, e.g. 'stream:approval due<1h'."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Every page.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """Options that name the runtime, its key and the acting person."""

    url: str | None = None
    at: str | None = None
    data_dir: Path | None = None
    key_file: Path | None = None
    on_behalf_of: str | None = None

    def with_context(self, environ: Mapping[str, str]) -> Cli:
        """Fill in the context that `--at` or HELMR_AT names; options take precedence.

        Raises:
            UsageError: There is no such context, or `--at` stands beside another runtime.
        """
        says_which = self.url is not None or self.data_dir is not None
        if self.at is not None and says_which:
            raise UsageError(
                "--at can't go with --url or --data-dir",
                hint="Each of them says which runtime is meant.",
            )
        name = self.at or ("" if says_which else environ.get("HELMR_AT", ""))
        if not name:
            return self
        from helmr.client.profiles import find_context

        found = find_context(environ, name)
        kept = Path(found.key_file).expanduser() if found.key_file is not None else None
        if kept is not None and self.key_file is None and environ.get("HELMR_API_KEY"):
            log.warning("HELMR_API_KEY is not used: the context %s has a key file, %s", name, kept)
        return replace(
            self,
            url=found.url,
            at=found.name,
            key_file=self.key_file or kept,
            on_behalf_of=self.on_behalf_of or found.on_behalf_of,
        )

    def client(self, *, is_patient: bool = False) -> Client:
        """A client for the runtime that is meant.

        Args:
            is_patient: Outlast a restart of the runtime, for what follows or sends for long. Otherwise a
                refused connection is reported within a second.

        Raises:
            RuntimeNotFound, AmbiguousRuntime: There is none, or nothing says which.
        """
        from helmr.client import Client, Retry

        return Client(
            url=self.url,
            key=self._key(),
            data_dir=self.data_dir,
            on_behalf_of=self.on_behalf_of,
            retry=Retry() if is_patient else Retry(tries_max=4),
        )

    def async_client(self) -> AsyncClient:
        """Return an asyncio client, built as `client` builds its own.

        Raises:
            RuntimeNotFound, AmbiguousRuntime: There is none, or nothing says which.
        """
        from helmr.client import AsyncClient, Retry

        return AsyncClient(
            url=self.url,
            key=self._key(),
            data_dir=self.data_dir,
            on_behalf_of=self.on_behalf_of,
            retry=Retry(tries_max=4),
        )

    def me(self) -> str | None:
        """Return the acting person: as named, else as the credential proves; None for a service or if unknown."""
        if self.on_behalf_of is not None:
            return self.on_behalf_of
        try:
            with self.client() as client:
                found = client.people.whoami()
        except HelmrError:  # of an earlier edition, or away: what is asked next says so
            return None
        return found.person.id if found.person is not None else None

    def endpoint(self) -> Endpoint:
        """Find the runtime that these options mean."""
        from helmr.client import find_runtime

        return find_runtime(url=self.url, key=self._key(), data_dir=self.data_dir)

    def _key(self) -> str | None:
        if self.key_file is None:
            return None
        try:
            with self.key_file.open("rb") as file:
                text = file.read(KEY_FILE_BYTES_MAX).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the key file {self.key_file} can't be read: {error}") from error
        if not text or len(text.split()) != 1:
            raise UsageError(f"the key file {self.key_file} holds no key")
        return text


def _context_names(incomplete: str) -> list[str]:
    from helmr.client.profiles import read_contexts

    try:
        return [name for name in read_contexts(os.environ) if name.startswith(incomplete)]
    except HelmrError:  # a prompt is not a place for errors
        return []


_SHARED: dict[str, Any] = {
    "url": Url,
    "at": At,
    "data_dir": DataDir,
    "key_file": KeyFile,
    "on_behalf_of": OnBehalfOf,
}


# --- how help looks -----------------------------------------------------------------------------------

HELP_NAMES = ["-h", "--help"]

FIRST_SCREEN = """\
Durable sessions of agent tasks that stop for people: actors on Ray, a Textual console.

Start here:
  helmr demo          See a session wait for a person, lose its runtime, and go on.
  helmr init          Begin a folder of tasks: a task, a test, helmr.toml.
  helmr dev tasks.py  Write tasks: a runtime that starts again when they change.
  helmr up tasks.py   Run a runtime with your tasks.
  helmr console       See what waits for people, and answer it.

`helmr -h` lists all commands; -h behind a command says what it takes."""


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, whole: cut, it would say nothing."""
    paragraph = inspect.cleandoc(text or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


class CommandWithExamples(TyperCommand):
    """A command whose help ends with its examples, line by line."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The line in the list of commands."""
        return first_sentence(self.help)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words behind `Usage:`, required arguments without braces."""
        return [
            piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)
        ]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, which wrapping would break."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))


ALIASES = {"ls": "list"}
"""Names that hands know from elsewhere."""


class LazyCommands(MutableMapping[str, Any]):
    """The commands of a group: those that it has, then those that are imported when they are asked for.

    Args:
        places: Each other command as `module:name` of a Typer app, or of a function that registers it with one.
    """

    def __init__(self, commands: Mapping[str, Any], places: Mapping[str, str]) -> None:
        self._commands: dict[str, Any] = {**commands, **dict.fromkeys(places)}
        self._places = places

    def __getitem__(self, name: str) -> Any:
        if self._commands[name] is None:
            self._commands[name] = _loaded(name, self._places[name])
        return self._commands[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

    def __contains__(self, name: object) -> bool:
        return name in self._commands


def _loaded(name: str, place: str) -> Any:
    parent = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    found = resolve_name(place)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        found(parent)
    return typer.main.get_group(parent).commands[name]


class Group(TyperGroup):
    """A group whose line in the list of commands is whole, with more commands than are imported."""

    places: ClassVar[Mapping[str, str]] = {}
    """Of `LazyCommands`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.commands = LazyCommands(self.commands, self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, or by an alias of it that help does not show."""
        found = super().get_command(ctx, cmd_name)
        return found or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve a command; the UsageError for a removed command names its replacement."""
        if ctx.parent is None and args[0] in GONE_COMMANDS:
            raise UsageError(f"there is no `helmr {args[0]}` any more", hint=GONE_COMMANDS[args[0]])
        return super().resolve_command(ctx, args)

    def get_short_help_str(self, limit: int = 45) -> str:
        """The line in the list of commands."""
        return first_sentence(self.help)


def group_class(places: Mapping[str, str]) -> type[Group]:
    """Make a group that imports these commands, by name as `module:name`, when they are asked for."""
    return type("LazyGroup", (Group,), {"places": places})


def group(help_text: str, places: Mapping[str, str] | None = None) -> typer.Typer:
    """A Typer app that prints its help when no command is given.

    Args:
        places: Its commands of other modules, each as `module:name`.
    """
    app = typer.Typer(
        help=help_text,
        cls=group_class(places or {}),
        rich_markup_mode=None,  # plain help: no boxes and no colour in a pipe, and no rich import
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        add_completion=False,
    )

    def without_command(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())
            raise typer.Exit(ExitCode.USAGE)

    app.callback()(without_command)
    return app


def gives_options(function: Callable[..., Any], options: Mapping[str, tuple[Any, Any]]) -> None:
    """Have Typer read these options, by name with annotation and default, for a function of `(ctx, **options)`."""
    by_name, by_key = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", by_name, annotation=typer.Context),
        *(
            inspect.Parameter(name, by_key, annotation=annotation, default=default)
            for name, (annotation, default) in options.items()
        ),
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    function.__annotations__ = {one.name: one.annotation for one in parameters}


def command(
    app: typer.Typer, name: str, *, examples: str | None = None, finds_runtime: bool = True
) -> Callable[[Callable[Concatenate[Cli, P], R]], Callable[Concatenate[Cli, P], R]]:
    """Register a function as a command of `app`, with the shared options besides its own.

    The function's first argument is the `Cli` that they give. Examples are lines for the end of its help. A command
    that talks to no runtime takes no notice of what `--at` names.
    """

    def register(function: Callable[Concatenate[Cli, P], R]) -> Callable[Concatenate[Cli, P], R]:
        @functools.wraps(function)
        def invoked(ctx: typer.Context, **given: Any) -> Any:
            before: Cli = ctx.find_root().obj or Cli()
            shared = {key: given.pop(key) for key in _SHARED}
            cli = replace(
                before, **{key: value for key, value in shared.items() if value is not None}
            )
            if finds_runtime:
                cli = cli.with_context(os.environ)
            return function(cli, **given)  # type: ignore[call-arg]  # the options that Typer parsed

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared_ones = {key: (annotation, None) for key, annotation in _SHARED.items()}
        gives_options(
            invoked, {**{one.name: (one.annotation, one.default) for one in own}, **shared_ones}
        )
        app.command(name, cls=CommandWithExamples, epilog=examples)(invoked)
        return function

    return register


def now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)  # noqa: TID251  # helmr_runtime.clock is not installed where only the CLI is


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="The profile whose saved filters to use; see console.toml.",
    ),
]
