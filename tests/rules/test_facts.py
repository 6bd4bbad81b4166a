"""Rules that look at the facts of a wait's evidence."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from helmr import rules
from helmr.errors import BadFilter
from helmr.evidence import evidence
from helmr.models import WaitInfo
from helmr.person.filters import WAIT_FIELDS, parse
from tests.rules.test_judging import judged, wait

FACTS = {
    "amount": Decimal("48.50"),
    "count": 3,
    "rate": 2.0,
    "risk": "Low",
    "repeat": False,
    "code": None,
    "on": date(2026, 12, 2),
    "note": "a: b, c",
    "v1.2-x_y": 1,
    "asked for": 1,
}
APPROVED = {"decision": "approve"}


def asked(facts: Any = None, **parts: Any) -> WaitInfo:
    return wait(APPROVED, evidence=evidence(facts, ["https://a.example"]), **parts)


def holds(filter: str, facts: Any = None) -> bool:
    return judged(rules.rule(filter, APPROVED), asked(FACTS if facts is None else facts)).same == 1


@pytest.mark.parametrize(
    "filter",
    [
        "facts.amount<50",
        "facts.amount>48.4999",
        "facts.amount:48.50",
        "facts.amount:48.5",
        "facts.count<1e1",
        "facts.count>-1",
        "facts.count:1,2,3",
        "facts.rate:2",
        "facts.risk:low",
        "facts.risk:medium,low",
        "facts.risk:l*",
        "facts.repeat:no",
        "facts.code:none",
        "facts.on:2026-12-*",
        'facts.note:"a: b, c"',
        "facts.v1.2-x_y:1",
        "-facts.amount>50",
        "-facts.nosuch:1",
        "stream:refund facts.risk:low facts.amount<50",
    ],
)
def test_a_filter_of_a_rule_passes_by_facts(filter: str) -> None:
    assert holds(filter)


@pytest.mark.parametrize(
    "filter",
    [
        "facts.amount<48.5",
        "facts.amount>48.5",
        "facts.amount:48",
        "facts.nosuch<1",
        "facts.nosuch:1",
        "facts.Amount<50",
        "facts.risk<5",
        "facts.repeat<1",
        "facts.code<1",
        "facts.on>2025",
        "-facts.risk:low",
        "low",
        "facts.risk:low facts.amount>50",
    ],
)
def test_a_filter_of_a_rule_holds_back_by_facts(filter: str) -> None:
    assert not holds(filter)


@pytest.mark.parametrize(
    "value", ["nan", "inf", "", "5 000", "0x10", "٣", "1_000", "--1", "1e99999"]
)
def test_a_text_that_is_no_number_is_below_and_above_none(value: str) -> None:
    facts = {"amount": value}
    assert not holds("facts.amount<1e9", facts)
    assert not holds("facts.amount>-1e9", facts)


def test_a_wait_without_evidence_has_no_facts() -> None:
    tried = judged(rules.rule("facts.amount<50", APPROVED), wait(APPROVED), asked())
    assert (tried.same, tried.left_alone, tried.failures) == (0, 2, [])


@pytest.mark.parametrize(
    ("filter", "told"),
    [
        ("facts.amount<soon", "'soon' is not a number"),
        ("facts.amount<", "'' is not a number"),
        ("facts.amount<=50", "'=50' is not a number"),
        ("facts.amount<nan", "'nan' is not a number"),
        ("facts.risk:", "has no value"),
        ("facts:1", "facts: is not a field"),
        ("facts.:1", "facts.: is not a field"),
        ("fact.amount<50", "fact.amount< is not a field"),
    ],
)
def test_what_no_fact_can_be_is_refused(filter: str, told: str) -> None:
    with pytest.raises(BadFilter) as raised:
        rules.rule(filter, APPROVED)
    assert told in raised.value.message
    assert "facts." in (raised.value.hint or "") or "value" in (raised.value.hint or "")


def test_lists_know_no_facts_and_say_so() -> None:
    """They leave out the evidence: a filter by it would show an empty inbox."""
    with pytest.raises(BadFilter, match=r"facts\.amount< is not a field of a wait"):
        parse("facts.amount<50", WAIT_FIELDS)


def test_a_file_of_a_rule_has_facts_in_its_filter(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(
        json.dumps({"filter": "stream:refund facts.amount<50", "answer": APPROVED})
    )
    rule = rules.read_rule("small.json", folder=tmp_path)
    tried = judged(rule, asked(FACTS), asked({"amount": 51}), asked({"amount": "49"}))
    assert (tried.same, tried.left_alone) == (2, 1)
