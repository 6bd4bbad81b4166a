"""What `http/connections.py` overrides and reads of uvicorn's protocol, which documents none of it."""

from __future__ import annotations

import inspect

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from helmr_runtime.http.connections import BoundedProtocol

OVERRIDDEN = {
    "connection_lost": ["exc"],
    "connection_made": ["transport"],
    "data_received": ["data"],
    "on_body": ["body"],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_message_begin": [],
    "on_message_complete": [],
    "on_response_complete": [],
    "on_url": ["url"],
    "pause_writing": [],
    "resume_writing": [],
    "send_400_response": ["msg"],
    "shutdown": [],
}
READ = {
    "client",
    "cycle",
    "headers",
    "loop",
    "parser",
    "server_state",
    "timeout_keep_alive_task",
    "transport",
}
READ_OF_A_CYCLE = {
    "disconnected",
    "keep_alive",
    "message_event",
    "response_complete",
    "response_started",
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_is_overridden_is_still_called_so(name: str) -> None:
    theirs = inspect.signature(getattr(HttpToolsProtocol, name))
    assert list(theirs.parameters)[1:] == OVERRIDDEN[name]


def test_nothing_else_is_overridden() -> None:
    ours = {name for name in vars(BoundedProtocol) if not name.startswith("__")}
    assert ours & set(vars(HttpToolsProtocol)) == set(OVERRIDDEN)


@pytest.mark.parametrize(
    ("cls", "names"), [(HttpToolsProtocol, READ), (RequestResponseCycle, READ_OF_A_CYCLE)]
)
def test_what_is_read_is_still_set_when_one_is_made(cls: type, names: set[str]) -> None:
    made = inspect.getsource(vars(cls)["__init__"])
    assert [name for name in sorted(names) if f"self.{name}" not in made] == []


def test_an_idle_connections_timer_is_a_handle_that_can_be_cancelled() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert "self.timeout_keep_alive_task = self.loop.call_later(" in source
