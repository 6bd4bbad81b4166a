"""A proxy has the methods of its port, and the actors behind it have them all."""

from __future__ import annotations

import inspect

import pytest

from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import Directory, Host
from helmr_runtime.ports.ledger import Ledger, LedgerClient
from helmr_runtime.rpc.calls import LEDGER, ledger_client_of, methods_of
from helmr_runtime.session.host import HostActor
from tests.rpc.local_calls import LocalCalls


@pytest.mark.parametrize(
    ("port", "parts"),
    [
        (Ledger, [DuckLedger, LedgerActor]),
        (LedgerClient, [DuckLedger, LedgerActor]),
        (Host, [HostActor]),
        (Directory, [DirectoryActor]),
    ],
    ids=["ledger", "ledger-client", "host", "directory"],
)
def test_an_actor_has_every_method_of_its_port_with_its_parameters(
    port: type, parts: list[type]
) -> None:
    methods = methods_of(port)
    assert methods
    for name in methods:
        asked = inspect.signature(getattr(port, name)).parameters
        part = next(part for part in parts if hasattr(part, name))
        given = inspect.signature(getattr(part, name)).parameters
        for parameter in asked.values():
            assert given[parameter.name].kind == parameter.kind, f"{name}({parameter.name})"


def test_the_ledger_hands_on_what_its_ports_have_and_nothing_else() -> None:
    for port in (Ledger, LedgerClient):
        assert methods_of(port) <= set(dir(LedgerActor))
    for hidden in ("read", "submit", "_commit"):
        with pytest.raises(AttributeError):
            getattr(LedgerActor, hidden)


def test_the_memory_ledger_answers_what_the_service_asks() -> None:
    ledger: type[LedgerClient] = MemoryLedger
    assert methods_of(LedgerClient) <= set(dir(ledger))


def test_the_service_can_commit_for_no_session() -> None:
    for method in ("commit", "load", "abandon"):
        assert method in methods_of(Ledger)
        assert method not in methods_of(LedgerClient)
        with pytest.raises(AttributeError, match=method):
            getattr(ledger_client_of(LocalCalls()), method)


async def test_a_method_of_the_port_is_a_call_to_the_actor() -> None:
    class Actor:
        async def brief(self, session_id: str) -> dict[str, str]:
            return {"task": session_id}

    calls = LocalCalls()
    calls.register(LEDGER, Actor())
    assert await ledger_client_of(calls).brief("ses_1") == {"task": "ses_1"}
    assert calls.counter["ledger", "brief"] == 1
