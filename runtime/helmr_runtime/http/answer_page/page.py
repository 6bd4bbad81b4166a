"""The answer page opens behind a callback URL, a link or a public token (S-42).

`AnswerPage` holds everything that a page shows; `render_page` makes HTML of it. All functions here are pure.

A page that asks to approve a tool call has a card: the tool, a row for each argument, the effect of an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from helmr.models import SUBJECT_MAX, Evidence, above
from helmr.person.forms import MISSING, Argument, Kind, plain, redacted
from helmr.person.forms.call_blocks import DIFF, CallBlock
from helmr.person.forms.model import ROW, Path, every_field
from helmr.person.forms.tool_call import ARGUMENTS, ToolCall
from helmr.wire.durations import spell_bytes
from helmr_runtime.http.answer_page import texts
from helmr_runtime.http.answer_page.fields import (
    ACTION_FIELD,
    ADD,
    REMOVE,
    PageForm,
    Question,
    build_form,
    first_values,
    label_of,
)
from helmr_runtime.http.answer_page.layout import LOCAL_SCRIPT, SignedInBar, render
from helmr_runtime.http.answer_page.texts import clean, clean_block
from helmr_runtime.security.schemas import SchemaProblem

OVERRIDE_FIELD = "override_claim"
DEPUTY_FIELD = "deputy_for"
WITHDRAW_FIELD = "withdraw"
"""Distinct from the fields of an answer, whose names begin with a letter and a slash, or are one letter."""

CALL_ROWS_MAX = 200
VALUE_CHARS_MAX = 20_000
CODE_CHARS_MAX = 200_000
"""Longest command or diff in full; of a longer one the page shows how many characters it leaves out."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One argument; `before` holds its earlier text if a person changed it."""

    label: str
    text: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class CallCode:
    """A command or a diff, as HTML; `more` characters were left out."""

    text: Markup
    more: int


@dataclass(frozen=True, slots=True)
class CallCard:
    """The card that replaces a call's JSON.

    Attributes:
        tool: The tool's name.
        code: Its commands and edits.
        rows: The arguments that the code does not show; `more` of them were left out.
        folded: The arguments that its diffs show, as they were given.
        outcomes: The effect of each decision, as a word and a sentence; after an answer, only of that one.
    """

    tool: str
    code: tuple[CallCode, ...]
    rows: tuple[CallRow, ...]
    more: int
    folded: tuple[CallRow, ...]
    outcomes: tuple[tuple[str, str], ...]


def call_card(call: ToolCall, answer: Any = MISSING) -> CallCard:
    """The card of a call under this answer."""
    rows = call.beside_blocks(answer)
    blocks = call.blocks(answer)
    in_diffs = {name for one in blocks if one.language == DIFF for name in one.names}
    folded = [one for one in call.arguments(answer) if one.name.partition(".")[0] in in_diffs]
    effect = call.effect(answer)
    outcomes = (("Decided", effect),) if effect else call.outcomes()
    return CallCard(
        tool=clean(call.tool, SUBJECT_MAX),
        code=tuple(_code(one) for one in blocks),
        rows=tuple(_row(one) for one in rows[:CALL_ROWS_MAX]),
        more=max(0, len(rows) - CALL_ROWS_MAX),
        folded=tuple(_row(one) for one in folded if one not in rows)[:CALL_ROWS_MAX],
        outcomes=tuple(
            (word.capitalize(), clean_block(text, VALUE_CHARS_MAX)) for word, text in outcomes
        ),
    )


def _code(block: CallBlock) -> CallCode:
    text = clean_block(block.text, CODE_CHARS_MAX)
    more = max(0, len(block.text) - CODE_CHARS_MAX)
    return CallCode(texts.code_html(text, block.language), more)


def arguments_of(form: PageForm) -> Question | None:
    """The question whose fields change a call's arguments; None if there is none."""
    inner = form.root.inner if form.call is not None else ()
    return next((one for one in inner if one.field.path == (ARGUMENTS,) and one.inner), None)


