"""The authorization table: each row of the table of operations by each kind of credential, called for real.

`intended` says what a cell is by the row alone; `seen` is what a call got. A route that is added is in both without a
line here. `tests/http/test_rights.py` has each role of keys, and what public tokens reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr import features
from helmr.gate import tasks as gate_tasks
from helmr.models import NoFields
from helmr.wire import ids
from helmr.wire.operation import EVENTS, PATH_IDS, Operation
from helmr.wire.operations import SHOW_INBOX_WAIT, SIGN_OUT
from helmr.wire.roles import Need, Owner, Role, ScopeType, may
from helmr_runtime.catalog import Registry
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.http.issuer import CLIENT, Issuer, serving
from tests.http.test_access_tokens import key
from tests.http.test_gate import SECTIONS
from tests.http.test_links import linked
from tests.http.test_rights import JUNK, personal, things
from tests.http.test_sessions import code_of
from tests.http.test_sign_in_pages import Tab
from tests.service import tasks, vote_tasks
from tests.service.stack import NO_TLS, Stack

PROXY = "X-Forwarded-Email"
REGISTRY = Registry.of_modules([gate_tasks, tasks, vote_tasks])


class Cell(StrEnum):
    """What a call got."""

    OPEN = "+"
    """As far as the operation itself, whatever that says."""
    NO_ONE = "401"
    ROLE = "role_denied"
    SCOPE = "scope_denied"
    NOT_ALLOWED = "not_allowed"
    """The credential does not speak for whom it names, or the form is of no page that this browser was shown."""
    SIGN_IN = "sign in"
    """The page sends the browser to where people sign in."""
    PAGE = "page says no"
    UNKNOWN = "404"
    """As if there were nothing at that path."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """What a caller comes with.

    Attributes:
        role: What it may do; None if it is no one's.
        scope: Of a public token.
        is_page: A browser's, which opens pages; those of a proxy open both.
        is_key: It opens the API.
        person: Whose it is; of a service's key its name.
        says: It names someone for whom it does not speak: a service needs the role, and no person does.
    """

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    role: Role | None = None
    scope: ScopeType | None = None
    is_page: bool = False
    is_key: bool = True
    says: bool = False
    person: str = ""

    @property
    def is_person(self) -> bool:
        """And no service."""
        return self.person.endswith("-1")


def people(issuer: str) -> dict[str, Any]:
    roles = {
        f"{role.value}-{n}": {"role": role.value, "email": f"{role.value}-{n}@example.com"}
        for role in Role
        for n in (1, 2)
    }
    at_issuer = {"issuer": issuer, "client_id": CLIENT, "domains": ["example.com"]}
    by_proxy = {"proxy_header": PROXY, "proxies": ["127.0.0.1/32"]}
    gone = {"gone": {"role": "admin"}, "fin": {"groups": ["finance"], "role": "operator"}}
    return {**at_issuer, **by_proxy, **roles, **gone}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving(Issuer) as found:
        yield found


@pytest.fixture
async def stack(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Stack]:
    """A runtime that knows people in every way, with a gate."""
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    named = read_people(people(issuer.url), "helmr.toml")
    stack.service = stack.make_service(people=named, sections=SECTIONS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=100)
        stack.service.base_url = stack.url
        yield stack
    finally:
        await stack.stop()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def cookie(stack: Stack, secret: str) -> dict[str, str]:
    """Of a browser whose person has signed in with that key."""
    async with AsyncExitStack() as opened:
        tab = Tab(stack, opened)
        await tab.sign_in_with(secret)
        found = {one.name: one.value for one in tab.http.cookies.jar if "pending" not in one.name}
    [(name, value)] = found.items()
    return {"Cookie": f"{name}={value}"}


async def of_people(stack: Stack, issuer: Issuer, roles: tuple[Role, ...]) -> list[Credential]:
    """Each kind of credential that stands for a person or a service, of each of these roles."""
    found = [Credential(name="local", headers=bearer(stack.key), role=Role.ADMIN)]
    now_s = stack.service.now().timestamp()
    for role in roles:
        one = f"{role.value}-1"
        own, service = await personal(stack, one), await key(stack, role.value, role.value)
        email = f"{one}@example.com"
        token = issuer.token(now_s, sub=one, email=email)
        found += [
            Credential(
                name=f"{role} service", headers=bearer(service), role=role, person=role.value
            ),
            Credential(name=f"{role} personal", headers=bearer(own), role=role, person=one),
            Credential(name=f"{role} token", headers=bearer(token), role=role, person=one),
            Credential(
                name=f"{role} proxy", headers={PROXY: email}, role=role, is_page=True, person=one
            ),
            Credential(
                name=f"{role} cookie",
                headers=await cookie(stack, own),
                role=role,
                is_page=True,
                is_key=False,
                person=one,
            ),
        ]
        for name, secret in (("service", service), ("personal", own), ("token", token)):
            if (name, role) == ("service", Role.ADMIN):
                continue  # speaks for others
            said = {**bearer(secret), "On-Behalf-Of": "admin-2"}
            found.append(
                Credential(
                    name=f"{role} {name} says",
                    headers=said,
                    role=role,
                    says=True,
                    person=role.value if name == "service" else one,
                )
            )
    return found


async def of_no_one(stack: Stack, issuer: Issuer) -> list[Credential]:
    """What opens nothing, though it once did or does elsewhere."""
    revoked = await stack.http.post("/v1/api-keys", json={"role": "admin", "name": "revoked"})
    await stack.http.delete(f"/v1/api-keys/{revoked.json()['id']}")
    gone = await personal(stack, "gone")
    browser = await cookie(stack, gone)
    await stack.http.post("/v1/people/gone/disable", json={})
    wait = (await stack.started("refund", 1))["session"]["wait"]["id"]
    link = (await linked(stack, wait, "admin-1"))["url"].rpartition("/")[2]
    token = (await stack.http.post("/v1/tokens", json={"timeout": "1h"})).json()
    callback = token["callback_url"].rpartition("/")[2]
    now_s = stack.service.now().timestamp()
    own = await cookie(stack, await personal(stack, "admin-1"))
    name, _, secret = own["Cookie"].partition("=")
    middle = len(secret) // 2  # some bits of the last letter say nothing
    letter = "y" if secret[middle] == "x" else "x"
    made_up = f"{secret[:middle]}{letter}{secret[middle + 1 :]}"
    return [
        Credential(name="nothing"),
        Credential(name="unknown key", headers=bearer(make_secret(SecretKind.API_KEY))),
        Credential(name="revoked key", headers=bearer(revoked.json()["secret"])),
        Credential(name="disabled person's key", headers=bearer(gone)),
        Credential(name="disabled person's cookie", headers=browser),
        Credential(name="made-up cookie", headers={"Cookie": f"{name}={made_up}"}),
        Credential(name="cookie as a key", headers=bearer(secret)),
        Credential(name="link as a key", headers=bearer(link)),
        Credential(name="callback as a key", headers=bearer(callback)),
        Credential(
            name="expired token",
            headers=bearer(issuer.token(now_s - 9000, sub="a", email="admin-1@example.com")),
        ),
        Credential(
            name="another client's token",
            headers=bearer(issuer.token(now_s, aud="other", sub="a", email="admin-1@example.com")),
        ),
        Credential(name="name without a key", headers={"On-Behalf-Of": "admin-1"}),
        Credential(name="stranger at the proxy", headers={PROXY: "eve@example.org"}),
    ]


async def of_scopes(stack: Stack) -> list[Credential]:
    """Public tokens for things that no path of the table names."""
    secrets = (await things(stack)).secrets
    return [
        Credential(name=scope.value, headers=bearer(secret), scope=scope)
        for scope, secret in secrets.items()
    ]


def path(row: Operation[Any]) -> str:
    """Of the operation on what there is not."""
    others = {name: ids.new_id(kind) for name, kind in PATH_IDS.items()}
    return row.at(*(others.get(name, "none") for name in row.path_names))


def intended(row: Operation[Any], who: Credential) -> Cell:
    """What this credential gets there, of what there is not or no one else's."""
    if row.need is Need.NOTHING:
        is_browser = who.is_page and not who.is_key
        return Cell.NOT_ALLOWED if is_browser and row is SIGN_OUT else Cell.OPEN
    if row.need is Need.SECRET:
        return Cell.UNKNOWN
    if row.need is Need.PAGE:
        return of_page(row, who)
    if who.scope is not None:
        return Cell.OPEN if row.scope is who.scope else Cell.SCOPE
    if who.role is None or not who.is_key:
        return Cell.NO_ONE
    if not may(who.role, row.need) or (who.says and not who.is_person):
        return Cell.ROLE
    return Cell.NOT_ALLOWED if who.says else Cell.OPEN


