"""Evidence of a wait: what it may hold, how its hash covers it, how it reads (S-70)."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from helmr.errors import HelmrError
from helmr.models import Evidence, EvidenceLink, WaitInfo, WaitKind, WaitStatus, above
from helmr.models.evidence import (
    DIFF_CHARS_MAX,
    DIFF_SIDE_LINES_MAX,
    FACT_NAME_MAX,
    FACT_VALUE_MAX,
    FACTS_MAX,
    LINK_URL_MAX,
    LINKS_MAX,
)
from helmr.wait_details import WaitDetails, WaitOptions, asks, question_hash, recorded
from helmr.wait_options import details
from helmr.wire.schema import Codec
from tests.hostile import HOSTILE

CODEC: Codec[Any] = Codec(bool, what="a wait")


def said(**options: Any) -> WaitDetails:
    return details(WaitOptions(**options), CODEC)  # type: ignore[typeddict-item]


def evidence(**options: Any) -> dict[str, Any]:
    return dict(said(**options).evidence or {})


def test_a_wait_without_evidence_records_none() -> None:
    assert said().evidence is None
    assert said(facts={}, links=[], diff="").evidence is None
    assert "evidence" not in recorded(said(facts=None, links=None, diff=None))


def test_values_become_json_in_the_order_in_which_they_were_given() -> None:
    found = evidence(
        facts={
            "risk": "high",
            "amount": Decimal("12.50"),
            "paid": False,
            "ratio": 0.5,
            "on": date(2026, 12, 2),
            "code": None,
            "note": " two\r\nlines\u2028three ",
        }
    )["facts"]
    assert list(found.items()) == [
        ("risk", "high"),
        ("amount", "12.50"),
        ("paid", False),
        ("ratio", 0.5),
        ("on", "2026-12-02"),
        ("code", None),
        ("note", "two lines three"),
    ]


def test_a_link_without_a_label_has_its_host() -> None:
    given = ["https://grafana.example.com/d/1?a=1&b=2", ("Ticket", "mailto:ops@example.com")]
    assert evidence(links=given)["links"] == [
        {"label": "grafana.example.com", "url": given[0]},
        {"label": "Ticket", "url": "mailto:ops@example.com"},
    ]
    labelled = {"Trace": "https://t.example.com/1"}
    assert evidence(links=labelled)["links"] == [
        {"label": "Trace", "url": "https://t.example.com/1"}
    ]


def test_before_and_after_become_a_unified_diff() -> None:
    assert evidence(diff=("a\nb\n", "a\nc\n"))["diff"].split("\n")[2:] == [
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
    changed = evidence(diff=({"limit": 1, "to": "x"}, {"to": "x", "limit": 2}))["diff"]
    assert '-  "limit": 1,' in changed
    assert '+  "limit": 2,' in changed
    assert '"to"' in changed
    assert evidence(diff=("same", "same"))["diff"] == "no difference"
    assert evidence(diff="-a\n+b\n")["diff"] == "-a\n+b"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"facts": ["a"]}, "facts are an object"),
        ({"facts": {str(n): n for n in range(FACTS_MAX + 1)}}, "at most 50 facts"),
        ({"facts": {"a": [1]}}, "one value, not list"),
        ({"facts": {"a": {"b": 1}}}, "one value, not dict"),
        ({"facts": {"a": "x" * (FACT_VALUE_MAX + 1)}}, "longer than 500"),
        ({"facts": {"a": 10**FACT_VALUE_MAX}}, "longer than 500"),
        ({"facts": {"a": 10**5_000}}, "longer than 500"),
        ({"facts": {"a": object()}}, "no JSON form"),
        ({"facts": {"a": float("nan")}}, "is nan"),
        ({"facts": {"": 1}}, "1 to 64"),
        ({"facts": {"x" * (FACT_NAME_MAX + 1): 1}}, "1 to 64"),
        ({"facts": {1: 1}}, "name is text"),
        ({"links": "https://a.example"}, "links are a list"),
        ({"links": ["https://a.example"] * (LINKS_MAX + 1)}, "at most 20 links"),
        ({"links": [7]}, "a link is an address"),
        ({"links": ["javascript:alert(1)"]}, "can follow"),
        ({"links": ["data:text/html,x"]}, "can follow"),
        ({"links": ["/relative"]}, "can follow"),
        ({"links": ["https:///nohost"]}, "can follow"),
        ({"links": ["mailto:"]}, "can follow"),
        ({"links": ["https://user:pw@a.example"]}, "user or password"),
        ({"links": ["https://a.example/\x1b[2J"]}, "characters"),
        ({"links": ["https://a.example/a b"]}, "characters"),
        ({"links": ["https://a.example/>x"]}, "characters"),
        ({"links": ["https://a.example/|x"]}, "characters"),
        ({"links": ["https://а.example"]}, "characters"),  # noqa: RUF001 - Cyrillic
        ({"links": ["https://[::1"]}, "not an address"),
        ({"links": ["https://a.example/" + "x" * LINK_URL_MAX]}, "longer than 1000"),
        ({"links": {"": "https://a.example"}}, "1 to 100"),
        ({"diff": 7}, "before and after"),
        ({"diff": ("a", "b", "c")}, "before and after"),
        ({"diff": "x" * (DIFF_CHARS_MAX + 1)}, "at most 32768"),
        ({"diff": ("x\n" * (DIFF_SIDE_LINES_MAX + 1), "")}, "2000 lines"),
    ],
)
def test_what_is_out_of_bounds_has_one_error_that_says_so(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(HelmrError, match=told) as raised:
        said(**options)
    assert "pw" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("kinds", [1, 2, 100, 2_000])
def test_two_texts_at_the_bound_are_compared_before_anyone_notices(kinds: int) -> None:
    random = Random(kinds)
    before, after = (
        "\n".join(str(random.randrange(kinds)) for _ in range(DIFF_SIDE_LINES_MAX)) for _ in "ab"
    )
    began = time.monotonic()
    assert said(diff=(before, after)).evidence
    assert time.monotonic() - began < 20, "a hang guard"


SHOWN = {
    "facts": {"amount": 120, "risk": "high"},
    "links": {"Trace": "https://t.example.com/1"},
    "diff": ("a", "b"),
}


def test_the_question_hash_covers_each_part_and_is_as_it_was_without() -> None:
    bare = said(subject="Pay?", approvals=2)
    before = question_hash("t", "s", None, bare, "d")
    assert before == "8bfbc7249f8ec21608cf5a2ea7b4d32a"
    whole = said(subject="Pay?", approvals=2, **SHOWN)
    hashes = {before, question_hash("t", "s", None, whole, "d")}
    for name in SHOWN:
        parts = {k: v for k, v in SHOWN.items() if k != name}
        less = said(subject="Pay?", approvals=2, **parts)
        hashes.add(question_hash("t", "s", None, less, "d"))
    assert len(hashes) == 5


def test_a_question_is_known_by_its_evidence_as_recorded_and_as_served() -> None:
    asked = said(subject="Pay?", **SHOWN)
    hashed = question_hash("t", "s", None, asked, None)
    opened = {**recorded(asked), "task": "t", "stream": "s", "kind": "input"}
    assert asks(opened, hashed)
    assert asks({**opened, "evidence": Evidence.model_validate(opened["evidence"])}, hashed)
    for changed in (
        None,
        {**opened["evidence"], "facts": {"amount": 121, "risk": "high"}},
        {**opened["evidence"], "links": []},
        {**opened["evidence"], "diff": "-a\n+c"},
    ):
        assert not asks({**opened, "evidence": changed}, hashed), changed


def test_a_part_that_this_version_does_not_know_stays_in_the_hash() -> None:
    file = {"id": "att_1", "name": "a", "type": "a/b", "size": 1, "sha256": "00", "pages": 3}
    later = {"facts": {"a": 1}, "attachments": [file], "charts": [{"of": "a"}]}
    asked = replace(said(), evidence=later)
    hashed = question_hash("t", "s", None, asked, None)
    as_served = Evidence.model_validate(later)
    served = {"task": "t", "stream": "s", "kind": "input", "evidence": as_served}
    assert asks(served, hashed)
    assert not asks({**served, "evidence": Evidence(facts={"a": 1})}, hashed)


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4), st.text() | st.none(), st.text())
def test_no_text_escapes_its_cell_or_its_fence(
    facts: dict[str, Any], diff: str | None, body: str
) -> None:
    clean = {" ".join(name.split()) or "x": value for name, value in facts.items()}
    clean = {k: " ".join(v.split()) if isinstance(v, str) else v for k, v in clean.items()}
    lines = diff.replace("\r", "") if diff else None
    shown = Evidence(facts=clean, links=[EvidenceLink(label="a", url="https://a.example")])
    shown = shown.model_copy(update={"diff": lines})
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(above(shown, body))
    kinds = [one.type for one in tokens if one.level == 0]
    assert kinds[:2] == ["table_open", "table_close"]
    ends = next(place for place, one in enumerate(tokens) if one.type == "table_close")
    rows = sum(one.type == "tr_open" for one in tokens[:ends])
    assert rows == len(clean) + 2
    hrefs = [
        child.attrGet("href")
        for one in tokens[:ends]
        for child in one.children or []
        if child.type == "link_open"
    ]
    assert hrefs == ["https://a.example"]
    if lines:
        fence = tokens[ends + 1]
        assert (fence.type, fence.info) == ("fence", "diff")
        assert fence.content.removesuffix("\n") == lines.replace("\x00", "\ufffd")


def test_its_plain_text_stands_above_the_body() -> None:
    wait = WaitInfo(
        id="wait_1", session_id="ses_1", run_id="run_1", task="t", kind=WaitKind.INPUT,
        status=WaitStatus.PENDING, opened_at=datetime(2026, 12, 2, tzinfo=UTC), body="Pay it?",
        evidence=Evidence.model_validate(evidence(facts={"ok": True, "n": 1}, diff="-a\n+b")),
    )  # fmt: skip
    assert wait.text == "ok: yes\nn: 1\ndiff:\n  -a\n  +b\n\nPay it?"
    assert wait.model_copy(update={"evidence": None}).text == "Pay it?"
    hostile = wait.model_copy(update={"evidence": Evidence(facts={"<b>": HOSTILE})})
    html = hostile._repr_html_()
    assert "<b>:" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
