"""The built-in tasks of the gate, and what a person sees of an agent's call.

A call of a tool is shown as the tool-call card, with a shell's command as a command and an edit as a diff. Two of
Claude Code's tools ask something themselves: `AskUserQuestion` gets a form with a field for each of its questions,
`ExitPlanMode` its plan to approve.

Invariants: S-103 (one run, one wait), S-104 (a form offers what the client takes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from helmr import streams
from helmr.approvals import approval_schema
from helmr.context import TaskContext
from helmr.gate import (
    AGENT_TASK,
    CALL_TASK,
    CLIENT_TAG,
    FLOOD,
    RESTRICTION,
    RULED,
    TAG,
    TOOL_TAG,
    UNTIL,
    GatedCall,
    asked_line,
    call_of,
)
from helmr.gate.claude_code import (
    APPROVE,
    DECLINE,
    PLAN,
    answer_key,
    labels_of,
    other_key,
    questions_of,
)
from helmr.matching import RESTRICTING
from helmr.models import SUBJECT_MAX, WAIT_TAG_MAX
from helmr.person.forms.call_blocks import diff
from helmr.person.forms.tool_call import call_body, call_subject
from helmr.tasks import task
from helmr.wait_details import AnswererOptions

decisions = streams.input("decisions", schema=Any)
"""Answers of people to calls."""

outcomes = streams.input("outcomes", schema=dict[str, Any])
"""Outcomes of calls, and the note that a decision was delivered."""

ruled = streams.input(RULED, schema=dict[str, Any])
"""Decisions in an agent's session: by rules, by grants, by people."""

LEFT_TO_IT = (
    "The agent's program waits until the deadline; after it the call is left to that program."
)

SHORTEST_S = 0.001
"""Shortest deadline of a question, in seconds: one asked too late is left to the client at once."""

SHOWN_CHARS_MAX = 100_000
"""Characters of a file in a diff; the form has all of it."""


@dataclass(frozen=True, slots=True)
class GateQuestion:
    """A question to a person about a call.

    Attributes:
        subject: One line.
        body: Markdown.
        schema: JSON Schema of the answer.
        on_decline: Answer that declining the wait gives.
        initial: Initial value of its form; empty for a fresh one.
    """

    subject: str
    body: str
    schema: Mapping[str, Any]
    on_decline: Mapping[str, Any]
    initial: Mapping[str, Any] = field(default_factory=dict)


@task(id=CALL_TASK, mcp=False)
async def gate_call(call: dict[str, Any], ctx: TaskContext) -> Any:
    """Ask a person about one call of an agent; the result is the answer, or null if it was left to the client."""
    is_call = FLOOD not in call
    given = asked(call_of(call)) if is_call else asked_of_flood(call)
    result = await decisions.wait(
        timeout=_left(call, ctx),
        schema=given.schema,
        correlation_id=call.get("call_id") or None,
        subject=given.subject,
        body=f"{given.body}\n\n{LEFT_TO_IT}" if UNTIL in call else given.body,
        initial=dict(given.initial),
        on_decline=dict(given.on_decline),
        tags=tags_of(call_of(call)) if is_call else [TAG],
        **_restriction(call),
    )
    return result.value if result.ok else None


def _left(call: Mapping[str, Any], ctx: TaskContext) -> float | None:
    """Seconds until the call is left to its client; None if that asks again."""
    if UNTIL not in call:
        return None
    left = datetime.fromisoformat(call[UNTIL]) - ctx.now()
    return max(left.total_seconds(), SHORTEST_S)


def tags_of(call: GatedCall) -> list[str]:
    """Tags by which people and rules find waits about calls of this client and tool; what can't be one is left out."""
    named = (f"{CLIENT_TAG}{call.client}", f"{TOOL_TAG}{call.tool}")
    return [TAG, *(one for one in named if len(one) <= WAIT_TAG_MAX and one.isprintable())]


def _restriction(payload: Mapping[str, Any]) -> AnswererOptions:
    """Return the restrictions that the asking rule sets; people who agree need not give the same reason."""
    said = payload.get(RESTRICTION) or {}
    found: dict[str, Any] = {name: said[name] for name in RESTRICTING if name in said}
    if found:
        found["comments"] = ["reason"]
    return cast("AnswererOptions", found)


@task(id=AGENT_TASK, mcp=False)
async def gate_agent(agent: dict[str, Any]) -> None:
    """Stand for an agent's session, whose input says what was decided about its calls."""


def asked(call: GatedCall) -> GateQuestion:
    """Return the question about this call."""
    questions = questions_of(call)
    if questions:
        return _asked_questions(call, questions)
    if call.tool == PLAN:
        return _asked_plan(call)
    if call.is_fixed:
        reason = "Why it is declined. The agent sees it."
        return GateQuestion(_subject(call), _body(call), _decision(reason), {"decision": DECLINE})
    return GateQuestion(
        subject=_subject(call),
        body=_body(call),
        schema=approval_schema(call.tool),
        initial={"arguments": dict(call.input)},
        on_decline={"decision": DECLINE},
    )


