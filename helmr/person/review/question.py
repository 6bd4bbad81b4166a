"""One wait while it is asked: what was entered, which keys do what, and the lines that say so. Pure.

`helmr next` asks in lines and the other commands that answer show waits as it does; all of it is safe to print.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from helmr.models import WaitInfo, WaitPriority
from helmr.person.forms import (
    Built,
    Field,
    Form,
    Kind,
    ToolCall,
    example,
    first_cells,
    present,
    pretty,
    redacted,
)
from helmr.person.forms.questions import (
    CHOSEN,
    Offer,
    Question,
    Questions,
    kept_text,
    keys,
    labels,
)
from helmr.person.forms.template import template, template_text
from helmr.person.review import granting
from helmr.person.review.personal import AnswerDraft
from helmr.wire.safe_text import json_text, one_line, plain

BODY_LINES = 12
"""Lines of a body above the question; `m` shows the rest."""
VALUE_CELLS = 4_000
"""Width of an argument of a call. No argument is left out: people approve what they were shown."""


VERBS_MAX, VERB_CELLS = 4, 16
"""Up to this many choices are named beside their letters."""


@dataclass(frozen=True, slots=True)
class Key:
    """One letter at a question, with its label and help."""

    letter: str
    label: str
    help: str


KEYS = (
    Key("k", "keep", "answer as the draft says"),
    Key("l", "last", "fill in your last answer to a wait like this one; k then sends it"),
    Key("e", "edit", "write the whole answer in $EDITOR"),
    Key("s", "skip", "go to the next wait; what you entered is kept as a draft"),
    Key("u", "undo", "undo your last answer while it is pending"),
    Key("c", "claim", "claim this wait, or release it"),
    Key("d", "delegate", "assign this wait to someone"),
    Key("z", "snooze", "hide this wait from you until a time that you give"),
    Key("m", "more", "all of the text of this wait"),
    Key("?", "help", "these lines"),
    Key("q", "quit", "leave after pending answers are sent; q again sends them now"),
)
"""Every key of a question that is not a choice, in the order of its help."""
GRANT = Key("g", "grant", "approve this call, and allow calls like it for a while")
"""Keys only for a call that an agent asks about."""
ANSWER = "a"
"""Starts the fields if the first of them is not a choice."""
_TAKEN = frozenset(key.letter for key in KEYS)
DELEGATE = "delegate"
"""Same as `d`, also where `d` declines."""


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer given and not accepted yet."""

    wait: WaitInfo
    data: Any
    shown: str
    """JSON of the answer without secrets, on one line."""
    draft: AnswerDraft
    operation_id: str
    override_claim: bool = False
    """Send it although someone else has claimed the wait; the person has seen that."""


