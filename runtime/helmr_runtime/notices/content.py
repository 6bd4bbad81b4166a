"""Contents of a notice: a CloudEvent, a title and a text, never beyond its target's level of detail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from string import Template
from typing import Any, Protocol

from helmr.errors import HelmrError
from helmr.models import (
    BODY_SHOWN_BYTES,
    Evidence,
    EvidenceLink,
    RunInfo,
    WaitInfo,
    WaitPriority,
    WaitStatus,
)
from helmr.person.review import agreement, words
from helmr.wire.durations import cut_text
from helmr_runtime.core.entries import iso
from helmr_runtime.core.notices import ENDS, NoticeEvent

TEXT_CHARS_MAX = 3_000
"""Of a wait's body in a text; Slack takes no block that is longer."""

TITLE_CHARS_MAX = 300

TEMPLATE_WORDS = (
    "event",
    "task",
    "session",
    "run",
    "wait",
    "subject",
    "body",
    "priority",
    "assignee",
    "correlation",
    "tags",
    "deadline",
    "error",
    "link",
)
"""What a template may name as `$word`; empty where the notice does not say it."""

_TITLES: Mapping[str, str] = {
    "wait.opened": "Waits",
    "wait.reminded": "Still waits",
    "wait.due_soon": "Due soon",
    "wait.assigned": "Assigned",
    "wait.resolved": "Settled",
    "wait.timed_out": "Timed out",
    "run.failed": "Failed",
    "run.blocked": "Blocked",
    "test": "Test",
}

TEST = "test"
"""The event of `helmr notices test`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The wait or run of an event, as it is when the notice is sent; empty for a test."""

    wait: WaitInfo | None = None
    run: RunInfo | None = None
    session_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice to send.

    Attributes:
        data: Its content, as JSON.
        late: It was skipped once and now comes out of order.
        asks: Its wait is pending, and the target's filter still wants it.
    """

    id: str
    event: str
    at: datetime
    source: str
    data: Mapping[str, Any]
    late: bool = False
    asks: bool = False

    def cloud_event(self) -> str:
        """The text of a CloudEvent 1.0."""
        event = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": f"helmr.{self.event}",
            "subject": self.data.get("wait_id") or self.data.get("run_id") or "test",
            "time": iso(self.at),
            "datacontenttype": "application/json",
            "late": self.late,
            "data": dict(self.data),
        }
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))

    def title(self, template: str | None = None, *, head: str | None = None) -> str:
        """One line, without characters that control what shows it.

        Args:
            template: Says it in its place.
            head: Says what happened in place of the event's own word.
        """
        text = self._filled(template) if template is not None else self._title(head)
        return _one_line(text)[:TITLE_CHARS_MAX]

    def text(self, template: str | None = None, *, below_title: bool = False) -> str:
        """A few lines, with all that the notice says, and without characters that control what shows them.

        Args:
            template: Says it in its place.
            below_title: It stands below `title`, which has the question already.
        """
        said = self._filled(template) if template is not None else self._text(below_title)
        return _readable(said)

    def html(self) -> str:
        """The same as `text`, as HTML for mails: escaped text, one link, no picture, nothing from elsewhere."""
        data, parts = self.data, []
        if data.get("link"):
            link = escape(_one_line(str(data["link"])))
            parts.append(f'<p><a href="{link}" style="{_BUTTON}">Answer</a></p>')
        if data.get("subject"):
            parts.append(f"<h2>{escape(_one_line(str(data['subject'])))}</h2>")
        if body := self._body():
            parts.append(f'<div style="{_BODY}">{escape(_readable(body))}</div>')
        parts += [f"<p>{escape(line)}</p>" for line in self._ends()]
        rows = [
            f'<tr><td style="{_LABEL}">{escape(label)}</td><td>{escape(value)}</td></tr>'
            for label, value in self._facts()
        ]
        if rows:
            parts.append(f"<table>{''.join(rows)}</table>")
        return _PAGE.format(title=escape(self.title()), body="\n".join(parts))

    def _text(self, below_title: bool) -> str:
        data = self.data
        parts = []
        if data.get("link"):
            parts.append(f"Answer: {data['link']}")
        if data.get("subject") and not below_title:
            parts.append(_one_line(str(data["subject"])))
        if body := self._body():
            parts.append(body)
        parts += self._ends()
        if facts := self._facts():
            parts.append("\n".join(f"{label}: {value}" for label, value in facts))
        return "\n\n".join(parts)

    def _body(self) -> str:
        """The wait's text: its evidence with the runtime's links, and below it its body."""
        evidence = Evidence.model_validate(self.data.get("evidence") or {})
        links = [EvidenceLink.model_validate(one) for one in self.data.get("links", ())]
        shown = evidence.with_links(links).text
        text = "\n\n".join(part for part in (shown, self.data.get("body")) if part)
        return text[:TEXT_CHARS_MAX]

    def _ends(self) -> list[str]:
        """Say in a sentence when the wait's time ends and what then answers; in UTC, relative to the event."""
        data = self.data
        at = data.get("default_at") or data.get("deadline_at")
        if data.get("status") != "pending" or at is None:
            return []
        end = words.NextEnd(
            datetime.fromisoformat(at),
            data.get("default_answer", ""),
            is_default="default_at" in data,
        )
        said = words.spelt(words.end_line(end), lambda one: f"{words.moment(one, self.at)} UTC")
        return [_one_line(said)]

    def _facts(self) -> list[tuple[str, str]]:
        """Return the other facts by label: those that concern the reader first, ids of the runtime last."""
        found = [(label, self.data.get(key)) for key, label in _FACTS.items()]
        return [
            (label, _one_line(", ".join(value) if isinstance(value, list) else str(value)))
            for label, value in found
            if value and (label, value) != ("Priority", WaitPriority.NORMAL.value)
        ]

    def _title(self, head: str | None) -> str:
        about = self.data.get("subject") or self.data.get("task") or "a notice of Helmr"
        late = " (late)" if self.late else ""
        return f"{head or _TITLES[self.event]}{late}: {about}"

    def _filled(self, template: str) -> str:
        data = self.data
        words: dict[str, Any] = dict.fromkeys(TEMPLATE_WORDS, "")
        words |= {
            "event": self.event,
            "session": data.get("session_id"),
            "run": data.get("run_id"),
            "wait": data.get("wait_id"),
            "correlation": data.get("correlation_id"),
            "deadline": data.get("deadline_at"),
            "tags": ", ".join(data.get("tags", ())),
        }
        words |= {
            word: data.get(word)
            for word in ("task", "subject", "body", "priority", "assignee", "error", "link")
        }
        said = {word: value if value is not None else "" for word, value in words.items()}
        return Template(template).substitute(said)


