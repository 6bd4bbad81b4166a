"""Pasted text keeps its lines, Markdown hides nothing, signs have ASCII ones, and fields speak up while typing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from helmr.person.forms import Blank, form_of
from helmr.person.forms.template import template_text
from helmr.person.review.queue import KeyedList
from helmr.wire.jsonio import loads
from helmr.wire.safe_text import typed
from helmr_console.form_fields import complaint, default_text
from helmr_console.safe import in_ascii
from helmr_console.widgets.lines import fit
from helmr_console.widgets.markdown import markdown


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_pasted_line_breaks_of_every_kind_stay_line_breaks(line_break: str) -> None:
    assert typed(f"one{line_break}two{line_break}three") == ("one\ntwo\nthree", 0)


def test_control_characters_are_left_out_and_counted() -> None:
    assert typed("a\x1b\rb\u202e") == ("a\nb", 2)


@given(st.text())
def test_signs_in_ascii_take_the_same_cells(text: str) -> None:
    assert len(in_ascii(text)) == len(text)


def test_letters_of_data_stay_with_ascii_signs() -> None:
    assert in_ascii("╭─ Zürich … │ • ▂ ▌") == "+- Zürich ~ | o | >"


def lines(text: str) -> list[str]:
    return [line.plain for line in markdown(text)]


def test_markdown_is_drawn_and_nothing_of_it_is_hidden() -> None:
    body = """## Findings
**bold** and `code` by [ana](https://example.org/ana)
second line

1. one
2. two
   - inner

```python
def f(): return "*"
```

| unit | state |
|---|---|
| billing | **passed** |

[ref]: https://example.org/hidden
<b>text</b> <!-- said -->"""
    assert lines(body) == [
        "Findings",
        "bold and code by ana (https://example.org/ana)",
        "second line",
        "",
        "1. one",
        "2. two",
        "   • inner",
        "",
        '  def f(): return "*"',
        "",
        "unit     state ",
        "───────────────",
        "billing  passed",
        "",
        "[ref]: https://example.org/hidden",
        "<b>text</b> <!-- said -->",
    ]


@given(st.text(alphabet=st.sampled_from("ab *_`#>-|\n[](){}<>!1.~\\&"), max_size=200))
def test_every_letter_of_a_body_is_drawn(body: str) -> None:
    drawn = "".join(lines(body))
    for letter in "ab":
        assert drawn.count(letter) >= body.count(letter)


@given(st.text(max_size=80), st.integers(0, 60), st.booleans())
def test_a_cut_text_has_exactly_its_width(text: str, width: int, both_ends: bool) -> None:
    text = "".join(char for char in text if char.isprintable())
    assert cell_len(fit(text, width, both_ends=both_ends)) == width


def test_texts_that_begin_alike_differ_where_they_are_cut_in_the_middle() -> None:
    names = [f"Publish the review of otterworks/search-index#{n}?" for n in (101, 102)]
    assert [fit(name, 30, both_ends=True) for name in names] == [
        "Publish the rev…rch-index#101?",
        "Publish the rev…rch-index#102?",
    ]


@pytest.mark.parametrize(
    ("schema", "text", "says"),
    [
        ({"type": "integer", "maximum": 500}, "my own words", "not a whole number"),
        ({"type": "integer", "maximum": 500}, "501", "at most 500"),
        ({"type": "integer", "minimum": 10}, "1", ""),  # may become 15
        ({"type": "integer", "minimum": -5}, "-9", "at least -5"),
        ({"type": "integer"}, "-", ""),
        ({"type": "number"}, "2.", ""),
        ({"type": "number"}, "2.5x", "not a number"),
        ({"type": "string", "maxLength": 3}, "abcd", "1 characters too long"),
        ({"type": "string", "format": "date"}, "2026-1", ""),
    ],
)
def test_a_field_complains_while_typing_of_what_typing_on_can_not_mend(
    schema: dict[str, Any], text: str, says: str
) -> None:
    assert complaint(form_of(schema).root, text) == says


def test_what_is_not_sent_says_what_the_task_takes_instead() -> None:
    schema = {
        "type": "object",
        "properties": {
            "reason": {"enum": ["goodwill", "damaged"], "default": "goodwill"},
            "note": {"type": ["string", "null"], "default": None},
        },
    }
    reason, note = form_of(schema).root.children
    assert default_text(reason, Blank.NOT_SENT) == ": goodwill"
    assert default_text(reason, 1) == ""
    assert default_text(note, Blank.NOT_SENT) == ""


ITEM = {
    "type": "object",
    "properties": {
        "sku": {"type": "string"},
        "qty": {"type": "integer", "minimum": 1},
        "remark": {"type": "string"},
    },
    "required": ["sku", "qty"],
}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "array", "items": {"$ref": "#/$defs/Item"}}, '[{"sku": "", "qty": 1}]'),
        ({"type": "array", "items": {"type": "string"}}, '[""]'),
        ({"type": "array", "examples": [[1, 2]]}, "[1, 2]"),
        ({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}, '{"a": "x"}'),
        ({}, ""),
        ({"$ref": "#/$defs/Loop"}, '{"next": {"next": {"next": {"next": {}}}}}'),
        ({"$ref": "#/$defs/Itself"}, ""),
    ],
    ids=["objects", "texts", "example", "object", "anything", "recursive", "itself"],
)
def test_a_json_field_shows_what_it_takes(schema: dict[str, Any], text: str) -> None:
    loop = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Loop"}}}
    itself = {"anyOf": [{"$ref": "#/$defs/Itself"}]}
    found = template_text(schema, {"$defs": {"Item": ITEM, "Loop": loop, "Itself": itself}})
    assert found == text
    assert not found or loads(found) is not None


def test_rows_taken_away_leave_at_once_and_the_cursor_goes_on() -> None:
    rows = KeyedList()
    rows.offer("abcd")
    rows.merge(None)
    rows.offer("abcde")
    left = rows.take_away(["b"], "b")
    assert (left.keys, left.cursor) == (("a", "c", "d"), "c")
    assert rows.pending().added == 2, "b is offered until the feed tells of it; e waits"
