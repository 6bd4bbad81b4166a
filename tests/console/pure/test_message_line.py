"""The second line: a refusal before a remark, a receipt beside what is in front, and the next key clears it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_console.message_line import READ_S, STANDS_S, MessageLine, Severity, receipt_text

RECEIPT, INFORMATION, WARNING, ERROR = Severity


class Hand:
    """Says and presses at times of one clock."""

    def __init__(self) -> None:
        self.line = MessageLine()

    def say(self, at_s: float, text: str, severity: Severity) -> None:
        self.line.say(text, severity, now_s=at_s, shown_s=at_s)

    def shown(self, at_s: float) -> tuple[str, str]:
        front, beside = self.line.front(at_s), self.line.beside(at_s)
        return front.text if front else "", beside.text if beside else ""


def test_a_receipt_never_takes_the_line() -> None:
    hand = Hand()
    hand.say(0, "Accepted: #402", RECEIPT)
    assert hand.shown(0.1) == ("", "Accepted: #402")
    hand.say(0.2, "Not sent", WARNING)
    hand.say(0.3, "Accepted: #403", RECEIPT)
    assert hand.shown(0.4) == ("Not sent", "Accepted: #403")
    assert hand.shown(5.2) == ("Not sent", "Accepted: #403")
    assert hand.shown(5.4) == ("Not sent", "")


@pytest.mark.parametrize(
    ("second", "stays"), [(INFORMATION, True), (WARNING, False), (ERROR, False)]
)
def test_a_refusal_is_taken_away_by_nothing_milder(second: Severity, stays: bool) -> None:
    hand = Hand()
    hand.say(0, "refused", WARNING)
    hand.say(1, "other", second)
    assert hand.shown(1)[0] == ("refused" if stays else "other")


def test_once_its_time_is_over_anything_may_stand_there() -> None:
    hand = Hand()
    hand.say(0, "broken", ERROR)
    hand.say(12, "copied", INFORMATION)
    assert hand.shown(12)[0] == "copied"


@pytest.mark.parametrize("severity", list(Severity))
def test_the_next_key_takes_a_message_away_unless_it_was_typed_before_it_could_be_read(
    severity: Severity,
) -> None:
    hand = Hand()
    hand.say(10, "said", severity)
    hand.line.key(10 + READ_S[severity] - 0.01)
    assert "said" in hand.shown(10)
    hand.line.key(10 + READ_S[severity])
    assert hand.shown(10) == ("", "")


def test_what_is_unsaid_goes_and_only_that() -> None:
    hand = Hand()
    hand.say(0, "too soon", WARNING)
    hand.line.unsay("something else")
    assert hand.shown(0)[0] == "too soon"
    hand.line.unsay("too soon")
    assert hand.shown(0)[0] == ""


WHAT = st.tuples(st.sampled_from([*Severity, "key"]), st.floats(0.01, 4))


@given(st.lists(WHAT, max_size=30))
def test_what_stands_there_was_said_and_neither_read_before_a_key_nor_too_old(
    what: list[tuple[Severity | str, float]],
) -> None:
    hand, at_s = Hand(), 0.0
    said: dict[str, tuple[Severity, float]] = {}
    pressed: list[float] = []
    for number, (one, later_s) in enumerate(what):
        at_s += later_s
        if isinstance(one, Severity):
            said[str(number)] = one, at_s
            hand.say(at_s, str(number), one)
        else:
            pressed.append(at_s)
            hand.line.key(at_s)
        for text, is_beside in zip(hand.shown(at_s), (False, True), strict=True):
            if not text:
                continue
            severity, since_s = said[text]
            assert (severity is RECEIPT) is is_beside
            assert at_s < since_s + STANDS_S[severity]
            assert not any(key_s - since_s >= READ_S[severity] for key_s in pressed)


def test_a_receipt_is_short() -> None:
    assert receipt_text("Accepted: tool held0; record 1 on tool; the run goes on") == "✓ tool held0"
    assert receipt_text("Retry 3 sessions: 3 accepted") == "✓ Retry 3 sessions: 3 accepted"
    assert receipt_text("Vote recorded: Pay?; 1 of 2") == "✓ Vote recorded: Pay?; 1 of 2"
