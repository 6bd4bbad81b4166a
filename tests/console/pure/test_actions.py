"""One table of actions: no key twice in a place, every refusal in words, writing only where it is allowed."""

from __future__ import annotations

import re

import pytest

from helmr.models import BulkVerb, RunStatus, SessionStatus
from helmr_console.actions import (
    ACTIONS,
    Action,
    ActionContext,
    ActionScope,
    footer,
    in_scopes,
    key_table,
)

OWN = [action for action in ACTIONS if isinstance(action.scope, ActionScope)]
"""Without those of features, which have tests of their own."""

TOGETHER = [
    {
        ActionScope.ANYWHERE,
        ActionScope.LIST,
        ActionScope.AREA,
        ActionScope.MARKS,
        ActionScope.WAITS,
        ActionScope.ONE_WAIT,
    },
    {
        ActionScope.ANYWHERE,
        ActionScope.LIST,
        ActionScope.AREA,
        ActionScope.MARKS,
        ActionScope.SESSIONS,
    },
    {ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.SESSION, ActionScope.TRANSCRIPT},
    {ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.SESSION, ActionScope.RUNS},
    {ActionScope.ANYWHERE, ActionScope.FORM, ActionScope.BATCH},
    {ActionScope.ANYWHERE, ActionScope.FORM, ActionScope.ANSWER},
    {ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.ATTEMPTS},
]
UNREACHABLE = {f"ctrl+{letter}" for letter in "abhijmz"}
"""Chords of screen and tmux, of plain terminals, and of the shell."""
TEXT_AREA = {"f5", "f6", "f7", *(f"ctrl+{letter}" for letter in "adekuvwxyz")}


@pytest.mark.parametrize("scopes", TOGETHER, ids=lambda scopes: "-".join(sorted(scopes)))
def test_no_key_means_two_things_in_one_place(scopes: set[ActionScope]) -> None:
    keys = [key for action in in_scopes(scopes) for key in action.keys]
    assert sorted(keys) == sorted(set(keys))


def test_ids_are_unique_and_every_action_has_help() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert all(action.help.endswith(".") and action.label for action in ACTIONS)


def test_no_chord_that_a_plain_terminal_or_a_text_field_lacks() -> None:
    assert not {key for action in ACTIONS for key in action.keys} & UNREACHABLE
    forms = {
        key
        for action in in_scopes([ActionScope.FORM, ActionScope.BATCH, ActionScope.ANSWER])
        for key in action.keys
    }
    assert not forms & TEXT_AREA


@pytest.mark.parametrize("action", [a for a in OWN if a.writes], ids=lambda a: a.id)
def test_writing_is_refused_in_words(action: Action) -> None:
    fine = ActionContext(
        wait=True,
        call=True,
        row=True,
        marked=1,
        field=True,
        session_status=SessionStatus.OPEN,
        run_status=RunStatus.FAILED,
        bulk=frozenset(BulkVerb),
    )
    assert action.refusal(fine) == ""
    for context, word in (
        (ActionContext(read_only=True, wait=True), "read-only"),
        (ActionContext(live=False, link_text="STALE 14s"), "STALE 14s"),
    ):
        assert word in action.refusal(context)


def test_what_can_not_be_taken_back_is_marked_and_writes() -> None:
    assert {a.id for a in OWN if a.dangerous} == {
        "amend",
        "batch",
        "rewind",
        "session.cancel",
        "session.close",
        "run.retry",
        "sessions.retry",
        "sessions.cancel",
        "sessions.close",
        "sessions.prune",
    }
    assert all(a.writes for a in ACTIONS if a.dangerous)


def test_the_footer_greys_and_orders() -> None:
    shown = footer(
        [ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.WAITS],
        ActionContext(row=True, read_only=True),
    )
    assert [(a.id, on) for a, on in shown[:2]] == [("open", True), ("answer", False)]
    assert "batch" not in {a.id for a, _ in shown}


def test_the_key_table_names_every_action() -> None:
    table = key_table()
    assert all(action.label in table for action in ACTIONS)
    assert not re.search(r"question_mark|full_stop", table)