@dataclass(slots=True)
class Asking:
    """A wait that is being asked."""

    wait: WaitInfo
    form: Form
    questions: Questions
    raw: str | None = None
    """JSON typed by the person that does not fit the fields."""
    operation_id: str | None = None
    """The operation of a send with unknown outcome."""
    is_claimed: bool = False
    """The person who is asked has claimed the wait."""
    was_warned: bool = False
    """The person has seen that someone else claimed the wait."""

    @property
    def entered(self) -> str:
        """The answer so far, on one line, without secrets."""
        if self.raw is not None:
            return one_line(self.raw, 400)
        return answer_text(redacted(self.form, self.built().data))

    @property
    def has_draft(self) -> bool:
        """True if anything differs from an untouched form."""
        return self.raw is not None or self.questions.cells != first_cells(self.form)

    @property
    def sees_another(self) -> bool:
        """True if the person sees that someone else has claimed the wait."""
        return self.was_warned or (self.wait.claim is not None and not self.is_claimed)

    def begin_again(self) -> None:
        """Start again at the first field, keeping the answer so far."""
        self.questions = Questions(self.form, self.questions.cells)

    def built(self) -> Built:
        """Return the answer so far."""
        return Questions(self.form, self.questions.cells).built()

    def draft(self) -> AnswerDraft:
        """Return the draft to keep, without secrets."""
        cells = self.questions.cells
        there = present(self.form.root, cells)
        secrets = {one.key for one in there if one.kind is Kind.SECRET}
        return AnswerDraft(
            wait_id=self.wait.id,
            schema_hash=self.form.schema_hash,
            cells={key: cell for key, cell in cells.items() if key not in secrets},
            raw=None if self.form.has_secret else self.raw,
            operation_id=self.operation_id,
            schema=self.form.schema,
        )

    def offered(self) -> str:
        """Return the editor's placeholder for the decision: `approve | decline`."""
        decision = self.form.decision
        return " | ".join(one.label for one in decision.choices) if decision is not None else ""

    def is_undecided(self, data: Any) -> bool:
        """True if this JSON still has the placeholder in place of a decision."""
        decision = self.form.decision
        if decision is None or not isinstance(data, dict) or len(decision.choices) < 2:
            return False
        return data.get(decision.name) == self.offered()

    def text(self) -> tuple[str, str]:
        """Return the editor's first text and its file's suffix: a text as it is, else JSON."""
        root = self.form.root
        if root.kind in (Kind.TEXT, Kind.LONG):
            cell = self.questions.cells.get(root.key, "")
            return (cell if isinstance(cell, str) else ""), ".md"
        if self.raw is not None:
            return self.raw, ".json"
        built = self.built()
        decision = self.form.decision
        if decision is not None and decision.path and list(built.problems) == [decision.key]:
            # Not one of the choices: no one made one yet.
            return pretty({decision.name: self.offered(), **built.data}), ".json"
        schema = self.form.schema if isinstance(self.form.schema, dict) else {}
        return pretty(template(schema, schema) if built.problems else built.data), ".json"


def taken(asked: Field) -> frozenset[str]:
    """Letters that choose nothing at this question: those of the keys, but `d` where a choice begins so.

    In the console `d` declines a tool's call, so it does here.
    """
    is_choice = any(name.lower().startswith("d") for name in labels(asked))
    return _TAKEN - {"d"} if is_choice else _TAKEN


def wait_lines(
    wait: WaitInfo, place: str, *, due: str, claim: str = "", call: ToolCall | None = None
) -> list[str]:
    """Return a wait's lines: the question, then its origin and time left, then its text.

    Args:
        wait: The wait.
        place: Its place in the review, as `3 of 7`.
        due: Time left.
        claim: Holder of another person's claim, if any.
        call: The call that it asks leave for, which is shown in place of what its body says of it.
    """
    found = [
        "",
        f"{place}  {one_line(subject(wait), None)}",
        f"  {one_line(_facts(wait, due, claim), None)}",
    ]
    if call is not None:
        found += _call_lines(call)
    said = call.own_text(wait.body) if call is not None else wait.body
    lines = plain(wait.model_copy(update={"body": said}).text, None).splitlines()
    found += [f"  {line}" for line in lines[:BODY_LINES]]
    if len(lines) > BODY_LINES:
        found.append(f"  … {len(lines) - BODY_LINES} more lines: m shows them")
    if call is not None:
        found += [f"  {decision}: {one_line(does, 300)}" for decision, does in call.outcomes()]
    return found


def _call_lines(call: ToolCall) -> list[str]:
    """The tool, and what it is to be called with: its command or diff line by line, arguments a line each."""
    return [
        f"  tool  {one_line(call.tool, 200)}",
        *(
            f"    {one_line(one.name, 100)}: {one_line(one.now or '', VALUE_CELLS)}"
            for one in call.beside_blocks()
        ),
        *(
            f"    {line}"
            for block in call.blocks()
            for line in (f"{block.language}:", *plain(block.text, None).split("\n"))
        ),
    ]