def is_edited(
    form: PageForm, values: Mapping[str, Sequence[str]], problems: Mapping[str, str]
) -> bool:
    """True if someone edited the arguments: their fields must be unfolded."""
    asked = arguments_of(form)
    if asked is None:
        return False
    begun = first_values(build_form(form.model.schema, initial=form.model.initial))
    if any(one.id in problems for one in asked.walk()):
        return True
    names = [_name(one) for one in asked.walk() if one.control not in ("group", "const")]
    return any(list(values.get(name, ())) != begun.get(name, []) for name in names)


def _name(question: Question) -> str:
    """The name of the control that changes when someone edits the question."""
    if question.control == "rows":
        return question.rows_name
    return question.variant_name if question.control == "union" else question.name


def _row(one: Argument) -> CallRow:
    label = clean(one.name, SUBJECT_MAX) or "(no name)"
    now = "left out" if one.now is None else clean_block(one.now, VALUE_CHARS_MAX)
    if not one.is_changed:
        return CallRow(label, now)
    was = "not asked for" if one.asked is None else f"was {clean_block(one.asked, VALUE_CHARS_MAX)}"
    return CallRow(label, now, was)


GRANT_FIELD, GRANT_FOR, GRANT_LIKE = "grant", "grant_for", "grant_like_"
"""Fields of the form that approves a call and calls like it: its marker, the duration, each telling argument."""


@dataclass(frozen=True, slots=True)
class GrantForm:
    """A second form: approve the call, and allow calls like it for a while (S-107).

    Attributes:
        nonce: The form's nonce.
        tool: The tool of such calls.
        lines: The name of each telling argument, and the glob that it must match.
        valid_for: The duration, as typed.
        is_open: Someone has filled it in.
    """

    nonce: str
    tool: str
    lines: tuple[tuple[str, str], ...]
    valid_for: str
    is_open: bool = False


