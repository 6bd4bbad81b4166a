"""A client with several addresses of one runtime: it speaks to the one that is at work, and to no others (S-99)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helmr.client import AsyncClient, Client, Retry, find_runtime, http
from helmr.client.calls import Tries
from helmr.client.endpoint import Addresses, Endpoint
from helmr.errors import LedgerSuperseded, Overloaded, SessionNotFound, Standby, UsageError
from tests.client.gateway import KEY, Fault, Gateway, running

STANDBY = b'{"title":"x","status":503,"detail":"stands by","code":"standby"}'
SUPERSEDED = b'{"title":"x","status":503,"detail":"superseded","code":"ledger_superseded"}'
QUICK = Retry(tries_max=6, total_s=10.0, pause_s=0.01, pause_max_s=0.05)

AWAY = [
    pytest.param(Fault("answer", 503, {"retry-after": "1"}, STANDBY), id="stands by"),
    pytest.param(Fault("answer", 503, {"retry-after": "1"}, SUPERSEDED), id="is superseded"),
    pytest.param(Fault("answer", 409, body=SUPERSEDED.replace(b"503", b"409")), id="as before 1.0"),
    pytest.param(Fault("drop"), id="reset before it was handled"),
    pytest.param(Fault("answer", 502, body=b"<html>Bad gateway"), id="a proxy's 502"),
]


@pytest.fixture
def other() -> Iterator[Gateway]:
    with running(Gateway()) as one:
        yield one


@pytest.mark.parametrize("fault", AWAY)
def test_what_one_address_does_not_take_goes_to_the_next_with_its_operation_id(
    gateway: Gateway, other: Gateway, fault: Fault
) -> None:
    session_id = other.session()
    path = f"/v1/sessions/{session_id}/inputs/approval"
    gateway.fault("POST", path, fault)
    with Client(url=[gateway.url, other.url], key=KEY, retry=QUICK) as client:
        client.sessions.open(session_id).input("approval").send({"decision": "approve"})
        assert client.endpoint.url == other.url
        client.sessions.open(session_id).get()
    (asked,), (repeated,) = gateway.requests("POST", path), other.requests("POST", path)
    assert asked.headers["operation-id"] == repeated.headers["operation-id"]
    assert asked.body == repeated.body
    assert not gateway.requests("GET", f"/v1/sessions/{session_id}")


async def test_the_async_client_does_the_same_and_starts_where_no_one_listens(
    other: Gateway,
) -> None:
    session_id = other.session()
    url = f"http://127.0.0.1:9,{other.url}"
    async with AsyncClient(url=url, key=KEY, retry=QUICK) as client:
        await client.sessions.open(session_id).get()
        assert client.endpoint.url == other.url
        assert client.endpoint.address == f"{other.url},http://127.0.0.1:9"


def test_a_refusal_is_the_runtimes_own_and_goes_nowhere_else(
    gateway: Gateway, other: Gateway
) -> None:
    with (
        Client(url=[gateway.url, other.url], key=KEY, retry=QUICK) as client,
        pytest.raises(SessionNotFound),
    ):
        client.sessions.open("ses_" + "0" * 26).get()
    assert not other.requests("GET", "/v1/sessions/ses_" + "0" * 26)


def test_a_client_with_one_address_comes_again_when_that_was_superseded(gateway: Gateway) -> None:
    """A load balancer may stand there, and send it to the other runtime."""
    session_id = gateway.session()
    path = f"/v1/sessions/{session_id}"
    gateway.fault("GET", path, Fault("answer", 503, {"retry-after": "0"}, SUPERSEDED))
    with Client(url=gateway.url, key=KEY, retry=QUICK) as client:
        client.sessions.open(session_id).get()
    assert len(gateway.requests("GET", path)) == 2
    gateway.fault("GET", path, Fault("answer", 503, {"retry-after": "0"}, SUPERSEDED))
    with (
        Client(url=gateway.url, key=KEY, retry=Retry(tries_max=1)) as client,
        pytest.raises(LedgerSuperseded),
    ):
        client.sessions.open(session_id).get()


def test_no_pause_before_the_next_address_and_one_after_each_round() -> None:
    now = 0.0
    tries = Tries(Retry(), addresses=2, clock=lambda: now)
    pauses = [tries.failed(Standby("x", retry_after_s=1.0)) for _ in range(4)]
    assert [pause > 0 for pause in pauses] == [False, True, False, True]
    assert tries.failed(Overloaded("x", retry_after_s=3.0)) == 3.0


def test_a_thread_that_was_late_does_not_turn_back() -> None:
    at = Addresses(Endpoint(url="http://a", key=None, found_by="url", others=("http://b",)))
    assert at.turn("http://a")
    assert at.turn("http://a")
    assert (at.url, at.others) == ("http://b", ("http://a",))
    assert not Addresses(Endpoint(url="http://a", key=None, found_by="url")).turn("http://a")


def test_one_that_was_silent_is_passed_over_while_another_says_that_it_stands_by() -> None:
    now = 100.0
    endpoint = Endpoint(url="http://a", key=None, found_by="url", others=("http://b", "http://c"))
    at = Addresses(endpoint, clock=lambda: now)
    at.turn("http://a", silent_s=5.0)
    at.turn("http://b")  # away: only one that answers is asked in place of a silent one
    assert at.url == "http://c"
    for asked, then in (("http://c", "http://b"), ("http://b", "http://c")):
        at.turn(asked, stands_by=True)
        assert at.url == then
    now = 105.0
    at.turn("http://c", stands_by=True)
    assert at.url == "http://a"
    two = Addresses(Endpoint(url="http://a", key=None, found_by="url", others=("http://b",)))
    two.turn("http://a", silent_s=5.0)
    two.turn("http://b", stands_by=True)
    assert two.url == "http://b"
    two.turn("http://b", silent_s=5.0)  # no one speaks
    assert two.url == "http://a"


def test_a_paused_primary_is_not_waited_for_while_the_other_takes_over(
    gateway: Gateway, other: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is paused takes connections and says nothing."""
    monkeypatch.setattr(http, "PAIR_READ_TIMEOUT_S", 0.5)
    session_id = other.session()
    path = f"/v1/sessions/{session_id}/inputs/approval"
    gateway.fault("POST", path, Fault("slow", pause_s=2.0))
    for _ in range(3):
        other.fault("POST", path, Fault("answer", 503, body=STANDBY))
    with Client(url=[gateway.url, other.url], key=KEY, retry=QUICK) as client:
        client.sessions.open(session_id).input("approval").send({"decision": "approve"})
    assert len(gateway.requests("POST", path)) == 1
    assert len(other.requests("POST", path)) == 4


def test_addresses_are_read_with_commas_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HELMR_URL": "http://a:1/, http://b:2,http://a:1", "HELMR_API_KEY": "k"}
    found = find_runtime(environ=environ)
    assert (found.url, found.others, found.key) == ("http://a:1", ("http://b:2",), "k")
    for wrong in (
        "http://a:1,ftp://b",
        "http://a:1,ray",
        ",".join(f"http://h:{n}" for n in range(1, 10)),
    ):
        with pytest.raises(UsageError):
            find_runtime(url=wrong, environ=environ)
