"""Nothing that a session holds reaches a terminal as a command, and nothing of it is lost in JSON."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.wire.safe_text import JOINERS, cells, json_text, one_line, plain, typed

HOSTILE = st.text(
    st.one_of(
        st.characters(codec=None),
        st.sampled_from(
            "\x1b\x07\r\n\t\x9b\x7f\u202e\u200b\u200c\u200d\u2028\ufeff\ud800\U000e0001é日"
        ),
    ),
    max_size=60,
)


def _is_shown(char: str) -> bool:
    return char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _joins(text: str, place: int) -> bool:
    """A joiner between what it joins, and nothing else that is hidden."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] in JOINERS and len(around) == 2 and all(_is_shown(one) for one in around)


@given(HOSTILE)
def test_what_comes_out_holds_no_control(value: str) -> None:
    shown = plain(value, None)
    assert all(_is_shown(char) or _joins(shown, place) for place, char in enumerate(shown))


FAMILY = "👩\u200d👩\u200d👧"
WORD = "می\u200cگویم"
CONJUNCT = "क्\u200dष"


@pytest.mark.parametrize("text", [FAMILY, WORD, CONJUNCT, "❤\ufe0f\u200d🔥", "👩🏽\u200d💻"])
def test_joiners_that_join_are_kept_in_what_is_shown_and_in_what_is_typed(text: str) -> None:
    assert plain(text, None) == one_line(text, None) == text
    assert typed(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay\u200dpal", "pay⟨U+200D⟩pal"),
        ("\u200cخ", "⟨U+200C⟩خ"),
        ("👩\u200d", "👩⟨U+200D⟩"),
        ("خ\u200d\u200dخ", "خ⟨U+200D⟩⟨U+200D⟩خ"),
        ("д\u200cд", "д⟨U+200C⟩д"),
    ],
)
def test_a_joiner_that_joins_nothing_hides_and_is_shown(text: str, shown: str) -> None:
    assert plain(text, None) == shown
    assert typed(text) == (text, 0), "what a person enters is theirs"


@given(HOSTILE)
def test_one_line_is_one_line(value: str) -> None:
    assert not set("\n\t\r\x0b\x0c\u2028\u2029\x85") & set(one_line(value, None))
    assert len(one_line(value, None).splitlines()) <= 1


@given(HOSTILE, st.integers(0, 40))
def test_a_limit_is_kept_in_cells(value: str, limit: int) -> None:
    assert cells(plain(value, limit)) <= limit


@given(HOSTILE)
def test_safe_text_is_safe_again(value: str) -> None:
    assert plain(plain(value, None), None) == plain(value, None)


@given(
    st.recursive(
        HOSTILE, lambda one: st.lists(one, max_size=3) | st.dictionaries(HOSTILE, one, max_size=3)
    )
)
def test_json_text_is_the_same_json(value: object) -> None:
    text = json_text(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert all(_is_shown(char) for char in text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain é 日本 🙂", "plain é 日本 🙂"),
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("\x1b[2J\x00\x7f", "␛[2J␀␡"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("\u202eabc\u200b\ufeff", "⟨U+202E⟩abc⟨U+200B⟩⟨U+FEFF⟩"),
        ("\U000e0001", "⟨U+E0001⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u3164", "⟨U+3164⟩"),
        (b"\xff\x1b", "\ufffd␛"),
        (7, "7"),
        ("[bold]x[/] <b>", "[bold]x[/] <b>"),
    ],
)
def test_examples(value: object, shown: str) -> None:
    assert plain(value, None) == shown


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "ab…+4"),
        ("日本語日本語", 7, "日本…+4"),
        ("x" * 120, 10, "xxxxx…+115"),
        ("abcdef", 3, "ab…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("e\u0301" * 3, 3, "e\u0301" * 3),
    ],
)
def test_cutting_says_how_much_was_cut(value: str, limit: int, shown: str) -> None:
    assert plain(value, limit) == shown
