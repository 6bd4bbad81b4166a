"""The page on a phone and on a wide screen, with scripts and without, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.http.answer_page import AnswerPage, build_form, decode_form
from tests.client.npm import installed
from tests.http.answer_page.pages import Parcel, page, parcel_page
from tests.http.answer_page.test_in_browser import (
    browser as browser,
)
from tests.http.answer_page.test_in_browser import (
    claims as claims,
)
from tests.http.answer_page.test_in_browser import (
    pytestmark as pytestmark,
)
from tests.http.answer_page.test_in_browser import (
    url as url,
)
from tests.http.test_inbox_in_browser import AXE

PHONE, WIDE = 390, 1280
WORDS = (
    "damaged", "delivered", "lost", "late", "wrong", "incomplete", "replacement", "no", "approve", "reject", "unknown",
    "mm", "wwwwwwww", "other", "refund",
)  # fmt: skip
BROKEN = """() => [...document.querySelectorAll(".option span")].flatMap((label) => {
  const text = label.firstChild;
  return [...text.data.matchAll(/\\S+/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size > 1;
  }).map((word) => word[0]);
})"""


def many_choices() -> AnswerPage:
    """Two to four words to choose from, with a way to answer nothing and without, also deep in groups."""
    fields: dict[str, Any] = {
        f"c{n}": {"enum": [WORDS[(n * 7 + k * 4) % len(WORDS)] for k in range(2 + n % 3)] + [None] * (n % 2)}
        for n in range(30)
    }  # fmt: skip
    inner = {"type": "object", "properties": fields, "required": list(fields)}
    schema = {"type": "object", "properties": {**fields, "in": inner}, "required": ["in"]}
    return page(form=build_form(schema))


@pytest.fixture
def tab_at(browser: Any, url: str) -> Iterator[Any]:
    """Opens the page, in a tab of its own."""
    contexts, complaints = [], []

    def opened(width: int, **options: Any) -> Any:
        size = {"width": width, "height": 800}
        contexts.append(browser.new_context(viewport=size, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.goto(url)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == [], "the policy lets nothing else run"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timezone_id": "Asia/Tokyo"}, "26 November 2026, 15:30 UTC, 27 November, 00:30 your time"),
        ({"timezone_id": "Europe/Berlin"}, "26 November 2026, 15:30 UTC, 16:30 your time (in 2d)"),
        ({"timezone_id": "America/New_York"}, "15:30 UTC, 10:30 your time (in 2d)"),
        ({"timezone_id": "UTC"}, "26 November 2026, 15:30 UTC (in 2d)"),
        ({"timezone_id": "Asia/Tokyo", "java_script_enabled": False}, "15:30 UTC (in 2d)"),
    ],
    ids=["ahead", "near", "behind", "utc", "no scripts"],
)  # fmt: skip
def test_a_time_stands_in_the_readers_own_zone_too(
    tab_at: Any, options: dict[str, Any], said: str
) -> None:
    assert said in tab_at(WIDE, **options).locator("dl.facts").inner_text()


@pytest.mark.parametrize("claims", [many_choices()], indirect=True, ids=["choices"])
def test_no_word_of_a_choice_is_broken(tab_at: Any) -> None:
    tab = tab_at(WIDE)
    assert tab.locator(".option.none").count() > 20
    for width in (PHONE, 520, 640, 760, 900, WIDE):
        tab.set_viewport_size({"width": width, "height": 800})
        assert (width, tab.evaluate(BROKEN)) == (width, [])


@pytest.mark.parametrize("claims", [parcel_page()], indirect=True, ids=["parcel"])
def test_rows_are_lines_of_a_table_on_a_wide_screen_and_cards_on_a_phone(
    tab_at: Any, claims: Any
) -> None:
    tab = tab_at(WIDE)
    row = tab.get_by_role("group", name="Sold 2")
    places = [one.bounding_box() for one in row.locator("input, select").all()]
    assert len(places) == 5
    assert len({round(one["y"]) for one in places}) == 1, "one line"
    heads = [one.bounding_box() for one in tab.locator(".heads > div").all()]
    for head, place in zip(heads, places, strict=False):
        assert abs(head["x"] - place["x"]) < 1
        assert head["y"] + head["height"] <= place["y"]
    assert tab.locator(".heads").inner_text().split("\n")[0] == "Sku *"
    wide = tab.get_by_role("group", name="Sold", exact=True).bounding_box()["height"]

    tab.set_viewport_size({"width": PHONE, "height": 800})
    assert not tab.locator(".heads").is_visible()
    assert row.locator("label").first.bounding_box()["height"] > 10
    for one in tab.locator("main *:visible").all():
        box = one.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE
    assert tab.get_by_role("group", name="Sold", exact=True).bounding_box()["height"] > 2 * wide

    tab.set_viewport_size({"width": WIDE, "height": 800})
    tab.get_by_role("group", name="Decision").get_by_label("refund").check()
    row.get_by_label("Sku").fill("B2")
    row.get_by_label("Size").select_option("No answer")
    row.get_by_label("Whole").select_option("Yes")
    tab.get_by_label("Street").fill("Ring 1")
    tab.get_by_label("Note").fill("soon\nsent")
    tab.get_by_role("button", name="Send answer").click()
    assert claims.answer["sold"][1] == {
        "sku": "B2", "day": "2026-11-24", "count": 2, "whole": True,
    }  # fmt: skip
    assert claims.answer["street"] == "Ring 1"
    Parcel.model_validate(claims.answer)


def wrong_parcel() -> AnswerPage:
    """Something wrong at each kind of field, also in a row."""
    values = {**parcel_page().values, "f/sold/#1/sku": [""], "f/sold/#1/count": ["x"]}
    form = build_form(Parcel.model_json_schema(), values=values)
    return parcel_page(form=form, values=values, problems=decode_form(form, values).problems)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, WIDE])
@pytest.mark.parametrize(
    "claims",
    [parcel_page(), wrong_parcel(), many_choices()],
    indirect=True,
    ids=["table", "problems", "choices"],
)
def test_axe_finds_nothing(tab_at: Any, project_root: Path, width: int, scheme: str) -> None:
    axe = (installed(project_root, AXE) / "axe.min.js").read_text(encoding="utf-8")
    tab = tab_at(width, color_scheme=scheme, timezone_id="Asia/Tokyo")
    tab.evaluate(axe)
    report = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in report["violations"]] == []