def asked_of_flood(payload: Mapping[str, Any]) -> GateQuestion:
    """The one line about an agent that asks too much."""
    flood = payload[FLOOD]
    return GateQuestion(
        subject=f"The key {flood['key']} asks too much",
        body=f"Its agent has asked more than {flood['per_minute']} times in a minute. What is beyond that is denied, "
        "with this as the reason. It asks normally again as soon as it asks less.",
        schema={"type": "object", "properties": {"seen": {"type": "boolean"}}},
        on_decline={"seen": False},
        initial={"seen": True},
    )


def _asked_questions(call: GatedCall, questions: list[dict[str, Any]]) -> GateQuestion:
    properties: dict[str, Any] = {}
    for number, question in enumerate(questions):
        text, labels = question["question"], labels_of(question)
        choice: dict[str, Any] = (
            {"type": "string", "enum": labels} if labels else {"type": "string"}
        )
        if question.get("multiSelect"):
            properties[answer_key(number)] = {
                "type": "array",
                "items": choice,
                "uniqueItems": True,
                "default": [],
                "title": text,
            }
        else:
            properties[answer_key(number)] = {
                "anyOf": [choice, {"type": "null"}],
                "default": None,
                "title": text,
            }
        if labels:
            properties[other_key(number)] = {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
                "title": f"Other: {question.get('header') or text}",
                "description": "An answer that is not offered.",
            }
    properties["reason"] = {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": None,
        "description": "Why none is answered. The agent sees it.",
    }
    return GateQuestion(
        subject=_line(questions[0]["question"]),
        body="\n\n".join([*map(_question_lines, questions), asked_line(call)]),
        schema={"type": "object", "properties": properties},
        on_decline={},
    )


def _question_lines(question: Mapping[str, Any]) -> str:
    lines = [f"**{question['question']}**", ""]
    for one in question.get("options") or ():
        if isinstance(one, dict) and one.get("label"):
            said = one.get("description")
            lines.append(f"- {one['label']}" + (f": {said}" if said else ""))
    return "\n".join(lines)


def _asked_plan(call: GatedCall) -> GateQuestion:
    plan = call.input.get("plan")
    return GateQuestion(
        subject="Go on with this plan?",
        body=f"{plan if isinstance(plan, str) else call_body(call.tool, call.input)}\n\n{asked_line(call)}",
        schema=_decision("What is to be different. The agent sees it."),
        on_decline={"decision": DECLINE},
    )


def _decision(reason: str) -> dict[str, Any]:
    """The schema of an answer that changes nothing."""
    text = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    return {
        "type": "object",
        "properties": {
            "decision": {"type": "string", "enum": [APPROVE, DECLINE]},
            "reason": {**text, "description": reason},
        },
        "required": ["decision"],
        "additionalProperties": False,
    }


def _subject(call: GatedCall) -> str:
    command, path = call.input.get("command"), call.input.get("file_path")
    if isinstance(command, str) and command.strip():
        return _line(f"Run {command.strip()}")
    if isinstance(path, str) and path:
        return _line(f"{call.tool} {_relative(path, call.folder)}")
    return call_subject(call.tool)


def _body(call: GatedCall) -> str:
    shown = "\n\n".join(_shown(call)) or call_body(call.tool, call.input)
    return f"{shown}\n\n{asked_line(call)}"


def _shown(call: GatedCall) -> Iterator[str]:
    """The command, the diff: whatever says more than the arguments do."""
    given = call.input
    command, path = given.get("command"), given.get("file_path") or given.get("notebook_path")
    if isinstance(command, str):
        if isinstance(given.get("description"), str):
            yield given["description"]
        yield fenced(command, "sh")
    if isinstance(path, str):
        name = _relative(path, call.folder)
        for edit in edits if isinstance(edits := given.get("edits"), list) else [given]:
            if isinstance(edit, Mapping):
                yield from _diff_of(name, edit)


def _diff_of(name: str, edit: Mapping[str, Any]) -> Iterator[str]:
    old, new = edit.get("old_string"), edit.get("new_string")
    if old is None and new is None:
        old, new = "", edit.get("content", edit.get("new_source"))
    if isinstance(old, str) and isinstance(new, str):
        more = max(len(old), len(new)) > SHOWN_CHARS_MAX
        text = diff(name, old[:SHOWN_CHARS_MAX], new[:SHOWN_CHARS_MAX])
        yield fenced(f"{text}\n… (the form has all of it)" if more else text, "diff")


def fenced(text: str, language: str) -> str:
    """The text as a block of Markdown that it can't end itself."""
    longest = max((len(run) for run in _ticks(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _ticks(text: str) -> Iterator[str]:
    run = ""
    for sign in text:
        if sign == "`":
            run += sign
        elif run:
            yield run
            run = ""
    if run:
        yield run


def _relative(path: str, folder: str) -> str:
    start = folder.rstrip("/") + "/"
    return path[len(start) :] if folder and path.startswith(start) else path


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SUBJECT_MAX else f"{line[: SUBJECT_MAX - 1]}…"