HAND_FIELD, HAND_TO = "hand", "hand_to"
"""Fields of the forms that hand a wait over: the action, and the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandingForm:
    """Forms to claim a wait, to release it and to hand it over (S-72, S-81).

    Attributes:
        nonce: The nonce of these forms.
        is_theirs: The signed-in person has claimed it.
        assignee: The assignee; empty for none.
        choices: People and groups to hand it to.
        typed: The receiver, as typed.
        done: The action that was just done.
    """

    nonce: str
    is_theirs: bool = False
    assignee: str = ""
    choices: Sequence[str] = ()
    typed: str = ""
    done: str = ""


_ROWS_MAX = 200
"""Rows of a recorded answer; a longer one is shown as JSON."""
_ANSWER_CHARS_MAX = 20_000
_FEW_CHARS = 60
ANSWERED_BY_CHARS_MAX = 4_000
"""Longest text that names the people who may answer: it holds two lists."""
FOLDER_CHARS_MAX = 1_000
AGREED_CHARS_MAX = 2_000
"""Longest line that names people and their votes."""


class PageState(StrEnum):
    """The state of the page."""

    OPEN = "open"
    SIGNED = "signed"
    """Open, but only a provider's signed message completes it: nothing to fill in."""
    SIGN_IN = "sign_in"
    """Open, but only signed-in people may answer, and a link proves no identity: nothing to fill in."""
    OTHERS = "others"
    """Open, but the signed-in person may not answer."""
    OWN_KEY = "own_key"
    """Open, but each answer needs a signature by a key of the person, which a page does not have."""
    RECORDED = "recorded"
    """Completed through this same link: shows the recorded answer."""
    OVERTAKEN = "overtaken"
    """Completed by someone else: shows the person and the time, not the answer."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPage:
    """An answer page.

    Args:
        state: The page's state; UNKNOWN needs only `now`.
        now: The time of the view, aware.
        asked_by: The asker: the task's id or the client's name.
        asked_in: For an agent's call, the folder where the agent's session began.
        heading: The heading of the question, if it is not the subject.
        subject: One line; without it the page asks for "an answer" (S-17).
        body: Markdown (S-17).
        evidence: Shown above the body.
        asked_at, deadline_at: The time when it was asked, and the deadline.
        escalation: The steps while no one answers, a line each (S-82).
        claimed_by, claimed_until: Someone else who works on it, and the end of their claim; a hint only (S-81).
        form, nonce: The form and its nonce, for OPEN.
        values: Submitted values, to show again beside their problems.
        problems: Problems of a submission, by paths of the schema's data.
        is_stale: The page was open too long, or its questions changed: the person must check and send again.
        focus: The id of the control that gets the focus.
        then: The default answer at `deadline_at`, if there is one.
        answers_as: The person whose answer it will be: a link's person, or the signed-in one.
        answered_by: The people who may answer, for SIGN_IN, OTHERS and OWN_KEY: `by group finance`.
        have, need: The number of people who agree, and the number needed.
        return_to: For SIGN_IN, the page to come back to; empty if pages offer no sign-in.
        bar: The signed-in person, if they answer.
        made_for: The link's person, if another signed-in person answers.
        agreed: The number who agree, and each person's vote, a line each.
        voted_for: The person's own vote, in words, while others must agree.
        also_answered: The other people who voted, once it has ended.
        refusal: The reason for which an answer with valid fields was refused.
        renew_at: The address of a new sign-in, if that would help.
        deputy_for: The people whose deputy the person is for this wait, if they must choose one.
        may_override: Someone else is working on it, but the person may still answer.
        withdraw_nonce: The nonce of the form that withdraws the person's vote; empty without a vote.
        grant: The form that allows an agent's calls for a while, if the person may.
        handing: The forms that hand the wait over.
        granted: For RECORDED, the grants given with it that still count, a line each.
        answer: The recorded data, for RECORDED.
        is_second: RECORDED, and another answer was sent after it: that one was not recorded.
        ended_at, ended_by: The time of its end, and the person or program that ended it.
    """

    state: PageState
    now: datetime
    asked_by: str = ""
    asked_in: str = ""
    heading: str = ""
    subject: str | None = None
    body: str | None = None
    evidence: Evidence | None = None
    asked_at: datetime | None = None
    deadline_at: datetime | None = None
    escalation: Sequence[str] = ()
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    form: PageForm | None = None
    nonce: str | None = None
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Sequence[SchemaProblem] = ()
    is_stale: bool = False
    focus: str = ""
    then: str = ""
    answers_as: str = ""
    answered_by: str = ""
    have: int = 0
    need: int = 1
    return_to: str = ""
    bar: SignedInBar | None = None
    made_for: str = ""
    agreed: Sequence[str] = ()
    voted_for: str = ""
    also_answered: Sequence[str] = ()
    refusal: str = ""
    renew_at: str = ""
    deputy_for: Sequence[str] = ()
    may_override: bool = False
    withdraw_nonce: str = ""
    grant: GrantForm | None = None
    handing: HandingForm | None = None
    granted: Sequence[str] = ()
    answer: Any = None
    is_second: bool = False
    ended_at: datetime | None = None
    ended_by: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a recorded answer; `rows` holds the lines inside it."""

    label: str
    text: str
    rows: tuple[_Row, ...] = ()


