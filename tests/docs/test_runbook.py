"""The runbook has commands to copy, and a place for each alert and code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.docs import command_lines
from tests.docs.test_monitoring import RULES

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text("utf-8")


def test_there_are_commands_to_copy() -> None:
    assert len(list(command_lines.lines_of(RUNBOOK))) > 20


def test_each_alert_stands_where_it_leads() -> None:
    """Who was woken by it searches for its name."""
    rules = [
        rule for g in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in g["rules"]
    ]
    for rule in rules:
        assert f"`{rule['alert']}`" in RUNBOOK, rule["alert"]


def test_each_code_of_the_runbook_is_one() -> None:
    errors = (DOCS / "errors.md").read_text("utf-8")
    table = RUNBOOK.partition("### Answers are refused")[2].partition("###")[0]
    codes = {
        code
        for row in re.findall(r"^\| (\d{3} [^|]+)\|", table, flags=re.M)
        for code in re.findall(r"`([a-z_]+)`", row)
    }
    assert len(codes) > 8
    for code in codes:
        assert f"</a>`{code}` |" in errors, code


def test_the_first_table_leads_to_places_that_are_there() -> None:
    anchors = {
        re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-")
        for one in re.findall(r"^#+ (.+)$", RUNBOOK, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
