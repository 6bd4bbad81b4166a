"""What the client tries again, how, and what it leaves alone (S-61)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from helmr.client import AsyncClient, Client, Retry, find_runtime
from helmr.client.blocking import finish
from helmr.client.calls import Tries, call
from helmr.client.http import HttpTransport
from helmr.errors import (
    GroupsUnknown,
    OutcomeUnknown,
    RuntimeNotFound,
    SchemaMismatch,
    SessionNotFound,
    StoreUnavailable,
    Unavailable,
    WaitResolved,
)
from helmr.wire.operations import GET_SESSION
from tests.client.gateway import KEY, Fault, Gateway, running

BUSY = b'{"title":"x","status":503,"detail":"the ledger is away","code":"store_unavailable"}'
UNKNOWN = b'{"title":"x","status":503,"detail":"not answered","code":"outcome_unknown"}'
GROUPS = b'{"title":"x","status":503,"detail":"not known","code":"groups_unknown"}'
MANY = b'{"title":"x","status":429,"detail":"too many","code":"overloaded"}'

FAULTS = [
    pytest.param(Fault("drop"), id="reset before it was handled"),
    pytest.param(Fault("drop_after"), id="reset after it was handled"),
    pytest.param(Fault("cut"), id="answer cut off"),
    pytest.param(Fault("answer", 200, body=b"<html>"), id="answer is not JSON"),
    pytest.param(Fault("answer", 200, body=b'{"seq":"x"}'), id="answer of another shape"),
    pytest.param(Fault("answer", 503, body=BUSY), id="store unavailable"),
    pytest.param(Fault("answer", 503, {"retry-after": "0"}, UNKNOWN), id="outcome unknown"),
    pytest.param(Fault("answer", 429, {"retry-after": "0"}, MANY), id="overloaded"),
    pytest.param(Fault("answer", 502, body=b"<html>Bad gateway"), id="a proxy's 502"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_send_goes_through_once_with_one_operation_id(
    gateway: Gateway, client: Client, fault: Fault
) -> None:
    session = client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}/inputs/approval"
    gateway.fault("POST", path, fault)

    receipt = session.input("approval").send({"decision": "approve"})

    assert receipt.seq == 1
    assert [one["data"] for one in gateway.records[session.id, "approval"]] == [
        {"decision": "approve"}
    ]
    first, second = gateway.requests("POST", path)
    assert first.headers["operation-id"] == second.headers["operation-id"]
    assert first.body == second.body


def test_what_only_a_sign_in_helps_is_told_at_once(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}/inputs/approval"
    gateway.fault("POST", path, Fault("answer", 503, body=GROUPS))

    with pytest.raises(GroupsUnknown):
        session.input("approval").send({"decision": "approve"})

    assert len(gateway.requests("POST", path)) == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_async_client_does_the_same(
    gateway: Gateway, async_client: AsyncClient, fault: Fault
) -> None:
    session = async_client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}/inputs/approval"
    gateway.fault("POST", path, fault)

    receipt = await session.input("approval").send(1)

    assert receipt.seq == 1
    assert len(gateway.records[session.id, "approval"]) == 1
    operations = [one.headers["operation-id"] for one in gateway.requests("POST", path)]
    assert len(operations) == 2
    assert len(set(operations)) == 1


def test_two_calls_have_two_operation_ids(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    session.input("approval").send(1)
    session.input("approval").send(1)
    path = f"/v1/sessions/{session.id}/inputs/approval"
    operations = {one.headers["operation-id"] for one in gateway.requests("POST", path)}
    assert len(operations) == 2


def test_an_operation_id_of_the_caller_is_sent(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    session.close(operation_id="op_01h455vb4pex5vsknk084sn02q")
    [request] = gateway.requests("POST", f"/v1/sessions/{session.id}/close")
    assert request.headers["operation-id"] == "op_01h455vb4pex5vsknk084sn02q"


def test_tries_are_bounded(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}"
    gateway.fault("GET", path, *[Fault("answer", 503, body=BUSY) for _ in range(9)])
    with pytest.raises(StoreUnavailable, match="the ledger is away"):
        session.get()
    assert len(gateway.requests("GET", path)) == 4


def test_time_bounds_the_tries_of_a_call_and_not_their_number() -> None:
    now = 0.0
    tries = Tries(Retry(), clock=lambda: now)
    error = RuntimeNotFound("away", connecting=True)
    failed = 0
    while now < 57:
        now += tries.failed(error)
        failed += 1
    assert failed > 12
    now = 60
    with pytest.raises(RuntimeNotFound):
        tries.failed(error)


def test_what_answers_as_something_else_is_not_asked_again() -> None:
    tries = Tries(Retry())
    error = RuntimeNotFound("https://example.com does not answer as a Helmr runtime")
    assert error.retryable
    with pytest.raises(RuntimeNotFound):
        tries.failed(error)


def test_a_mutation_that_never_got_an_answer_says_that_its_outcome_is_unknown(
    gateway: Gateway, client: Client
) -> None:
    session = client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}/cancel"
    gateway.fault("POST", path, *[Fault("drop") for _ in range(9)])
    with pytest.raises(OutcomeUnknown):
        session.cancel()


def test_a_read_that_never_got_an_answer_is_unavailable(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    gateway.fault("GET", f"/v1/sessions/{session.id}", *[Fault("drop") for _ in range(9)])
    with pytest.raises(Unavailable) as caught:
        session.get()
    assert type(caught.value) is Unavailable


def test_a_retry_after_that_is_too_long_ends_the_call_at_once(
    gateway: Gateway, client: Client
) -> None:
    session = client.sessions.open(gateway.session())
    path = f"/v1/sessions/{session.id}"
    gateway.fault("GET", path, Fault("answer", 503, {"retry-after": "60"}, BUSY))
    with pytest.raises(StoreUnavailable) as caught:
        session.get()
    assert caught.value.retry_after_s == 60
    assert len(gateway.requests("GET", path)) == 1


def test_a_retry_after_is_kept_to(gateway: Gateway, client: Client, monkeypatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("helmr.client.http.time.sleep", pauses.append)
    session = client.sessions.open(gateway.session())
    gateway.fault(
        "GET", f"/v1/sessions/{session.id}", Fault("answer", 503, {"retry-after": "3"}, BUSY)
    )
    session.get()
    assert pauses == [3.0]


def test_what_the_caller_got_wrong_is_not_tried_again(gateway: Gateway, client: Client) -> None:
    session = client.sessions.open(gateway.session())
    with pytest.raises(SchemaMismatch) as caught:
        session.input("approval").send("bad")
    assert caught.value.errors == [
        {"path": "decision", "message": "Input should be 'approve' or 'reject'"}
    ]
    assert len(gateway.requests("POST", f"/v1/sessions/{session.id}/inputs/approval")) == 1


def test_not_found_is_not_tried_again(gateway: Gateway, client: Client) -> None:
    missing = "ses_01h455vb4pex5vsknk084sn02q"
    with pytest.raises(SessionNotFound, match=missing) as caught:
        client.sessions.open(missing).get()
    assert caught.value.hint == "List them."
    assert len(gateway.requests("GET", f"/v1/sessions/{missing}")) == 1


def test_facts_of_a_problem_come_along_also_when_they_are_named_like_arguments(
    gateway: Gateway, client: Client
) -> None:
    wait = gateway.wait(gateway.session(), status="fulfilled")
    with pytest.raises(WaitResolved) as caught:
        client.waits.answer(wait["id"], True)
    assert caught.value.facts["resolved_by"] == {"type": "api_key", "name": "alice"}


def test_a_runtime_that_refuses_connections_is_not_found(gateway: Gateway) -> None:
    with running(Gateway()) as other:
        url = other.url
    quick = Retry(tries_max=3, pause_s=0.01)
    with (
        Client(url=url, key=KEY, retry=quick) as client,
        pytest.raises(RuntimeNotFound, match=url),
    ):
        client.health()


def test_a_runtime_that_restarts_is_found_again(monkeypatch) -> None:
    memory = Gateway()
    with running(memory):
        port = int(memory.url.rpartition(":")[2])
    session_id = memory.session()
    with ExitStack() as later:
        tries = Tries.failed

        count = 0

        def restarts(self: Tries, *args: Any, **kwargs: Any) -> float:
            nonlocal count
            if not memory.seen and count == 1:
                later.enter_context(running(memory, port=port))
            count += 1
            return tries(self, *args, **kwargs)

        monkeypatch.setattr(Tries, "failed", restarts)
        with Client(url=memory.url, key=KEY) as client:
            assert client.sessions.open(session_id).get().id == session_id
        assert count >= 2


def test_silence_ends_a_try(gateway: Gateway) -> None:
    session_id = gateway.session()
    transport = HttpTransport(
        find_runtime(url=gateway.url, key=KEY), retry=Retry(tries_max=2, pause_s=0.01)
    )
    path = f"/v1/sessions/{session_id}"
    gateway.fault("GET", path, *[Fault("slow", pause_s=0.5) for _ in range(2)])
    asked = replace(call(GET_SESSION, session_id), read_timeout_s=0.05)
    with pytest.raises(Unavailable, match="ReadTimeout"):
        finish(transport.call(asked))
    finish(transport.close())
    assert len(gateway.requests("GET", path)) == 2