def render_page(page: AnswerPage) -> str:
    """The whole HTML document."""
    problems = _by_field(page)
    form, is_recorded = page.form, page.state is PageState.RECORDED
    answer = page.answer if is_recorded else MISSING
    call = form.call if form is not None else None
    body = above(page.evidence, call.own_text(page.body) if call is not None else page.body)
    return render(
        "page.html.jinja",
        title=_title(page),
        bar=page.bar,
        script=LOCAL_SCRIPT,
        page=page,
        state=page.state.value,
        sign_in_query=urlencode({"next": page.return_to}) if page.return_to else "",
        heading=texts.clean(page.heading or page.subject, SUBJECT_MAX),
        asked_in=texts.clean(page.asked_in, FOLDER_CHARS_MAX),
        asked_by=texts.clean(page.asked_by, SUBJECT_MAX),
        ended_by=texts.clean(page.ended_by, SUBJECT_MAX),
        then=texts.clean(page.then, SUBJECT_MAX),
        answers_as=texts.clean(page.answers_as, SUBJECT_MAX),
        answered_by=texts.clean(page.answered_by, ANSWERED_BY_CHARS_MAX),
        first_answer=_in_few_words(page),
        claimed_by=texts.clean(page.claimed_by, SUBJECT_MAX),
        made_for=texts.clean(page.made_for, SUBJECT_MAX),
        agreed=[texts.clean(line, AGREED_CHARS_MAX) for line in page.agreed],
        voted_for=texts.clean(page.voted_for, AGREED_CHARS_MAX),
        also_answered=texts.clean(", ".join(page.also_answered), ANSWERED_BY_CHARS_MAX),
        override_field=OVERRIDE_FIELD,
        deputy_field=DEPUTY_FIELD,
        withdraw_field=WITHDRAW_FIELD,
        hand_field=HAND_FIELD,
        hand_to=HAND_TO,
        assignee=texts.clean(page.handing.assignee, SUBJECT_MAX) if page.handing else "",
        grant_field=GRANT_FIELD,
        grant_for=GRANT_FOR,
        grant_like=GRANT_LIKE,
        grant_tool=texts.clean(page.grant.tool, SUBJECT_MAX) if page.grant is not None else "",
        granted=[texts.timed(texts.clean(line, ANSWERED_BY_CHARS_MAX)) for line in page.granted],
        refusal=texts.clean(page.refusal, ANSWERED_BY_CHARS_MAX),
        escalation=[texts.timed(texts.clean(line, SUBJECT_MAX)) for line in page.escalation],
        call=call_card(call, answer) if call is not None else None,
        arguments=arguments_of(form) if form is not None else None,
        is_edited=form is not None and is_edited(form, page.values, problems),
        body=texts.markdown_html(body) if body else None,
        whole=texts.whole_text(body),
        whole_size=spell_bytes(len(body.encode())),
        action_field=ACTION_FIELD,
        add=ADD,
        remove=REMOVE,
        problems=problems,
        summary=_summary(page, problems),
        values=page.values,
        rows=_answer_rows(page) if is_recorded else (),
    )


_NO_FORM = (PageState.SIGNED, PageState.SIGN_IN, PageState.OTHERS, PageState.OWN_KEY)


def page_status(state: PageState, *, is_post: bool, is_second: bool = False) -> int:
    """The HTTP status of a page: 200 for a view with a known secret; a POST follows S-41."""
    if is_second:
        return 409
    if state is PageState.UNKNOWN:
        return 404
    if not is_post:
        return 200
    by_state = {PageState.RECORDED: 200, PageState.EXPIRED: 410, PageState.OPEN: 422}
    return by_state.get(state, 403 if state in _NO_FORM else 409)


def _in_few_words(page: AnswerPage) -> str:
    """The recorded answer, or its decision, if it is short; else empty."""
    answer, form = page.answer, page.form
    if form is None or not page.is_second:
        return ""
    decision = form.model.decision
    if decision is not None and decision.path and isinstance(answer, dict):
        answer = answer.get(decision.name)
    is_short = isinstance(answer, str | int | float) and len(str(answer)) <= _FEW_CHARS
    return texts.clean(plain(answer), _FEW_CHARS) if is_short else ""


_TITLES = {
    PageState.SIGNED: "Waiting for a signed message",
    PageState.RECORDED: "Answer recorded",
    PageState.OVERTAKEN: "Already answered",
    PageState.EXPIRED: "Time is over",
    PageState.CANCELLED: "No longer needed",
    PageState.UNKNOWN: "This link opens nothing",
}


def _title(page: AnswerPage) -> str:
    if page.is_second:
        return "Not recorded: already answered"
    title = _TITLES.get(page.state) or texts.clean(page.subject, SUBJECT_MAX) or "Please answer"
    return f"Error: {title}" if page.problems or page.refusal else title


