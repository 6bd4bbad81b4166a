"""Content for a pane or a page: entries and runs in full, differences of entries, and data to be sent.

For data to be sent: the review, the JSON of a form, another person's answer beside the operator's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from textual.content import Content

from helmr.models import DryRun, EntryInfo, RunInfo
from helmr.person.forms import Built, Form, pretty, redacted
from helmr.person.review import words
from helmr.person.review.outcome import against
from helmr.person.review.sending import Submission
from helmr.person.review.words import diff, dry_run_end, summary
from helmr_console import entry_lines, safe
from helmr_console.set_aside import Rewound
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.markdown import markdown
from helmr_console.widgets.panes import fact, head, lines

ENTRY_CELLS = 64_000
"""Most cells shown of an entry; a longer one says so, and is copied whole."""
LINE_CHARS = 40
"""Longest JSON that stays on one line."""
SAID = frozenset(("data", "value", "text"))
"""Parts of a body that are shown alone where there is one."""
ERROR_SAID = frozenset(("code", "type", "message", "traceback"))
UNSAID = frozenset(("asked", "operation", "question_hash", "schema"))
"""Parts that are left out here; the JSON has them."""


def entry_in_full(
    entry: EntryInfo, aside: Rewound | None = None, *, cause: EntryInfo | None = None
) -> Content:
    """An entry in full, with the rewind that set it aside.

    Args:
        cause: The end of the step that made the run fail.
    """
    line = entry_lines.entry_line(entry)
    parts = [
        Content.assemble((f"{line.word}", "bold"), (f"   {entry.kind}", "$c-muted")),
        fact("at", words.stamp(entry.recorded_at)),
        fact("by", safe.line(entry_lines.by_whom(entry), limit=100)),
    ]
    if entry.op is not None:
        parts.append(fact("op", f"{entry.op}"))
    if aside is not None:
        said = f"by entry {aside.seq}, {aside.by}: {aside.reason}"
        parts.append(fact("set aside", safe.line(said, "$c-warning", limit=600)))
    parts += [Content(""), *_body(entry), Content("")]
    if cause is not None and isinstance(error := cause.body.get("error"), Mapping):
        parts += [head(f"The step, op {cause.op}, entry {cause.seq}"), *_error(error), Content("")]
    size = len(pretty(entry.body))
    parts.append(fact("size", words.size(size)))
    if size > ENTRY_CELLS:
        parts.append(
            safe.line(f"cut at {words.size(ENTRY_CELLS)}; y copies all of it", "$c-warning")
        )
    return lines(parts)


def _body(entry: EntryInfo) -> list[Content]:
    """An entry's body: its value or text; else its question, drawn, and its parts by name. `y` copies the JSON."""
    body = {name: part for name, part in entry.body.items() if name not in UNSAID}
    if SAID & body.keys():
        return [safe.text(entry_lines.entry_full(entry, ENTRY_CELLS), limit=None)]
    parts = []
    subject, text = body.pop("subject", None), body.pop("body", None)
    if isinstance(subject, str):
        parts.append(safe.line(subject, "bold", limit=400))
    if isinstance(text, str):
        parts += markdown(text)
    if parts:
        parts.append(Content(""))
    for name, part in body.items():
        if name == "error" and isinstance(part, dict):
            parts += _error(part)
            continue
        if name.endswith("_at") and isinstance(part, str):
            part = _time_text(part, entry.recorded_at)
        is_texts = isinstance(part, list) and all(isinstance(one, str) for one in part)
        shown = ", ".join(part) if is_texts else part if isinstance(part, str) else _json(part)
        value = safe.text(shown, limit=ENTRY_CELLS)
        label = safe.line(f"{name.replace('_', ' '):<14} ", "$c-muted", limit=80)
        # A text of several lines begins below its label, so that its lines are aligned.
        parts += [label, value] if "\n" in shown else [Content.assemble(label, value)]
    return parts


def _error(error: Mapping[str, Any]) -> list[Content]:
    """An error as Python prints it: type and message, then the frames line by line."""
    said = f"{error.get('type') or error.get('code')}: {error.get('message')}"
    parts = [safe.text(said, "$c-error", limit=ENTRY_CELLS)]
    if frames := error.get("traceback"):
        parts += [head("Traceback"), safe.text(str(frames).rstrip(), limit=ENTRY_CELLS)]
    rest = {name: one for name, one in error.items() if name not in ERROR_SAID and one}
    return [*parts, *([safe.text(_json(rest), "$c-muted")] if rest else [])]


def _json(value: Any) -> str:
    """A value as JSON, on one line if it is short."""
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= LINE_CHARS else pretty(value)


def _time_text(text: str, since: datetime) -> str:
    """A time in a body as `20:57 on 5 Dec (7d 0h)`, counted from the entry; any other text unchanged."""
    try:
        return words.moment(datetime.fromisoformat(text), since)
    except (ValueError, TypeError):
        return text


