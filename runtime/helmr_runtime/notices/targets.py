"""Notice targets as `helmr.toml` names them.

```toml
[notices.oncall]
type = "webhook"                       # webhook, slack, email, ntfy, command
url = "https://alerts.example.com/in"
secret_env = "ONCALL_SECRET"
events = ["wait.opened", "run.failed"]
filter = "priority:high -tag:test"
```

Secrets are named here and stand elsewhere: in an environment variable (`…_env`) or a file (`…_file`). They are read
where notices are sent and go nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from helmr.errors import BadDuration, BadFilter, UsageError
from helmr.models.system import EventName
from helmr.person import filters
from helmr.wire import durations
from helmr.wire.people import PERSON
from helmr_runtime.core.notices import ASKING, ENDS
from helmr_runtime.notices.content import TEMPLATE_WORDS
from helmr_runtime.notices.secrets import Secrets, check_one_of, check_url
from helmr_runtime.security.people import PeopleConfig

TARGETS_MAX = 20
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")
NO_TOPIC = "a topic is 1 to 64 letters, digits, `_` and `-`"

PASSING = ("due", "age", "claimed", "batch")
"""Fields of a filter that change while a wait is pending, or when it ends, with no event that says so."""

ASSIGNEE = "assignee"
"""`links = "assignee"`: a link for the person to whom the wait is assigned."""

Detail = Literal["none", "subject", "full"]
Events = Annotated[tuple[EventName, ...], Field(min_length=1)]


class _Target(BaseModel):
    """Settings common to all targets.

    Attributes:
        events: The events that it receives.
        filter: Filter of waits in the syntax of `helmr wait list --filter`; all of its terms must hold.
        detail: Amount of detail in a notice: only ids and times, also what lists show, or everything.
        links: The person that an opening wait's answer link is made for; None makes no link.
        due_soon: Time before the end of a wait from which it is due soon.
        private_addresses: True permits an address on the private network.
        longest_pause: Longest pause between two tries.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stays_in_sight: ClassVar[bool] = False
    """True if people still see its notice of a wait later, so it must say what became of the wait (S-140)."""

    name: str
    events: Events = (EventName.WAIT_OPENED, EventName.RUN_FAILED, EventName.RUN_BLOCKED)
    filter: str = ""
    detail: Detail = "subject"
    links: str | None = Field(default=None, min_length=1, max_length=128)
    due_soon: str = "1h"
    private_addresses: bool = False
    longest_pause: str = "60s"

    @model_validator(mode="after")
    def _check(self) -> _Target:
        if self.parsed.asks_who:
            raise ValueError("is:mine asks who looks, and no one does")
        durations.seconds(self.due_soon)
        durations.seconds(self.longest_pause)
        return self

    @property
    def heard(self) -> tuple[EventName, ...]:
        """The events that it receives, also those that follow from `events`."""
        return self.events

    def check(self, secrets: Secrets) -> None:
        """Return if everything that it names is there.

        Raises:
            UsageError: Something is not.
        """

    @property
    def parsed(self) -> filters.Filter:
        """The filter."""
        return filters.parse(self.filter, filters.WAIT_FIELDS)

    @property
    def lead(self) -> timedelta:
        """`due_soon`."""
        return timedelta(seconds=durations.seconds(self.due_soon))

    @property
    def pause_max(self) -> timedelta:
        """`longest_pause`."""
        return timedelta(seconds=durations.seconds(self.longest_pause))


class _Told(_Target):
    """A target that gets a text, made of a template with the words of `TEMPLATE_WORDS`."""

    title: str | None = Field(default=None, max_length=500)
    text: str | None = Field(default=None, max_length=10_000)

    @model_validator(mode="after")
    def _check_texts(self) -> _Told:
        for template in filter(None, (self.title, self.text)):
            found = Template(template)
            unknown = [] if found.is_valid() else ["$"]
            unknown += [one for one in found.get_identifiers() if one not in TEMPLATE_WORDS]
            if unknown:
                words = ", ".join(f"${word}" for word in TEMPLATE_WORDS)
                raise ValueError(f"{unknown[0]!r} is not a word of a template; there are {words}")
        return self


def _listed(given: Any) -> Any:
    """One alone need not be a list."""
    return [given] if isinstance(given, str) else given


