"""A wait as a card in a chat: what it asks, what helps to decide, who works on it, and what became of it. Pure.

A card is a value that each chat draws in its own blocks; it says no more than its target's level of detail. Its texts
are session data: the code that draws it makes them safe. Times stand in its lines as times, since each chat spells
them for its reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from helmr.models import EvidenceLink, WaitInfo, WaitPriority, WaitStatus
from helmr.models.evidence import value_text
from helmr.person.forms import MISSING, Argument, Form, ToolCall, form_of, redacted, tool_call
from helmr.person.forms.call_blocks import DIFF, CallBlock
from helmr.person.review import agreement, granting, words
from helmr.person.review.words import Line

NONE, SUBJECT, FULL = "none", "subject", "full"
"""Levels of detail: neither names nor texts; all but the text below the subject; everything."""


class CardState(StrEnum):
    """The state of the wait on a card."""

    OPEN = "open"
    CLAIMED = "claimed"
    """Someone is working on it; it can still be answered."""
    VOTING = "voting"
    """Some people have answered, and more must agree."""
    ENDING = "ending"
    """It takes no more answers, and its end is not recorded yet."""
    ANSWERED = "answered"
    AMENDED = "amended"
    """It was given another answer after its first."""
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """True if the wait takes no more answers."""
        return self not in (CardState.OPEN, CardState.CLAIMED, CardState.VOTING)


_ENDS: Final = {
    WaitStatus.FULFILLED: CardState.ANSWERED,
    WaitStatus.TIMED_OUT: CardState.TIMED_OUT,
    WaitStatus.CANCELLED: CardState.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A wait as a chat shows it.

    Attributes:
        title: The question in one line.
        asked_by: The task or agent that asks; empty at the lowest level of detail for what only names say.
        body: Markdown.
        facts: Named values of its evidence.
        links: Links of its evidence, and the runtime's.
        diff: A unified diff; empty for none.
        call: The call of a tool that it asks leave for; its arguments and blocks are what is approved.
        about: Who it is for, and other facts of the wait, with their labels.
        notes: Who works on it, who agrees, who is away.
        end: What ends it first if no one answers; empty if only an answer does.
        outcome: What became of it; empty while it is open.
        form: The form of its answer; None if a chat can't take one: it is over, or answers are signed.
        is_all_said: The level of detail leaves out nothing that a person should see before they answer.
        is_restricted: Only people that the chat's app proves may answer, if it proves any.
        is_signed: Answers are signed with a key of the person.
    """

    wait_id: str
    state: CardState
    title: str
    asked_by: str = ""
    body: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[EvidenceLink, ...] = ()
    diff: str = ""
    call: ToolCall | None = None
    about: tuple[tuple[str, str], ...] = ()
    notes: tuple[Line, ...] = ()
    end: Line = ()
    outcome: Line = ()
    form: Form | None = None
    is_all_said: bool = True
    is_restricted: bool = False
    is_signed: bool = False

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of the call that no block shows."""
        return self.call.beside_blocks() if self.call is not None else ()

    @property
    def code(self) -> tuple[CallBlock, ...]:
        """The commands and diffs of the call, then the diff of the evidence."""
        shown = self.call.blocks() if self.call is not None else ()
        return (*shown, CallBlock(DIFF, self.diff, frozenset())) if self.diff else shown


def form_for(wait: WaitInfo) -> Form:
    """The form of a wait in full, begun from the newest proposal where several must agree."""
    return form_of(wait.json_schema, initial=agreement.initial_of(wait))


def card_of(wait: WaitInfo, now: datetime, *, detail: str = FULL, is_amended: bool = False) -> Card:
    """The card of a wait.

    Args:
        wait: The wait in full, not a line of a list.
        now: By the gateway's clock.
        detail: How much the chat may see: `none`, `subject` or `full`.
        is_amended: Its answer is one that an amendment gave.
    """
    state = _state(wait, now, is_amended=is_amended)
    end = words.next_end(wait) if not state.is_over else None
    if end is not None and end.is_default and detail == NONE:
        end = replace(end, then="")
    card = Card(
        wait_id=wait.id,
        state=state,
        title=f"{wait.task} asks" if detail == NONE else words.subject_of(wait),
        asked_by=wait.task if detail == NONE else granting.asker(wait),
        about=tuple(_about(wait, detail)),
        notes=() if state.is_over else tuple(_notes(wait, now, detail)),
        end=words.end_line(end) if end is not None else (),
        outcome=_outcome(wait, state, detail, now) if state.is_over else (),
        form=None if state.is_over or wait.signed else form_for(wait),
        is_all_said=detail == FULL or (detail == SUBJECT and not _has_text(wait)),
        is_restricted=wait.is_restricted,
        is_signed=wait.signed,
    )
    return card if detail != FULL else _with_text(card, wait)


def _has_text(wait: WaitInfo) -> bool:
    """True if there is more to see than the subject: a text, evidence, a call of a tool."""
    return bool(wait.text) or tool_call(form_for(wait)) is not None


def _with_text(card: Card, wait: WaitInfo) -> Card:
    evidence, call = wait.shown_evidence, tool_call(form_for(wait))
    return replace(
        card,
        body=(call.own_text(wait.body) if call is not None else wait.body) or "",
        facts=tuple((name, value_text(one)) for name, one in evidence.facts.items())
        if evidence is not None
        else (),
        links=tuple(evidence.links) if evidence is not None else (),
        diff=(evidence.diff or "") if evidence is not None else "",
        call=call,
    )


def _state(wait: WaitInfo, now: datetime, *, is_amended: bool) -> CardState:
    if wait.status is not WaitStatus.PENDING:
        return CardState.AMENDED if is_amended else _ENDS[wait.status]
    if words.wait_over(wait, now):
        return CardState.ENDING
    if wait.voters:
        return CardState.VOTING
    return CardState.CLAIMED if words.presence(wait.claim, now) else CardState.OPEN


def _about(wait: WaitInfo, detail: str) -> Iterator[tuple[str, str]]:
    if detail != NONE:
        if wait.assignee:
            yield "Assigned to", wait.assignee
        if wait.is_restricted:
            yield "Who may answer", agreement.who_may(wait)
    if wait.priority is not WaitPriority.NORMAL:
        yield "Priority", wait.priority.value
    if detail != NONE and (tags := [*wait.tags, *wait.session_tags]):
        yield "Tags", ", ".join(tags)


def _notes(wait: WaitInfo, now: datetime, detail: str) -> Iterator[Line]:
    if wait.claim is not None and words.presence(wait.claim, now):
        who = "someone" if detail == NONE else wait.claim.label
        yield (f"{who} is working on it, until ", wait.claim.until)
    if detail == FULL:
        yield from ((line,) for line in agreement.standing(wait, form_for(wait)))
    elif tally := agreement.tally(wait):
        yield (f"{tally} agree",)
    if detail != NONE:
        yield from ((line,) for line in agreement.away(wait))


def _outcome(wait: WaitInfo, state: CardState, detail: str, now: datetime) -> Line:
    """`answered by ada, 2026-…: approve`; the answer only where the text may be seen."""
    if state is CardState.ENDING:
        return ("the wait is ending" if detail == NONE else words.wait_over(wait, now),)
    said = "answered again" if state is CardState.AMENDED else words.ended(wait)
    by = words.resolver(wait) if state is not CardState.TIMED_OUT and detail != NONE else ""
    line: Line = (f"{said} by {by}" if by else said,)
    if wait.resolved_at is not None:
        line = (*line, ", ", wait.resolved_at)
    if detail == FULL and wait.status is WaitStatus.FULFILLED:
        answer = redacted(form_of(wait.json_schema, initial=_initial(wait)), wait.answer)
        line = (*line, f": {agreement.in_words(answer)}")
    return line


def _initial(wait: WaitInfo) -> object:
    return wait.initial if wait.initial is not None else MISSING