def of_page(row: Operation[Any], who: Credential) -> Cell:
    """Pages are for browsers: no key opens one."""
    is_browser = who.is_page and who.role is not None
    if is_browser and may(who.role or Role.VIEWER, Need.ANSWER):
        return Cell.OPEN
    if row.reply is EVENTS:
        return Cell.NO_ONE
    return Cell.PAGE if is_browser else Cell.SIGN_IN


async def seen(http: httpx.AsyncClient, row: Operation[Any], who: Credential) -> Cell:
    """What a call gets that is malformed, if it can be, so that one that is let in changes nothing."""
    is_page = row.need is Need.PAGE or row.path.startswith("/sign-")
    async with http.stream(
        row.method,
        path(row),
        params=JUNK if row.query is not None else None,
        json=JUNK if row.body is not None else None,
        headers={**who.headers, **({"Accept": "text/html"} if is_page else {})},
    ) as response:
        if row.reply is not EVENTS or response.status_code != 200:
            await response.aread()
        return cell(row, response)


def cell(row: Operation[Any], response: httpx.Response) -> Cell:
    status = response.status_code
    assert status not in (429, 503), (row.route, response.text)
    if row.need is Need.PAGE and status == 303:
        assert response.headers["location"].startswith("/sign-in?next=")
        return Cell.SIGN_IN
    if row.need is Need.PAGE and status == 403:
        return Cell.PAGE
    if row.need is Need.SECRET and status == 404:
        return Cell.UNKNOWN
    if status == 401:
        return Cell.NO_ONE
    if status == 403 and response.headers["content-type"] == "application/problem+json":
        return Cell(code_of(response))
    return Cell.OPEN


