"""Corrections on the command line, over a real runtime: shown, asked, and done only then."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr import embedded
from helmr.client import Client
from tests.cli.conftest import Said
from tests.cli.test_terminal import SGR, screen

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

REJECT = '{"decision": "reject"}'


@pytest.fixture
def client(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Of a runtime that the commands find too."""
    with (
        embedded.start(
            "tests.contract.contract_tasks", in_process=True, data_dir=nowhere / "data"
        ) as one,
        one.client() as client,
    ):
        monkeypatch.setenv("HELMR_URL", one.url)
        monkeypatch.setenv("HELMR_API_KEY", one.key)
        yield client


def answered(client: Client) -> tuple[Any, Any]:
    """A session whose run has ended with the wrong answer, and the wait."""
    session = client.sessions.start_and_wait("contract-review", {"title": "News"}, timeout=20)
    wait = session.get().wait
    assert wait is not None
    client.waits.answer(wait.id, {"decision": "approve"})
    client.runs.wait(session.started_run.id, timeout=20)
    return session, wait


def test_an_amendment_is_shown_and_done_when_somebody_says_so(
    client: Client, helmr: Callable[..., Said]
) -> None:
    session, wait = answered(client)
    run_id = session.started_run.id
    words = ("wait", "amend", wait.id, "--data", REJECT, "--reason", "misread")
    nobody = helmr(*words)
    assert (nobody.code, "--yes" in nobody.err) == (2, True)
    assert helmr("wait", "amend", wait.id, "--data", REJECT, "--yes").code == 2  # no reason
    code, text = screen(*words, env=os.environ, types="n\n")
    assert code == 0
    shown = SGR.sub("", text)
    assert "Output records that stay" in shown
    assert f"{run_id} goes back to op 2" in shown
    assert client.runs.get(run_id).attempt == 1
    code, text = screen(*words, env=os.environ, types="y\n")
    assert code == 0, text
    run = client.runs.wait(run_id, timeout=20)
    assert (run.attempt, run.result) == (2, {"status": "reject"})


def test_scripts_look_with_preview_and_do_it_with_yes(
    client: Client, helmr: Callable[..., Said]
) -> None:
    session, wait = answered(client)
    run_id = session.started_run.id
    back = ("run", "rewind", run_id, "--to-wait", wait.id, "--ask-again")
    seen = json.loads(helmr(*back, "--preview", "--json").out)
    assert (seen["to_op"], [one["wait_id"] for one in seen["asked_again"]]) == (2, [wait.id])
    assert client.runs.get(run_id).attempt == 1
    done = json.loads(helmr(*back, "--reason", "look again", "--yes", "--json").out)
    assert done["attempt"] == 2
    client.runs.wait(run_id, timeout=20, until="stopped")
    asked = session.get().wait
    assert asked is not None
    forked = helmr(
        *("session", "fork", session.id, "--to-wait", asked.id, "--answer", REJECT),
        *("--reason", "what if", "--json"),
    )
    other = client.sessions.open(json.loads(forked.out)["id"])
    [run] = other.runs()
    assert run.id == json.loads(forked.out)["run_id"]
    assert client.runs.wait(run.id, timeout=20).result == {"status": "reject"}
    assert f"{session.id}, behind entry" in helmr("session", "get", other.id).out
    assert helmr("session", "fork", session.id, "--reason", "where?").code == 2