class WebhookTarget(_Target):
    """An endpoint that takes CloudEvents, signed as Standard Webhooks has it."""

    type: Literal["webhook"]
    url: str | None = None
    url_env: str | None = None
    url_file: Path | None = None
    secret_env: str | None = None
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _check_places(self) -> WebhookTarget:
        check_one_of(self, "url", "url_env", "url_file")
        check_one_of(self, "secret_env", "secret_file")
        if self.url is not None:
            check_url(self.url)
        return self

    def check(self, secrets: Secrets) -> None:
        """Return if its URL and its key are there."""
        secrets.url(self)
        secrets.signing_key(self)


class SlackTarget(_Told):
    """An incoming webhook of Slack; its URL is the secret."""

    type: Literal["slack"]
    url_env: str | None = None
    url_file: Path | None = None

    @model_validator(mode="after")
    def _check_places(self) -> SlackTarget:
        check_one_of(self, "url_env", "url_file")
        return self

    def check(self, secrets: Secrets) -> None:
        """Return if its URL is there."""
        secrets.url(self)


class EmailTarget(_Told):
    """People, by way of an SMTP server."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: Literal["email"]
    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    sender: str = Field(alias="from", min_length=3)
    to: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _check_places(self) -> EmailTarget:
        if self.user is not None:
            check_one_of(self, "password_env", "password_file")
            if self.security == "none":
                raise ValueError('a password is not sent in the clear: security = "starttls"')
        for address in (self.sender, *self.to):
            if address.startswith(PERSON) and address != self.sender:
                continue
            if "@" not in address or not address.isprintable():
                raise ValueError(f"{address!r} is not an address")
        return self

    def check(self, secrets: Secrets) -> None:
        """Return if the password of its user is there."""
        if self.user is not None:
            secrets.read(self, "password")


class NtfyTarget(_Told):
    """A topic of an ntfy server, to which phones subscribe.

    A phone shows a wait's notification until someone looks. So a target that hears of openings hears of ends too, and,
    if its filter looks at the assignee, of each change of it; of what else a filter could look at and what changes
    while a wait is pending, nothing would tell it.
    """

    stays_in_sight: ClassVar[bool] = True

    type: Literal["ntfy"]
    url: str
    topic: str | None = None
    topic_env: str | None = None
    topic_file: Path | None = None
    token_env: str | None = None
    token_file: Path | None = None

    @model_validator(mode="after")
    def _check_places(self) -> NtfyTarget:
        check_one_of(self, "topic", "topic_env", "topic_file")
        parts = urlsplit(check_url(self.url))
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("url: it names more than the server; the topic stands in `topic`")
        if self.topic is not None and not TOPIC.fullmatch(self.topic):
            raise ValueError(f"topic: {NO_TOPIC}")
        if self.has_token:
            check_one_of(self, "token_env", "token_file")
            if parts.scheme == "http" and not self.private_addresses:
                raise ValueError(
                    "a token is not sent in the clear: https, or private_addresses = true for a server of your "
                    "own network"
                )
        if self.links is not None and self.detail == "none":
            raise ValueError('an answer link is a secret: detail = "subject", or no links')
        return self

    @model_validator(mode="after")
    def _check_what_is_shown(self) -> NtfyTarget:
        later = [one.value for one in ASKING if one in self.events]
        if later and EventName.WAIT_OPENED not in self.events:
            raise ValueError(
                f"events: {later[0]} wants wait.opened too: what a phone shows of a wait begins with that"
            )
        for term in self.parsed.terms:
            words = [one for one in term.values if one.lower() != "unassigned"]
            if term.field in PASSING or (term.field == "is" and words):
                raise ValueError(
                    f"filter: {term.field}{term.op}{term.values[0]} changes while a wait is pending, and a phone "
                    "would go on showing it"
                )
        return self

    @property
    def has_token(self) -> bool:
        """True if the server wants to know who posts."""
        return self.token_env is not None or self.token_file is not None

    @property
    def heard(self) -> tuple[EventName, ...]:
        """The events that it receives, also those that say what became of a wait that it has shown."""
        if EventName.WAIT_OPENED not in self.events:
            return self.events
        looks_at_assignee = any(one.field in ("assignee", "is", None) for one in self.parsed.terms)
        moves = (EventName.WAIT_ASSIGNED,) if looks_at_assignee else ()
        return tuple(dict.fromkeys((*self.events, *moves, *ENDS)))

    def check(self, secrets: Secrets) -> None:
        """Return if its topic and its token are there."""
        self.read_topic(secrets)
        if self.has_token:
            secrets.read(self, "token")

    def read_topic(self, secrets: Secrets) -> str:
        """Return its topic.

        Raises:
            UsageError: It is missing or not a topic.
        """
        topic = secrets.text(self, "topic")
        if not TOPIC.fullmatch(topic):
            raise UsageError(f"[notices.{self.name}] topic: {NO_TOPIC}")
        return topic


class CommandTarget(_Target):
    """A program, without a shell; it gets the notice as JSON on standard input, and `env` of the environment.

    It runs in `folder`, without one in that of the file that names it.
    """

    type: Literal["command"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    env: tuple[str, ...] = ()
    folder: Path


Target = WebhookTarget | SlackTarget | EmailTarget | NtfyTarget | CommandTarget
_TARGET: TypeAdapter[Target] = TypeAdapter(Annotated[Target, Field(discriminator="type")])


def read_targets(table: Any, place: str) -> tuple[Target, ...]:
    """The targets of a `[notices]` table.

    Args:
        table: What stands in it, by name.
        place: The file, for messages; paths in it are looked up from its folder.

    Raises:
        UsageError: Names the target and what is wrong with it.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{place}: notices is not a table", hint="Targets are [notices.NAME].")
    if len(table) > TARGETS_MAX:
        raise UsageError(f"{place}: there may be {TARGETS_MAX} notice targets, not {len(table)}")
    return tuple(_read(name, parts, place) for name, parts in table.items())