def _by_field(page: AnswerPage) -> dict[str, str]:
    """The problems by field id; a problem at a place without a field goes to the nearest field around it."""
    found: dict[str, str] = {}
    if page.form is None:
        return found
    by_path: dict[Path, Question] = {}
    for each in _shown(page.form.root, page.values):
        by_path[each.where] = each
    for problem in page.problems:
        path = problem.path
        while path and path not in by_path:
            path = path[:-1]
        place = by_path.get(path, page.form.root)
        where = ".".join(str(part) for part in problem.path[len(path) :])
        text = f"{where}: {problem.message}" if where else problem.message
        found.setdefault(place.id, texts.clean(text, 500))
    return found


def _shown(root: Question, values: Mapping[str, Sequence[str]]) -> list[Question]:
    """The shown questions, outer before inner; of a union, only the chosen variant."""
    shown, inner = [root], root.inner
    if root.control == "union":
        chosen = values.get(root.variant_name, ())
        inner = tuple(each for key, each in zip(root.keys, inner, strict=True) if key in chosen)
    for each in inner:
        shown.extend(_shown(each, values))
    return shown


def _summary(page: AnswerPage, problems: Mapping[str, str]) -> list[tuple[str, str]]:
    """The error summary: (field id, sentence), in the order of the page."""
    if page.form is None:
        return []
    labels: dict[str, str] = {}
    for each, label in _named(page.form.root, ""):
        labels.setdefault(each.id, label)
        if each.control == "union":
            # The question's label says more than that of the chosen variant.
            labels |= {inner.id: label for inner in each.inner}
    ordered = [each for each in labels if each in problems]
    return [
        (id_, f"{labels[id_]}: {problems[id_]}" if labels[id_] else problems[id_])
        for id_ in ordered
    ]


def _named(question: Question, row: str) -> Iterator[tuple[Question, str]]:
    """Each question with a name that is unique across rows: `Items 2, Sku`."""
    label = ", ".join(part for part in (row, question.label) if part)
    yield question, label
    for each in question.inner:
        if question.control == "rows":  # its label has the place in the list
            named = ", ".join(part for part in (row, each.label) if part)
            yield each, named
            for inner in each.inner:
                yield from _named(inner, named)
        else:
            yield from _named(each, row)


def _answer_rows(page: AnswerPage) -> tuple[_Row, ...]:
    labels: dict[Path, str] = {}
    for asked in every_field(page.form.model.root) if page.form else ():
        if asked.kind is not Kind.JSON:
            labels.setdefault(asked.path, label_of(asked))
    labels.pop((), None)
    answer = redacted(page.form.model, page.answer) if page.form else page.answer
    if page.form and page.form.call is not None and isinstance(answer, dict):
        answer = {name: one for name, one in answer.items() if name != ARGUMENTS}  # on its card
    rows = _rows(answer, (), labels)
    if not isinstance(answer, dict) or _count(rows) > _ROWS_MAX:
        rows = (_Row("", texts.clean_block(_json_or_text(answer), _ANSWER_CHARS_MAX)),)
    return rows


def _rows(value: Any, path: Path, labels: Mapping[Path, str]) -> tuple[_Row, ...]:
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        parts = [((*path, ROW), f"{place}", inner) for place, inner in enumerate(value, start=1)]
    elif isinstance(value, dict):
        parts = [
            ((*path, name), _called(name, (*path, name), labels), inner)
            for name, inner in value.items()
        ]
    else:
        return ()
    made = []
    for place, label, inner in parts[: _ROWS_MAX + 1]:
        rows = _rows(inner, place, labels) if len(place) <= 6 else ()
        text = "" if rows else texts.clean_block(_item_text(inner), _ANSWER_CHARS_MAX)
        made.append(_Row(label, text, rows))
    return tuple(made)


def _called(name: str, place: Path, labels: Mapping[Path, str]) -> str:
    return labels.get(place) or texts.clean(name, SUBJECT_MAX) or "(no name)"


def _item_text(value: Any) -> str:
    if isinstance(value, list) and all(not isinstance(each, dict | list) for each in value):
        return "\n".join(plain(each) for each in value) if value else "None"
    return plain(value) if not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)


def _json_or_text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return plain(value)


def _count(rows: tuple[_Row, ...]) -> int:
    return sum(1 + _count(row.rows) for row in rows)
