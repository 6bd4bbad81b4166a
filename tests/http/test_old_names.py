"""Requests and command lines in names of before are taken, and answered in today's."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from helmr import features
from helmr.cli.main import app
from helmr.errors import all_codes
from helmr.wire.old_names import (
    COMMANDS,
    ERROR_CODES,
    OPTIONS,
    PATH_ENDS,
    REQUEST_FIELDS,
    arguments_of_today,
    renamed,
    request_of_today,
)
from tests.service.stack import Stack


async def test_a_token_with_a_ladder_is_taken(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [{"do": "remind", "after_s": 60}]
    response = await stack.http.post("/v1/tokens", json={"ladder": steps})
    assert response.status_code == 201, response.text
    assert response.headers["deprecation"].startswith("@")
    again = await stack.http.post("/v1/tokens", json={"ladder": steps})
    assert again.status_code == 201
    said = [one.getMessage() for one in caplog.records if "deprecated" in one.getMessage()]
    assert said == ["POST /v1/tokens: a client uses deprecated names, which will go"]
    started = await stack.started("by-token", response.json()["id"])
    wait = (await stack.http.get(f"/v1/waits/{started['session']['wait']['id']}")).json()
    assert [one["do"] for one in wait["escalation"]] == ["remind"]
    assert "ladder" not in wait


async def test_a_rehearsal_is_a_dry_run(stack: Stack) -> None:
    token = (await stack.http.post("/v1/tokens", json={})).json()
    started = await stack.started("by-token", token["id"])
    wait_id = started["session"]["wait"]["id"]
    answers = [
        await stack.http.post(f"/v1/waits/{wait_id}/{end}", json={"data": 1})
        for end in ("rehearse", "dry-run")
    ]
    assert [one.status_code for one in answers] == [200, 200], [one.text for one in answers]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["deprecation"] == "@1795910400"
    assert "deprecation" not in answers[1].headers


RENAMED = [("rehearse", "dry-run"), ("--hold", "--undo-for")]


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("wait rehearse last a=b", "wait dry-run last a=b"),
        ("next --hold 5s", "next --undo-for 5s"),
        ("next --hold=5s", "next --undo-for=5s"),
        ("session start t -- --hold", "session start t -- --hold"),
        ("input send s rehearse", "input send s rehearse"),
    ],
)
def test_a_command_line_is_read(line: str, now: str) -> None:
    assert arguments_of_today(line.split()) == now.split()
    told = renamed(line.split(), now.split())
    assert told == [(old, new) for old, new in RENAMED if old in line and line != now]


def test_a_field_that_a_model_has_is_not_renamed() -> None:
    assert request_of_today({"ladder": 1}, {"ladder", "escalation"}) == {"ladder": 1}
    assert request_of_today({"ladder": 1}, {"other"}) == {"ladder": 1}
    assert request_of_today([{"ladder": 1}], {"escalation"}) == [{"ladder": 1}]


def test_every_name_of_today_exists() -> None:
    root: Any = typer.main.get_command(app)
    commands = {
        (group, name): command
        for group, part in root.commands.items()
        for name, command in getattr(part, "commands", {"": part}).items()
    }
    for (group, _), name in COMMANDS.items():
        assert (group, name) in commands
    options = {
        option for command in commands.values() for one in command.params for option in one.opts
    }
    assert set(OPTIONS.values()) <= options
    fields = {
        field
        for one in features.OPERATIONS
        for model in (one.body, one.query)
        if model is not None
        for field in model.model_fields
    }
    assert set(REQUEST_FIELDS.values()) <= fields
    for end in PATH_ENDS.values():
        assert any(one.path.endswith(end) for one in features.OPERATIONS)
    assert set(ERROR_CODES.values()) <= all_codes().keys()