def run_in_full(run: RunInfo) -> Content:
    """A run in full."""
    parts = [
        Content.assemble((run.doing, "bold"), (f"   attempt {run.attempt}", "$c-muted")),
        fact("run", safe.line(run.id, limit=80)),
        fact("created", words.stamp(run.created_at)),
    ]
    if run.ended_at is not None:
        parts.append(fact("ended", words.stamp(run.ended_at)))
    if run.error is not None:
        parts += [
            Content(""),
            head("Error"),
            safe.line(f"{run.error.code} {run.error.type}", "bold $c-error"),
        ]
        parts.append(safe.text(run.error.message, limit=4_000))
        if run.error.traceback:
            parts.append(safe.text(run.error.traceback, "$c-muted", limit=20_000))
    if run.status == "succeeded":
        parts += [Content(""), head("Result"), safe.text(pretty(run.result), limit=20_000)]
    parts += [Content(""), head("Payload"), safe.text(pretty(run.payload), limit=20_000)]
    return lines(parts)


def dry_run_lines(found: DryRun) -> Content:
    """The ops that an answer would cause."""
    parts = [
        head("If this was answered, the code would go on so. Nothing of it has happened."),
        Content(""),
    ]
    for one in found.ops:
        data = "" if one.data is None else "  " + json.dumps(one.data, ensure_ascii=False)
        named = safe.line(f"{one.name}{data}", limit=2_000)
        parts.append(
            Content.assemble((f"{one.op:>5}  ", "$c-muted"), safe.line(f"{one.kind:<12}"), named)
        )
    parts += [Content(""), safe.line(dry_run_end(found), "bold", limit=2_000)]
    return lines(parts)


def difference(first: EntryInfo, second: EntryInfo) -> Content:
    """Differences between the bodies of two entries, by path."""
    found = diff(first.body, second.body)
    signs = {"+": "$c-success", "-": "$c-error", "~": "$c-warning"}
    parts = [head(f"entry {first.seq} against {second.seq}: {summary(found)}"), Content("")]
    parts += [
        safe.line(f"{d.sign} {d.path}  {d.text}", signs.get(d.sign, ""), limit=2_000) for d in found
    ]
    return lines(parts)


def preview(form: SchemaForm) -> list[Content]:
    """The current JSON without secrets, and whether it is complete."""
    built, title = form.result(), head("What would be sent")
    if built.problems:
        return [title, safe.line("not complete yet", "$c-muted")]
    shown = pretty(redacted(form.form, built.data))
    return [title, safe.text(shown), safe.line("fits the schema", "$c-success")]


def _sent(sent: Submission) -> list[Content]:
    if not sent.spelled:
        return [safe.text(sent.shown)]
    if sent.is_json:
        return [safe.text(sent.shown), head("F2 shows its texts as texts")]
    return [safe.text(sent.spelled), head("F2 shows it as JSON")]


def review(sent: Submission, effects: Sequence[str], identity: str, *, over: str) -> list[Content]:
    """The review: the exact data, the sender and the effects. `over` says why it can't be sent any more."""
    parts = [
        head("This was to be sent" if over else "This is sent, exactly"),
        *_sent(sent),
        Content(""),
    ]
    if sent.left_out:
        parts.append(head("Not sent, so the task takes its default"))
        parts += [safe.line(f"{name}: {text}", limit=200) for name, text in sent.left_out]
        parts.append(Content(""))
    if not over:
        parts += [head("It will do this"), *map(safe.line, effects), Content("")]
    who = safe.line(identity, "bold")
    parts.append(Content.assemble(("As  ", "$c-muted"), who, ("  recorded with it", "$c-muted")))
    return [*parts, Content("")]


LINES_MAX = 20


def whole(form: Form, theirs: Any) -> list[Content]:
    """The other person's answer in full, without secrets."""
    return [head("Their answer"), safe.text(pretty(redacted(form, theirs))), Content("")]


def compared(form: Form, theirs: Any, own: Built) -> Sequence[str]:
    """Compare the other person's answer with the operator's; show the beginning of theirs if the form is incomplete."""
    if own.problems:
        return ("their answer:", *_cut(pretty(redacted(form, theirs)).splitlines()))
    summary, *rest = against(form, theirs, own.data)
    return (summary, *_cut(rest))


def lost(title: str, told: Sequence[str], at: datetime) -> Content:
    """A pending answer that came second, beside the first one, in full."""
    return lines(
        [
            head(f"{words.clock(at)} UTC  {title}"),
            *(safe.text(text, limit=None) for text in told),
            safe.line("yours was not stored; it is kept as a draft", "$c-muted"),
            Content(""),
        ]
    )


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - LINES_MAX
    more = [f"… {rest} more; F3 has all of theirs"] if rest > 0 else []
    return [*lines[:LINES_MAX], *more]
