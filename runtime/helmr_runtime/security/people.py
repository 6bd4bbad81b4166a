"""People as `helmr.toml` names them: who there may be, in which groups, and how they prove who they are.

```toml
[people]
role = "operator"            # what people may do
domains = ["example.com"]    # verified e-mails that need no table of their own
issuer = "https://id.example.com"        # OpenID Connect, with `client_id`
client_id = "helmr"
groups_claim = "groups"
groups_from = "id_token"                 # or "userinfo", for an issuer that says them there alone
proxy_header = "X-Forwarded-Email"       # what a proxy in front says, from these addresses only
proxies = ["10.0.0.7/32"]

[people.ada]
email = "ada@example.com"
groups = ["finance"]
role = "admin"
```

A runtime without `[people]` knows none: then a name is what the holder of a key says.

Invariants: S-111 (one id per person, whatever they prove it with), S-114 (groups of the file are as new as the file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from helmr.errors import PersonNotFound, UsageError
from helmr.models import ASSIGNEE_MAX
from helmr.wait_details import WaitDetails
from helmr.wire.people import GROUP, PERSON, answered_by, group_key, person_key
from helmr.wire.roles import Role

PEOPLE_NAMED_MAX = 5_000
GROUPS_MAX = 200
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@]{1,190}")
_GROUP = re.compile(r"[^\s:,]([^:,]{0,126}[^\s:,])?")


def _email(text: str) -> str:
    found = proven_email(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is not an e-mail address of ASCII characters")
    return found


def proven_email(said: Any) -> str | None:
    """An e-mail that an issuer or a proxy says, in lower case; None for what is none.

    ASCII only: letters that fold into one another, as KELVIN SIGN into k, would make two mailboxes one person.
    """
    if not isinstance(said, str) or not said.isascii() or not said.isprintable():
        return None
    return said.lower() if _EMAIL.fullmatch(said) and len(said) <= ASSIGNEE_MAX else None


def _group(text: str) -> str:
    if not _GROUP.fullmatch(text) or not text.isprintable():
        raise ValueError(f"{text[:80]!r} can't be the name of a group")
    return text


def _domain(text: str) -> str:
    domain = text.lower().removeprefix("@")
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain):
        raise ValueError(f"{text[:80]!r} is not a domain")
    return domain


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ValueError("an issuer is an https URL")
    if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{text[:80]!r} is not the URL of an issuer")
    return text


def _header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", text):
        raise ValueError(f"{text[:80]!r} is not the name of a header")
    return text.lower()


def _network(text: str) -> str:
    return str(ip_network(text))


Email = Annotated[str, AfterValidator(_email)]
Group = Annotated[str, AfterValidator(_group)]


class NamedPerson(BaseModel):
    """A person, as `[people.NAME]` or their e-mail has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    email: Email | None = None
    groups: Annotated[tuple[Group, ...], Field(max_length=GROUPS_MAX)] = ()
    role: Role | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """By which they may be called."""
        return frozenset(name for name in (self.id, self.email) if name is not None)


class PeopleSettings(BaseModel):
    """Settings in `[people]` that apply to all people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role = Role.OPERATOR
    domains: tuple[Annotated[str, AfterValidator(_domain)], ...] = ()
    issuer: Annotated[str, AfterValidator(_issuer)] | None = None
    client_id: str | None = Field(default=None, min_length=1, max_length=255)
    scopes: tuple[str, ...] = ("openid", "email", "profile", "offline_access")
    groups_claim: str | None = Field(default=None, min_length=1, max_length=255)
    groups_from: Literal["id_token", "userinfo"] = "id_token"
    proxy_header: Annotated[str, AfterValidator(_header)] | None = None
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> PeopleSettings:
        if (self.issuer is None) != (self.client_id is None):
            raise ValueError("`issuer` and `client_id` go together")
        if self.issuer is not None and "openid" not in self.scopes:
            raise ValueError("`scopes` needs openid")
        if self.asks_userinfo and not self.claims_groups:
            raise ValueError("`groups_from` needs `issuer` and `groups_claim`")
        if (self.proxy_header is None) != (not self.proxies):
            raise ValueError("`proxy_header` and `proxies` go together")
        return self

    @property
    def claims_groups(self) -> bool:
        """People are in groups that their issuer alone knows."""
        return self.issuer is not None and self.groups_claim is not None

    @property
    def asks_userinfo(self) -> bool:
        """The issuer's userinfo says groups where an ID token says none of lately."""
        return self.groups_from == "userinfo"

    def is_proxy(self, address: str) -> bool:
        """True if the address is that of a proxy whose header names the person."""
        try:
            peer = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(peer in ip_network(one) for one in self.proxies)