async def differing(
    stack: Stack, credentials: Callable[[int], Sequence[Credential]]
) -> list[tuple[str, str, Cell, Cell]]:
    """Each cell that is not as intended: route, credential, what was intended and what was seen.

    Args:
        stack: What is called.
        credentials: Those that are tried at the row with this number.
    """
    wrong, counts = [], Counter[Cell]()
    async with httpx.AsyncClient(base_url=stack.url, timeout=20, verify=NO_TLS) as http:
        for number, row in enumerate(features.OPERATIONS):
            for who in credentials(number):
                wanted, found = intended(row, who), await seen(http, row, who)
                counts[found] += 1
                if wanted is not found:
                    wrong.append((row.route, who.name, wanted, found))
    assert counts.keys() == {*Cell}, "each kind of refusal is met"
    return wrong


async def test_no_credential_gets_further_than_the_table_of_operations_says(
    stack: Stack, issuer: Issuer
) -> None:
    operator = await of_people(stack, issuer, (Role.OPERATOR,))
    kinds = [*(one for one in operator if not one.says)]
    browser = await cookie(stack, await personal(stack, "viewer-1"))
    viewer = Credential(
        name="viewer cookie", headers=browser, role=Role.VIEWER, is_page=True, is_key=False
    )
    others = [
        *(one for one in operator if one.says),
        *await of_no_one(stack, issuer),
        *await of_scopes(stack),
    ]

    def at(number: int) -> Sequence[Credential]:
        turns = [others[(3 * number + turn) % len(others)] for turn in range(3)]
        return [*kinds, viewer, *turns]

    assert await differing(stack, at) == []


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_every_cell(stack: Stack, issuer: Issuer) -> None:
    every = [
        *await of_people(stack, issuer, tuple(Role)),
        *await of_no_one(stack, issuer),
        *await of_scopes(stack),
    ]
    assert await differing(stack, lambda _: every) == []


async def asked(stack: Stack, maker: Credential) -> str:
    """The session of a call that this credential asks about."""
    call = {"client": "test", "agent": maker.name, "tool": "Push", "input": {"to": ids.new_id("x")}}
    async with httpx.AsyncClient(base_url=stack.url, headers=maker.headers, verify=NO_TLS) as http:
        response = await http.post("/v1/gate/calls", json={**call, "hold_s": 0})
    assert response.status_code == 200, response.text
    return str(response.json()["session_id"])


async def test_a_call_is_its_askers_own_whatever_they_come_with(
    stack: Stack, issuer: Issuer
) -> None:
    rows = [
        row
        for row in features.OPERATIONS
        if row.owner is Owner.OWN and "session_id" in row.path_names
    ]
    assert len(rows) == 3
    askers = [
        one for one in await of_people(stack, issuer, (Role.ASKER,)) if one.is_key and not one.says
    ]
    other_key = await key(stack, "asker", "other")
    other_person = await personal(stack, "asker-2")
    strangers = [
        Credential(name="other key", headers=bearer(other_key), role=Role.ASKER, person="other"),
        Credential(
            name="other person", headers=bearer(other_person), role=Role.ASKER, person="asker-2"
        ),
    ]
    wrong = []
    async with httpx.AsyncClient(base_url=stack.url, timeout=20, verify=NO_TLS) as http:
        for maker in askers:
            session = await asked(stack, maker)
            for row in rows:
                body = None if row.body in (None, NoFields) else {"outcome": "failed"}
                for who in (*strangers, *askers):
                    is_own = who.role is Role.ADMIN or who.person == maker.person
                    at = row.at(session)
                    response = await http.request(row.method, at, json=body, headers=who.headers)
                    if (response.status_code == 200) is not is_own:
                        wrong.append((row.route, maker.name, who.name, response.text))
    assert wrong == []


async def test_a_page_has_a_wait_for_those_who_may_answer_it_and_is_404_for_others(
    stack: Stack, issuer: Issuer
) -> None:
    wait = (await stack.started("refund", 1))["session"]["wait"]["id"]
    own = await cookie(stack, await personal(stack, "fin"))
    others = [one for one in await of_people(stack, issuer, (Role.ADMIN,)) if one.is_page]
    rows = [row for row in features.OPERATIONS if row.path == SHOW_INBOX_WAIT.path]
    assert [row.method for row in rows] == ["GET", "POST"]
    async with httpx.AsyncClient(base_url=stack.url, timeout=20, verify=NO_TLS) as http:
        for row in rows:
            form = {"f/cents": "5"} if row.method == "POST" else None
            for who in others:
                response = await http.request(
                    row.method, row.at(wait), data=form, headers=who.headers
                )
                assert response.status_code == 404, (row.route, who.name)
            response = await http.request(row.method, row.at(wait), data=form, headers=own)
            assert response.status_code == (200 if form is None else 422), "a form of no page"
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
