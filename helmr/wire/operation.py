"""One operation of the runtime's API, as a row of `helmr.wire.operations`.

Everything that offers or describes the API reads the rows: the gateway's router, the OpenAPI document, the table of
roles, the clients, MCP's tools and the tests that hold the docs to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from functools import cached_property
from types import ModuleType, UnionType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from helmr.errors import HelmrError, UsageError
from helmr.wire import ids
from helmr.wire.roles import Need, Owner, ScopeType

T = TypeVar("T")

PATH_IDS = {
    "session_id": ids.SESSION,
    "run_id": ids.RUN,
    "wait_id": ids.WAIT,
    "token_id": ids.TOKEN,
    "public_token_id": ids.PUBLIC_TOKEN,
    "link_id": ids.PUBLIC_TOKEN,
    "key_id": ids.API_KEY,
    "grant_id": ids.GRANT,
    "delegation_id": ids.DELEGATION,
}
"""Parameters of paths that are ids, and the prefix of each."""

_PARAMETER = re.compile(r"{(\w+)}")


class Repeat(StrEnum):
    """Effect of a second call."""

    READ = "read"
    """Has no effect, and neither had the first."""
    ONCE = "once"
    """Acts once per Operation-Id; a repeated call gets the first receipt."""
    AGAIN = "again"
    """Acts again: it renews, or notifies once more."""


@dataclass(frozen=True, slots=True)
class Media:
    """An answer that is not JSON.

    Attributes:
        content_type: Value of the answer's header.
        description: One line for the OpenAPI document.
        filename: File name for browsers, with parameters of the path in braces.
    """

    content_type: str
    description: str = "Successful Response"
    filename: str = ""


JSONL = "application/jsonl"
TEXT = Media("text/plain")
PAGE = Media("text/html", "The answer page")
EVENTS = Media(
    "text/event-stream",
    "Server-sent events; the id is where to go on. A comment at least every 15 s.",
)


@dataclass(frozen=True, slots=True)
class PathName:
    """A parameter of paths that is a name and no id.

    Attributes:
        noun: Kind of the thing that it names.
        pattern: Regular expression that it must match.
        chars_max: Most characters of it.
        says: Allowed characters, in words.
        error: Error that a client raises for an invalid one.
    """

    noun: str
    pattern: str
    chars_max: int
    says: str
    error: type[HelmrError] = UsageError

    def check(self, value: str) -> None:
        """Raise the error for an invalid name."""
        if len(value) > self.chars_max or re.fullmatch(self.pattern, value) is None:
            raise self.error(
                f"{value[:80]!r} is not a name of {self.noun}",
                hint=f"{self.says}, at most {self.chars_max}.",
            )


@dataclass(frozen=True, eq=False)
class Operation(Generic[T]):
    """One operation: its route, callers, arguments and answers.

    Attributes:
        call: Its name in clients, `waits.answer`; empty for operations of browsers, probes and other protocols.
        route: Method and path, `POST /v1/waits/{wait_id}/answer`.
        need: Right that a key's role must have.
        summary: Its effect, in one line.
        description: Details after the summary.
        tag: Its chapter of the OpenAPI document; the noun of `call` unless given.
        service: Its name in the service, if other than `call`.
        scope: Public tokens of this scope may call it instead of a key.
        owner: Owner of the things that it reaches.
        query: Model of its query string.
        body: Model of its body.
        reply: Model or type of its answer.
        also: Answer that the header Accept can ask for instead.
        status: Status of success.
        others: Further statuses of success, with descriptions.
        problems: Statuses of refusal beyond those that follow from the rest of the row.
        leaves_out: Fields that lists leave out of their items; a dot leads to a field of a part.
        repeat: Effect of a second call.
        may_be_stale: True of a POST whose answer is read; a standby gives an old one, and says so, as it does to a GET.
        is_documented: True if the OpenAPI document has it.
        names: Parameters of the path that are names.
        name: The operation's id, `answer_wait`: its constant's name in `helmr.wire.operations`.
    """

    call: str
    route: str
    need: Need
    summary: str
    _: KW_ONLY
    description: str = ""
    tag: str = ""
    service: str = ""
    scope: ScopeType | None = None
    owner: Owner = Owner.ALL
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    reply: type[T] | UnionType | Media
    also: Media | None = None
    status: int = 200
    others: Mapping[int, str] = field(default_factory=dict)
    problems: Sequence[int] = ()
    leaves_out: Sequence[str] = ()
    repeat: Repeat = Repeat.READ
    may_be_stale: bool = False
    is_documented: bool = True
    names: Mapping[str, PathName] = field(default_factory=dict)
    name: str = ""

    @cached_property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.partition(" ")[0]

    @cached_property
    def path(self) -> str:
        """The path, with its parameters in braces."""
        return self.route.partition(" ")[2]

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        """The parameters of the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @cached_property
    def served_at(self) -> tuple[str, str]:
        """The service's noun and its method."""
        noun, _, method = (self.service or self.call).partition(".")
        return noun, method

    @cached_property
    def excluded(self) -> dict[str, Any] | None:
        """Fields for pydantic to leave out of a list's items: `wait.body` is the body of an item's wait."""
        tree: dict[str, Any] = {}
        for name in self.leaves_out:
            *above, leaf = name.split(".")
            node = tree
            for part in above:
                node = node.setdefault(part, {})
            node[leaf] = True
        return {"items": {"__all__": tree}} if tree else None

    @cached_property
    def needs_key(self) -> bool:
        """True unless every caller may call it, or the right is the secret in its path or a person's cookie."""
        return self.need not in (Need.NOTHING, Need.SECRET, Need.PAGE)

    @cached_property
    def takes_operation_id(self) -> bool:
        """True if it accepts the header Operation-Id."""
        return self.repeat is not Repeat.READ

    @cached_property
    def is_body_needed(self) -> bool:
        """True if a call without a body is refused."""
        if self.body is None:
            return False
        return any(part.is_required() for part in self.body.model_fields.values())

    @cached_property
    def refusals(self) -> tuple[int, ...]:
        """Every status of refusal that it may answer with."""
        found = {403, 500, *self.problems}
        if self.needs_key:
            found |= {401, 429, 503}
        if self.body is not None:
            found |= {400, 413, 415}
        if self.query is not None or set(self.path_names) - {"secret"}:
            found |= {400}
        return tuple(sorted(found))

    def at(self, *values: str) -> str:
        """The path with these values of its parameters.

        Raises:
            BadId: A value is not an id of the kind that its parameter asks for.
        """
        parts = dict(zip(self.path_names, values, strict=True))
        for name, value in parts.items():
            if name in PATH_IDS:
                ids.check_id(value, PATH_IDS[name])
        return _PARAMETER.sub(lambda found: quote(parts[found[1]], safe=""), self.path)

    def __str__(self) -> str:
        return self.route


def named(*modules: ModuleType) -> Iterator[Operation[Any]]:
    """The rows of these modules in order, each under its constant's name in lower case."""
    for module in modules:
        for constant, value in vars(module).items():
            if isinstance(value, Operation):
                object.__setattr__(value, "name", constant.lower())
                yield value
