"""`helmr experiment` prints what a function's experiment gives."""

from __future__ import annotations

import json

import pytest

FILE = "tests.cli.option_experiment"


def test_a_replay_is_summed_up(helmr) -> None:
    said = helmr("experiment", FILE)
    assert said.code == 0
    summary, others, agreement = (part.splitlines() for part in said.out.split("\n\n"))
    assert summary[0].split() == ["THEN", "NOW", "SESSIONS"]
    assert len(summary) == 4
    assert (
        len(others) == 3
    )  # two that no one had answered, which the rule sends to a step without a record
    assert agreement[1].split() == ["approval", "2", "2", "1", "50%"]
    assert "what the code prints" in said.err


def test_its_rows_are_there_for_programs(helmr) -> None:
    said = json.loads(helmr("experiment", FILE, "--json").out)
    assert (len(said["items"]), said["stopped"], said["spent"]) == (3, None, 0.0)
    rows = json.loads(helmr("experiment", FILE, "--rows", "questions", "--json").out)["items"]
    assert {row["proposed_by"] for row in rows} == {"rule"}
    table = helmr("experiment", FILE, "--rows", "steps").out.splitlines()
    assert table[0].split()[:5] == ["SESSION", "SESSION_ID", "RUN", "STEP", "NUMBER"]


def test_simulated_sessions_are_counted_by_setting(helmr) -> None:
    assert helmr("experiment", FILE, "swept").out.splitlines() == [
        "TIMEOUT  CAME TO         SESSIONS",
        "1h       succeeded true  2",
        "2h       succeeded true  2",
    ]
    rows = json.loads(helmr("experiment", FILE, "asked", "--rows", "waits", "--json").out)["items"]
    assert [row["operator"] for row in rows] == ["ana", "ana"]


def test_it_says_that_the_budget_stopped_it(helmr) -> None:
    said = helmr("experiment", FILE, "stopped")
    assert said.code == 0
    assert "The answers of models cost 0.25." in said.err
    assert "Stopped after 0 of 3 sessions" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((FILE, "nothing"), "has no function nothing"),
        ((FILE, "with_argument"), "takes arguments"),
        ((FILE, "frame"), "gives int, not the results of an experiment"),
        ((FILE, "asked", "--rows", "steps"), "these results have no steps"),
        (("no_such_module",), "no module named no_such_module"),
        ((FILE, "experiment", "--rows", "cells"), "cells"),
    ],
)
def test_what_it_can_not_call_is_refused(helmr, words: tuple[str, ...], told: str) -> None:
    said = helmr("experiment", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
