"""Each row of the table of operations, each kind of credential, its own things and others': who may and who may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr import features
from helmr.models import NoFields
from helmr.wire import ids, operations
from helmr.wire.operation import PATH_IDS, Operation
from helmr.wire.roles import Owner, Role, ScopeType, may
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.test_access_tokens import bearing, echo, key
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

PEOPLE = read_people(
    {f"{role.value}-{number}": {"role": role.value} for role in Role for number in (1, 2)},
    "helmr.toml",
)
"""Two people of each role."""

GUARDED = [row for row in features.OPERATIONS if row.needs_key and not row.route.endswith("/mcp")]
JUNK = {"no such field": 1}
"""Refused once it is known who asks: what may be called changes nothing."""

INPUT, OUTPUT, TOKEN = (
    ScopeType.SESSION_INPUT_SEND,
    ScopeType.SESSION_OUTPUT_READ,
    ScopeType.TOKEN_COMPLETE,
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A ready runtime that knows people."""
    stack = Stack(tmp_path)
    stack.service = stack.make_service(people=PEOPLE)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@dataclass(frozen=True)
class Things:
    """A session and a token, and a public token of each scope for them."""

    session: str
    token: str
    secrets: dict[ScopeType, str]

    def path(self, row: Operation[Any]) -> str:
        """Of the operation on these things; what there is not has an id that fits."""
        stream = "echoes" if row.scope is OUTPUT else "words"
        known = {"session_id": self.session, "token_id": self.token, "stream": stream}
        others = {name: ids.new_id(kind) for name, kind in PATH_IDS.items()}
        return row.at(*({**others, **known}.get(name, "none") for name in row.path_names))


async def things(stack: Stack) -> Things:
    session = await echo(stack)
    token = (await stack.http.post("/v1/tokens", json={"timeout": "1h"})).json()["id"]
    scopes = {
        INPUT: {"session": session, "stream": "words"},
        OUTPUT: {"session": session, "stream": "echoes"},
        TOKEN: {"token": token},
    }
    secrets = {}
    for kind, parts in scopes.items():
        body = {"scope": {"type": kind.value, **parts}}
        made = await stack.http.post("/v1/public-tokens", json=body)
        assert made.status_code == 201, made.text
        secrets[kind] = made.json()["public_access_token"]
    return Things(session, token, secrets)


async def personal(stack: Stack, person: str) -> str:
    """The secret of a fresh key of that person."""
    made = await stack.http.post("/v1/api-keys", json={"person": person})
    assert made.status_code == 201, made.text
    return str(made.json()["secret"])


async def credentials(stack: Stack) -> list[tuple[Role, str]]:
    """For each role the key of a service and that of a person."""
    found = []
    for role in Role:
        found.append((role, await key(stack, role.value, role.value)))
        found.append((role, await personal(stack, f"{role.value}-1")))
    return found


def other_of(name: str) -> str:
    """Of two with the same role the other one."""
    role, number, *kind = name.split("-")
    return "-".join((role, str(3 - int(number)), *kind))


async def call(http: httpx.AsyncClient, row: Operation[Any], path: str) -> httpx.Response:
    """One that is refused as malformed where it is not refused before."""
    return await http.request(
        row.method,
        path,
        params=JUNK if row.query is not None else None,
        json=JUNK if row.body is not None else None,
    )


def is_refused(response: httpx.Response) -> bool:
    return response.status_code in (401, 403)


async def test_a_role_may_call_what_it_covers_and_no_other(stack: Stack) -> None:
    found = await things(stack)
    rows = [row for row in GUARDED if row.owner is Owner.ALL]
    wrong = []
    for role, secret in await credentials(stack):
        async with bearing(stack, secret) as http:
            for row in rows:
                if may(role, row.need) and row.query is None and row.body is None:
                    continue  # nothing in it is malformed: `test_what_is_read_and_ended`
                response = await call(http, row, found.path(row))
                if is_refused(response) is may(role, row.need):
                    wrong.append((role, row.name, response.status_code))
                if is_refused(response):
                    assert code_of(response) == "role_denied", (role, row.name)
    assert wrong == []


async def test_what_is_read_and_ended(stack: Stack) -> None:
    found = await things(stack)
    for role, secret in await credentials(stack):
        async with bearing(stack, secret) as http:
            for row in GUARDED:
                is_plain = row.query is None and row.body is None and row.owner is Owner.ALL
                if is_plain and may(role, row.need):
                    response = await http.request(row.method, found.path(row))
                    assert not is_refused(response), (role, row.name, response.text)


async def test_what_reaches_the_callers_own_reaches_no_others_but_for_an_admin(
    stack: Stack,
) -> None:
    # A feature tries rows of its own: gated calls, tests/http/test_gate.py.
    rows = [row for row in GUARDED if row.owner is Owner.OWN and row in operations.OPERATIONS]
    assert {row.path_names for row in rows} == {("public_token_id",)}
    found = await things(stack)
    scope = {"type": TOKEN.value, "token": found.token}
    keys = {
        f"{role.value}-{number}": await key(stack, role.value, f"{role.value}-{number}")
        for role in Role
        for number in (1, 2)
    }
    keys |= {
        f"{role.value}-{number}-person": await personal(stack, f"{role.value}-{number}")
        for role in Role
        for number in (1, 2)
    }
    for row in rows:
        for name, secret in keys.items():
            role = Role(name.partition("-")[0])
            maker = secret if may(role, row.need) else stack.key
            async with bearing(stack, maker) as http:
                made = [
                    (await http.post("/v1/public-tokens", json={"scope": scope})).json()["id"]
                    for _ in range(2)
                ]
            async with bearing(stack, keys[other_of(name)]) as http:
                response = await http.request(row.method, row.at(made[0]))
                assert is_refused(response) is (role is not Role.ADMIN), (name, response.text)
            async with bearing(stack, secret) as http:
                response = await http.request(row.method, row.at(made[1]))
                assert is_refused(response) is not may(role, row.need), (name, response.text)


async def test_a_public_token_reaches_the_one_thing_that_it_was_made_for(stack: Stack) -> None:
    found, others = await things(stack), await things(stack)
    for kind, secret in found.secrets.items():
        async with bearing(stack, secret) as http:
            for row in GUARDED:
                if row.scope is not kind:
                    response = await call(http, row, found.path(row))
                    assert (response.status_code, code_of(response)) == (403, "scope_denied"), row
                    continue
                body = None if row.body in (None, NoFields) else {"data": "once"}
                refused = await http.request(row.method, others.path(row), json=body)
                assert (refused.status_code, code_of(refused)) == (403, "scope_denied"), row
                response = await http.request(row.method, found.path(row), json=body)
                assert response.status_code == 200, (row, response.text)
