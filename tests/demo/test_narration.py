"""The narrator: colour on a terminal only, and nothing from outside reaches it raw."""

from __future__ import annotations

import io

import pytest

from helmr.examples.demo import Narrator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: io.StringIO) -> str:
    narrator = Narrator(out, out)
    narrator.title("Title")
    narrator.chapter("First")
    narrator.command("helmr up")
    narrator.shown("a\nb\x1b]52;c;x\x07")
    narrator.holds("true")
    narrator.fails("broken", "mend it")
    return out.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    assert told(io.StringIO()).splitlines() == [
        "Title",
        "",
        "1. First",
        "   $ helmr up",
        "   a",
        "   b␛]52;c;x␇",
        "   ✓ true",
        "helmr demo: broken",
        "hint: mend it",
    ]


def test_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = told(Terminal())
    assert "\x1b[1;36m1. First\x1b[0m" in text
    assert "\x1b]52" not in text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert "\x1b" not in told(Terminal())