def change_lines(call: ToolCall, answer: object) -> list[str]:
    """Describe the effect of this answer, and each value that it changes."""
    found = [f"  {one_line(call.effect(answer), 300)}"]
    for one in call.changed(answer):
        was = "not asked for" if one.asked is None else one_line(one.asked, 200)
        now = "left out" if one.now is None else one_line(one.now, 200)
        found.append(f"    {one_line(one.name, 100)}: {was} -> {now}")
    return found


def body_lines(wait: WaitInfo) -> list[str]:
    """Return all lines of the text."""
    text = plain(wait.text or "there is no more text", None)
    return [f"  {line}" for line in text.splitlines()]


def is_cut(wait: WaitInfo) -> bool:
    """True if the text is longer than its shown part."""
    return len(plain(wait.text, None).splitlines()) > BODY_LINES


def subject(wait: WaitInfo) -> str:
    """Return a short name for the question; session text."""
    return wait.subject or " ".join(
        part for part in (wait.task, wait.stream or wait.token_id, wait.correlation_id) if part
    )


def about(wait: WaitInfo) -> str:
    """Return a short name for the question, on one safe line."""
    return one_line(subject(wait), 200)


def _facts(wait: WaitInfo, due: str, claim: str) -> str:
    parts = [wait.task, wait.stream or wait.kind.value, f"due {due}"]
    if wait.priority is not WaitPriority.NORMAL:
        parts.append(f"{wait.priority.value} priority")
    if wait.assignee:
        parts.append(f"for {wait.assignee}")
    parts += [f"#{tag}" for tag in wait.tags]
    if claim:
        parts.append(f"claimed by {claim}")
    return " · ".join([*parts, wait.id])


def is_chosen(asked: Question | None) -> TypeGuard[Field]:
    """True if one key chooses the answer."""
    return isinstance(asked, Field) and asked.kind in CHOSEN


def needs(form: Form) -> list[tuple[Field, str]]:
    """The fields that an answer has, at the top of the form, and what each of them takes; session text."""
    root = form.schema if isinstance(form.schema, dict) else {}
    fields = form.root.children if form.root.kind is Kind.GROUP else (form.root,)
    return [(one, _takes(one, root)) for one in fields]


def _takes(item: Field, root: dict[str, Any]) -> str:
    choices = " | ".join(choice.label for choice in item.choices[:8])
    more = " | …" if len(item.choices) > 8 else ""
    what = choices + more if choices else item.kind.value
    bounds = item.range_text()
    if item.kind is Kind.JSON and (like := template_text(item.schema, root)):
        bounds = f"{bounds} like {like}"
    optional = "" if item.required else ", optional"
    return f"{what}{' ' + bounds if bounds else ''}{optional}"


def choice_lines(questions: Questions) -> list[str]:
    """Return the choices, a line each with number, letter and name; else the fields of the answer."""
    asked = questions.current
    if not is_chosen(asked):
        if asked is None or questions.form.root.kind is not Kind.GROUP:
            return []
        takes = needs(questions.form)
        return [f"  {one_line(one.label, 60)}: {one_line(text, 200)}" for one, text in takes]
    suggested = [f"  suggested: {one_line(asked.suggested, 200)}"] if asked.suggested else []
    return [*_choices(asked, taken(asked)), *suggested]


def key_prompt(questions: Questions, wait: WaitInfo, *, has_draft: bool, holds: bool) -> str:
    """The keys that do something now, important ones first."""
    asked = questions.current
    if is_chosen(asked):
        letters = keys(labels(asked), taken(asked))
        first = f"1-{len(labels(asked))}" if len(labels(asked)) > 1 else "1"
        names = [one_line(name, VERB_CELLS) for name in labels(asked)]
        is_short = len(names) <= VERBS_MAX
        others = {key.label for key in KEYS}
        said = [
            f"{one} {names[at]}" if is_short and names[at].lower() not in others else one
            for one, at in letters.items()
        ]
        offered = [first, *said]
    else:
        offered = [f"{ANSWER} answer"]
    useful = {"k": has_draft, "u": holds, "m": is_cut(wait), "e": True, "s": True}
    offered += [f"{key.letter} {key.label}" for key in KEYS if useful.get(key.letter)]
    delegate = DELEGATE if is_chosen(asked) and "d" not in taken(asked) else "d"
    grant = [GRANT.letter] if granting.offered(wait) is not None else []
    return f"[{', '.join([*offered, *grant, 'l', 'c', delegate, 'z', '?', 'q'])}] "