_FACTS: Mapping[str, str] = {
    "outcome": "Outcome",
    "assignee": "Assigned to",
    "who_may_answer": "Who may answer",
    "priority": "Priority",
    "error": "Error",
    "task": "Task",
    "correlation_id": "Correlation id",
    "tags": "Tags",
    "session_id": "Session",
    "wait_id": "Wait",
}
_BUTTON = (
    "display:inline-block;padding:12px 24px;background:#1f6f43;color:#ffffff;"
    "text-decoration:none;border-radius:6px"
)
_BODY = "white-space:pre-wrap;overflow-wrap:anywhere"
_LABEL = "padding-right:16px;color:#595959;vertical-align:top"
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body style="font-family:sans-serif;max-width:640px">
{body}
</body></html>
"""

_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, and what turns the order of the letters behind it."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def _readable(text: str) -> str:
    """Strip a text of control characters, except newlines and tabs, for people to read."""
    text = _CONTROLS.sub("", _BREAKS.sub("\n", text))
    return _SURROGATES.sub("\ufffd", text)


def _one_line(text: str) -> str:
    return " ".join(_readable(text).split())


def notice(
    event: NoticeEvent,
    about: Subject,
    *,
    detail: str,
    source: str,
    link: str | None,
    late: bool,
    asks: bool = False,
) -> Notice:
    """The notice of an event for a target with that detail."""
    wait, run = about.wait, about.run
    data: dict[str, Any] = {
        "session_id": event.session_id,
        "run_id": event.run_id,
        "wait_id": event.wait_id,
        "link": link,
    }
    if wait is not None:
        data |= {
            "task": wait.task,
            "kind": wait.kind.value,
            "status": wait.status.value,
            "priority": wait.priority.value,
            "deadline_at": iso(wait.deadline_at) if wait.deadline_at is not None else None,
            "default_at": iso(wait.default_at) if wait.default_at is not None else None,
            "outcome": words.ended(wait) if event.name in ENDS else None,
        }
    if run is not None:
        data |= {"task": run.task, "status": run.status.value}
    if detail != "none":
        data |= _subject(about, data.get("outcome"))
    if detail == "full":
        data |= _full(about)
    return Notice(
        id=event.id,
        event=event.name.value,
        at=event.at,
        source=source,
        data={key: value for key, value in data.items() if value not in (None, [])},
        late=late,
        asks=asks,
    )


def _subject(about: Subject, outcome: str | None) -> dict[str, Any]:
    wait, run = about.wait, about.run
    if wait is not None:
        end = words.next_end(wait)
        by = words.resolver(wait) if wait.status is not WaitStatus.TIMED_OUT else ""
        return {
            "outcome": f"{outcome} by {by}" if outcome and by else outcome,
            "subject": wait.subject,
            "stream": wait.stream,
            "correlation_id": wait.correlation_id,
            "assignee": wait.assignee,
            "who_may_answer": agreement.who_may(wait) or None,
            "tags": [*wait.tags, *wait.session_tags],
            "default_answer": end.then if end is not None and end.is_default else None,
        }
    error = run.error if run is not None else None
    return {
        "tags": list(about.session_tags),
        "error": (error.type or error.code) if error is not None else None,
    }


def _full(about: Subject) -> dict[str, Any]:
    wait, run = about.wait, about.run
    if wait is not None:
        return {
            "body": cut_text(wait.body, BODY_SHOWN_BYTES) if wait.body is not None else None,
            "evidence": wait.evidence.recorded() if wait.evidence is not None else None,
            "links": [one.model_dump() for one in wait.links],
        }
    error = run.error if run is not None else None
    if error is None:
        return {}
    return {"error": error.text}


class NotTaken(HelmrError):
    """A target has not taken a notice. The message may be shown: it says nothing secret."""


class Sender(Protocol):
    """Tells one target."""

    async def send(self, notice: Notice) -> str | None:
        """Return when the target has taken it: what to know of the target all the same, for who tests it.

        Raises:
            NotTaken: It has not, and why.
            UsageError: What it names of the environment or of files is not there.
        """
        ...