def _read(name: str, parts: Any, place: str) -> Target:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{place}: {name[:80]!r} is not a name of a notice target",
            hint="Letters, digits, `_` and `-`, at most 64.",
        )
    if not isinstance(parts, Mapping):
        raise UsageError(f"{place}: [notices.{name}] is not a table")
    if parts.get("type") == "command":
        parts = {"folder": ".", **parts}
    files = {
        key: str((Path(place).parent / value).absolute())
        for key, value in parts.items()
        if key.endswith(("_file", "folder")) and isinstance(value, str)
    }
    try:
        return _TARGET.validate_python({**parts, **files, "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"][1:])
        what = f"{path}: " if path else ""
        raise UsageError(
            f"{place}: [notices.{name}] {what}{_said(first)}",
            hint="docs/notices.md says what a target may hold.",
        ) from error
    except (BadFilter, BadDuration) as error:
        raise UsageError(f"{place}: [notices.{name}] {error.message}", hint=error.hint) from error


def for_people(target: Target, people: PeopleConfig) -> Target:
    """The target with the e-mail of each person that it names, `to = "person:ada"`, and with links for its reader.

    Raises:
        UsageError: It names a person that there is not, or who has none; or people read links made for others.
    """
    if not isinstance(target, EmailTarget):
        return target
    to = tuple(_address(one, people, target.name) for one in target.to)
    return target.model_copy(update={"to": to, "links": _links(target, to, people)})


def _links(target: EmailTarget, to: tuple[str, ...], people: PeopleConfig) -> str | None:
    """For whom the links in the mail are: anyone who opens one answers by that name.

    Raises:
        UsageError: For another than the person who reads the mail.
    """
    mailboxes = {one.email: one.id for one in people.named.values() if one.email is not None}
    readers = {mailboxes[one.lower()] for one in to if one.lower() in mailboxes}
    if target.links is None or not readers:
        return target.links
    reader = next(iter(readers))
    is_own = target.links == ASSIGNEE or people.canonical(target.links) == reader
    if len(to) == 1 and is_own:
        return reader
    raise UsageError(
        f"[notices.{target.name}] links: {reader} would read links made for others, and answer by their names",
        hint='Make a target for each person, to = "person:NAME" with links = "assignee".',
    )


def _address(said: str, people: PeopleConfig, name: str) -> str:
    if not said.startswith(PERSON):
        return said
    person = people.find(said)
    if person is None or person.email is None:
        raise UsageError(
            f"[notices.{name}] to: {said} names no one with an e-mail",
            hint="[people.NAME] with `email` in helmr.toml says where a person gets mail.",
        )
    return person.email


def _said(error: ErrorDetails) -> str:
    if error["type"] == "tuple_type":
        return "it should be a list"  # the file knows no tuples
    return error["msg"].removeprefix("Value error, ")


def to_json(targets: tuple[Target, ...]) -> dict[str, Any]:
    """Serialize targets without secrets; another process reads them back with `read_targets`."""
    return {
        one.name: one.model_dump(mode="json", by_alias=True, exclude={"name"}, exclude_none=True)
        for one in targets
    }