def help_lines(questions: Questions, wait: WaitInfo) -> list[str]:
    """Every key, a line each."""
    asked = questions.current
    letters = _TAKEN
    found = ["  a  answer: asks for one field after the other"]
    if is_chosen(asked):
        letters = taken(asked)
        found = _choices(asked, letters)
    for key in (*KEYS, *((GRANT,) if granting.offered(wait) is not None else ())):
        written = key.letter if key.letter in letters else key.label
        label = f"{key.label}: " if written == key.letter else ""
        found.append(f"  {written}  {label}{key.help}")
    return [
        *found,
        "  Each key is followed by Enter. Ctrl-D goes back from a field to the question.",
        "  Ctrl-C leaves at once: pending answers are not sent, and kept as drafts.",
    ]


def field_lines(asked: Question) -> list[str]:
    """Return the help shown before a field is filled in; most fields have none."""
    if isinstance(asked, Offer):
        return []
    found = [f"  {one_line(asked.description, 300)}"] if asked.description else []
    return [*found, *(_choices(asked, ()) if asked.kind in (*CHOSEN, Kind.MULTI) else ())]


def field_prompt(asked: Question, questions: Questions) -> str:
    """The field's name, how it is written, and what an empty line says."""
    if isinstance(asked, Offer):
        is_begun = questions.is_begun(asked)
        how = (
            "y changes what is there, Enter leaves it" if is_begun else "y fills, Enter leaves out"
        )
        return f"{one_line(asked.label, 200)}: {how} [n] "
    name = one_line(asked.label, 100)
    if asked.kind is Kind.ROWS:
        rows = one_line(kept_text(asked, questions.cells.get(asked.key, ())), 200)
        takes = f" ({asked.range_text()})" if asked.range_text() else ""
        return f"{name}{takes}: {rows}; y adds a row, Enter goes on [n] "
    how = _how(asked, questions.form)
    kept = one_line(kept_text(asked, questions.cells.get(asked.key, "")), 200)
    return f"{name}{f' ({how})' if how else ''}{f' [{kept}]' if kept else ''}: "


def _how(asked: Field, form: Form) -> str:
    parts = []
    if asked.kind is Kind.LINES:
        parts.append("one each line, an empty line ends")
    elif asked.kind is Kind.MULTI:
        parts.append("several, with spaces between")
    elif asked.kind is Kind.JSON:
        like = template_text(asked.schema, form.schema if isinstance(form.schema, dict) else {})
        parts.append(f"JSON{f' like {one_line(like, 200)}' if like else ''}")
    elif asked.kind not in (*CHOSEN, Kind.TEXT, Kind.LONG):
        parts.append(asked.kind.value)
    parts += [text for text in (one_line(asked.range_text(), 80),) if text]
    if asked.pattern:
        parts.append(f"matches {one_line(asked.pattern, 80)}")
    if example(asked.kind):
        parts.append(f"like {example(asked.kind)}")
    return ", ".join(parts)


def answer_text(shown: object) -> str:
    """An answer on one line, safe."""
    return json_text(json.dumps(shown, ensure_ascii=False))


def _choices(asked: Field, letters: frozenset[str] | tuple[()]) -> list[str]:
    by_place = {place: letter for letter, place in keys(labels(asked), letters).items()}
    return [
        f"  {place + 1}{f' {by_place[place]}' if place in by_place else ''}  {one_line(name, 200)}"
        for place, name in enumerate(labels(asked))
    ]
