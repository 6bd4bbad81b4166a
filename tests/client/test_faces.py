"""Client and AsyncClient are the same operations, blocking and awaited."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

import helmr.client
from helmr.client import AsyncClient, Client, aio, sync
from helmr.client.blocking import BlockingPart
from helmr.errors import BadId, SchemaMismatch, SessionNotFound, Unauthenticated, UsageError
from helmr.features import client_parts
from tests.client.gateway import KEY, Gateway

PAIRS = [
    (one, getattr(sync, f"Async{name}", None) or getattr(aio, f"Async{name}"))
    for name, one in sorted(vars(sync).items())
    if inspect.isclass(one) and issubclass(one, BlockingPart) and one is not BlockingPart
]
BLOCKING_KINDS = {AsyncIterator: Iterator, AsyncGenerator: Generator}


def test_every_class_has_its_counterpart() -> None:
    assert len(PAIRS) == 17 + len([*client_parts()])


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS, ids=[one.__name__ for one, _ in PAIRS])
def test_both_have_the_same_methods_and_signatures(blocking: type, awaited: type) -> None:
    attributes = {name for name in dir(blocking) if isinstance(getattr(blocking, name), property)}
    assert set(_public(blocking)) - attributes == set(_public(awaited)) - attributes
    for name in set(_public(blocking)) - attributes:
        one, other = getattr(blocking, name), getattr(awaited, name)
        assert not inspect.iscoroutinefunction(one)
        assert _parameters(one) == _parameters(other), name
        assert one.__name__ == name
        assert one.__qualname__ == f"{_home(blocking, name).__name__}.{name}"
        returned = inspect.signature(one).return_annotation
        kind = getattr(get_type_hints(other)["return"], "__origin__", None)
        if kind in BLOCKING_KINDS:
            assert returned.startswith(f"{BLOCKING_KINDS[kind].__name__}[")
            assert not inspect.iscoroutinefunction(other)
        elif name not in ("open", "input", "output"):
            assert inspect.iscoroutinefunction(other), name
            assert "Async" not in returned


def _home(cls: type, name: str) -> type:
    return next(one for one in cls.__mro__ if name in vars(one))


@pytest.mark.parametrize(
    "one", [cls for pair in PAIRS for cls in pair], ids=lambda one: one.__name__
)
def test_whatever_is_public_says_what_it_does(one: type) -> None:
    assert one.__doc__
    for name in _public(one):
        assert getattr(one, name).__doc__, name


def test_arguments_after_the_first_are_by_keyword() -> None:
    for blocking, _ in PAIRS:
        for name in _public(blocking):
            method = getattr(blocking, name)
            if isinstance(method, property):
                continue
            by_place = [
                one.name
                for one in inspect.signature(method).parameters.values()
                if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"
            ]
            assert len(by_place) <= (2 if by_place[1:] in (["data"], ["payload"]) else 1), name


def test_exports_are_what_is_there() -> None:
    assert helmr.client.__all__ == sorted(helmr.client.__all__)
    assert all(hasattr(helmr.client, name) for name in helmr.client.__all__)


class Decision(BaseModel):
    decision: str
    note: str | None = None


def test_every_operation_meets_its_route(gateway: Gateway, client: Client) -> None:
    started = client.sessions.start(
        "review", {"n": 1}, external_id="x", tags=["a"], metadata={"b": 2}
    )
    assert started.created
    assert started.session.external_id == "x"
    session = client.sessions.find("x")
    assert session.id == started.id
    assert session.get().task == "review"
    assert [one.id for one in client.sessions.list(task="review")] == [session.id]
    assert session.input("approval").send(Decision(decision="approve")).seq == 1
    assert [one.data for one in session.input("approval").list()] == [
        {"decision": "approve", "note": None}
    ]
    gateway.record(session.id, "progress", "half")
    assert [one.data for one in session.output("progress").read()] == ["half"]
    gateway.entry(session.id, "session.created")
    assert [one.kind for one in session.transcript()] == ["session.created"]
    assert session.note("seen").seq == 2
    assert session.run({"n": 2}).payload == {"n": 2}
    assert len(list(session.runs())) == 2
    run = started.started_run
    assert client.runs.get(run.id) == run
    assert len(list(client.runs.list(status="running"))) == 2
    assert client.runs.cancel(run.id).status == "cancelled"
    wait = gateway.wait(session.id, schema={"type": "boolean"}, body="Look")
    [listed] = client.waits.list(kind=["input", "timer"])
    assert listed.body is None
    assert client.waits.get(wait["id"]).json_schema == {"type": "boolean"}
    assert client.waits.answer(wait["id"], True).wait_id == wait["id"]
    assert [one.id for one in client.tasks.list()] == ["review"]
    assert [one.name for one in client.streams.list()] == ["approval"]
    assert client.health().ready
    assert session.close().status == "closed"
    assert session.cancel().status == "cancelled"
    queries = {one.query for one in gateway.seen if one.path == "/v1/waits"}
    assert queries == {"kind=input&kind=timer"}


async def test_every_operation_meets_its_route_awaited(
    gateway: Gateway, async_client: AsyncClient
) -> None:
    client = async_client
    started = await client.sessions.start("review", {"n": 1}, external_id="x")
    session = await client.sessions.find("x")
    assert session.id == started.id
    assert (await session.get()).task == "review"
    assert [one.id async for one in client.sessions.list()] == [session.id]
    assert (await session.input("approval").send(1)).seq == 1
    assert [one.data async for one in session.input("approval").list()] == [1]
    assert [one.data async for one in session.output("approval").read()] == [1]
    assert (await session.note("seen")).seq == 1
    assert len([one async for one in session.transcript()]) == 1
    assert (await session.run(None)).payload is None
    assert len([one async for one in session.runs()]) == 2
    run = started.started_run
    assert await client.runs.get(run.id) == run
    assert len([one async for one in client.runs.list()]) == 2
    assert (await client.runs.cancel(run.id)).status == "cancelled"
    wait = gateway.wait(session.id)
    assert [one.id async for one in client.waits.list()] == [wait["id"]]
    assert (await client.waits.get(wait["id"])).id == wait["id"]
    assert (await client.waits.answer(wait["id"], True)).wait_id == wait["id"]
    assert [one.id async for one in client.tasks.list()] == ["review"]
    assert [one.name async for one in client.streams.list()] == ["approval"]
    assert (await client.health()).ready
    assert (await session.close()).status == "closed"
    assert (await session.cancel()).status == "cancelled"


def test_the_next_run_without_a_payload_says_nothing_of_one(
    gateway: Gateway, client: Client
) -> None:
    session = client.sessions.open(gateway.session())
    session.run()
    session.run(None)
    bodies = [one.body for one in gateway.requests("POST", f"/v1/sessions/{session.id}/runs")]
    assert [json.loads(body) for body in bodies] == [{}, {"payload": None}]


def test_a_list_goes_on_over_pages(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    for _ in range(7):
        gateway.entry(session_id, "note.added")
    entries = list(client.sessions.open(session_id).transcript(limit=3))
    assert [one.seq for one in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert len(gateway.requests("GET", f"/v1/sessions/{session_id}/transcript")) == 3


def test_find_prefers_the_open_session(gateway: Gateway, client: Client) -> None:
    gateway.session(external_id="x", status="closed", created_at="2026-11-25T00:00:00Z")
    is_open = gateway.session(external_id="x")
    assert client.sessions.find("x").id == is_open
    gateway.sessions[is_open]["status"] = "cancelled"
    assert client.sessions.find("x").id != is_open
    with pytest.raises(SessionNotFound, match="'y'"):
        client.sessions.find("y")


def test_a_runtime_that_is_not_ready_says_why_and_that_is_no_error(
    gateway: Gateway, client: Client
) -> None:
    gateway.health |= {"ready": False, "reasons": ["the disk is full"]}
    health = client.health()
    assert not health.ready
    assert health.reasons == ["the disk is full"]


def test_a_wrong_key_is_told(gateway: Gateway) -> None:
    with Client(url=gateway.url, key="wrong") as client, pytest.raises(Unauthenticated):
        client.sessions.page()


def test_who_acts_for_whom_is_sent_in_ascii(gateway: Gateway) -> None:
    with Client(url=gateway.url, key=KEY, on_behalf_of="Zoë 100%") as client:
        client.health()
    assert gateway.seen[-1].headers["on-behalf-of"] == "Zo%C3%AB 100%25"


@pytest.mark.parametrize("key", ["two words", "umläut", "new\nline", "escape\x1b"])
def test_a_key_that_is_none_is_refused_before_it_is_sent(key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        Client(url="http://127.0.0.1:1", key=key)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object(), {1: object()}])
def test_data_without_a_json_form_is_refused_before_it_is_sent(
    gateway: Gateway, client: Client, value: Any
) -> None:
    with pytest.raises(SchemaMismatch):
        client.sessions.open(gateway.session()).input("approval").send(value)
    assert gateway.seen == []


@pytest.mark.parametrize("value", [2**70, 1.0, "é\u2028", [None, True], {"a": {"b": []}}])
def test_data_arrives_exactly(gateway: Gateway, client: Client, value: Any) -> None:
    session = client.sessions.open(gateway.session())
    session.input("approval").send(value)
    [record] = session.input("approval").list()
    assert repr(record.data) == repr(value)


@pytest.mark.parametrize("wrong", ["", "x", "run_01h455vb4pex5vsknk084sn02q", "../../readyz"])
def test_an_id_that_is_none_is_refused_before_it_is_sent(client: Client, wrong: str) -> None:
    with pytest.raises(BadId):
        client.sessions.open(wrong)


def test_stream_names_cannot_leave_their_segment(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    with pytest.raises(UsageError):
        session.input("..").send(1)
    with pytest.raises(UsageError):
        next(session.input("").list())


def test_a_public_token_is_sent_instead_of_the_key(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    session.input("approval").send(1, public_access_token="hlmr_pat_x")
    assert gateway.seen[-1].headers["authorization"] == "Bearer hlmr_pat_x"


def test_a_closed_client_says_so(gateway: Gateway) -> None:
    client = Client(url=gateway.url, key=KEY)
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.health()


def test_connections_are_used_again(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    for _ in range(5):
        client.sessions.open(session_id).get()
    ports = {one.headers.get("x-port") for one in gateway.seen}
    assert len(ports) == 1


def _public(one: type) -> list[str]:
    return sorted(name for name in dir(one) if not name.startswith("_"))


def _parameters(method: Any) -> list[tuple[str, Any, Any, Any]]:
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in inspect.signature(method).parameters.values()
    ]