class PeopleConfig:
    """The people that a runtime knows from its configuration.

    Args:
        named: People with a table of their own.
        settings: Settings for all; None: the runtime knows no people.
    """

    def __init__(
        self, named: Iterable[NamedPerson] = (), settings: PeopleSettings | None = None
    ) -> None:
        self.is_on = settings is not None
        self.settings = settings or PeopleSettings()
        self.named = {one.id: one for one in named}
        self._by_email = {one.email: one for one in self.named.values() if one.email is not None}

    def find(self, name: str) -> NamedPerson | None:
        """The person that a name means: an id, an e-mail, with `person:` before it or without."""
        name = name.strip().removeprefix(PERSON)
        return self.named.get(name) or self.with_email(name)

    def with_email(self, said: str) -> NamedPerson | None:
        """The person with this e-mail, and never one with this id: what a proof of an e-mail is worth (S-111)."""
        email = proven_email(said)
        if email is None:
            return None
        found = self._by_email.get(email)
        is_allowed = self.is_on and email.rpartition("@")[2] in self.settings.domains
        if found is not None or not is_allowed:
            return found
        return NamedPerson(id=email, email=email)

    def get(self, name: str) -> NamedPerson:
        """Find a person by name, as `find` does.

        Raises:
            PersonNotFound: The name matches no person.
        """
        found = self.find(name)
        if found is not None:
            return found
        raise PersonNotFound(
            f"there is no person {name[:80]!r}",
            hint=(
                "`helmr person list` shows who there is."
                if self.is_on
                else "This runtime knows no people: `[people.NAME]` in helmr.toml names them."
            ),
        )

    def canonical(self, name: str) -> str:
        """The id of the person that a name means; else the name as it is."""
        found = self.find(name)
        return found.id if found is not None else name

    def check_rule(self, said: WaitDetails) -> None:
        """Return if as many people as must agree may answer such a wait, as far as this says who there is.

        Groups that an issuer names are not known here; with them any number may.

        Raises:
            UsageError: A group is not known, or there are too few; one human is one, whatever names a list has.
        """
        if not self.is_on or not said.restriction:
            return
        if not self.settings.claims_groups:
            self._check_groups((*said.answerers, *said.not_by))
        may = self._known_of(said.answerers)
        if may is None:
            return
        excluded = self._known_of(said.not_by) if said.not_by else frozenset()
        may -= excluded if excluded is not None else frozenset()
        if len(may) >= said.approvals:
            return
        who = f": {', '.join(sorted(may))}" if may else ""
        need = (
            f"{said.approvals} people are to agree"
            if said.approvals > 1
            else "a person is to answer"
        )
        raise UsageError(
            f"{need} ({answered_by(said.answerers, said.not_by, said.approvals)}), and helmr.toml knows "
            f"{len(may) or 'no one'} who may{who}",
            hint="Name others, or have helmr.toml name them: [people.NAME] with `email` and `groups`.",
        )

    def _check_groups(self, names: Iterable[str]) -> None:
        known = {group_key(one) for person in self.named.values() for one in person.groups}
        for name in names:
            if name.startswith(GROUP) and name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise UsageError(
                    f"helmr.toml knows no {name}, and no issuer does",
                    hint=f"Groups of [people.NAME] are: {listed}.",
                )

    def _known_of(self, names: Iterable[str]) -> frozenset[str] | None:
        """The ids of the people that a list means; None if only an issuer knows them all, or it is empty."""
        names = tuple(names)
        if not names or (self.settings.claims_groups and any(map(_is_group, names))):
            return None
        ids = {person_key(name): one.id for one in self.named.values() for name in one.names}
        found = set()
        for name in names:
            if _is_group(name):
                found |= {
                    one.id for one in self.named.values() if name in map(group_key, one.groups)
                }
            elif name in ids:
                found.add(ids[name])
            elif (person := self.with_email(name)) is not None:
                found.add(person.id)
        return frozenset(found)

    def role_of(self, person: NamedPerson) -> Role:
        """Return a person's role; a key of theirs may narrow it."""
        return person.role or self.settings.role


NO_PEOPLE = PeopleConfig()


def read_people(table: Any, place: str) -> PeopleConfig:
    """The people of a `[people]` table; None for no table.

    Raises:
        UsageError: Says what of it can't be.
    """
    if table is None:
        return NO_PEOPLE
    if not isinstance(table, Mapping):
        raise UsageError(f"{place}: people is not a table", hint="People are [people.NAME].")
    said = {name: part for name, part in table.items() if not isinstance(part, Mapping)}
    people = {name: part for name, part in table.items() if isinstance(part, Mapping)}
    if len(people) > PEOPLE_NAMED_MAX:
        raise UsageError(f"{place}: [people] names at most {PEOPLE_NAMED_MAX}")
    settings = _read(PeopleSettings, said, f"{place}: [people]")
    named = []
    for name, part in people.items():
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{place}: {name[:80]!r} can't be a person's name",
                hint="Letters, digits, `_` and `-`, at most 64; an e-mail goes into `email`.",
            )
        named.append(_read(NamedPerson, {**part, "id": name}, f"{place}: [people.{name}]"))
    emails = [one.email for one in named if one.email is not None]
    for email in emails:
        if emails.count(email) > 1:
            raise UsageError(f"{place}: two people have the e-mail {email}")
    return PeopleConfig(named, settings)


def _is_group(name: str) -> bool:
    return name.startswith(GROUP)


M = TypeVar("M", bound=BaseModel)


def _read(model: type[M], parts: Mapping[str, Any], place: str) -> M:
    try:
        return model.model_validate(parts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{place} {path}: {said}", hint="docs/people.md says what it may hold."
        ) from error
