"""The inbox lists the waits for the signed-in person; it works without scripts and is live with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlencode

from helmr.gate import CALL_TASK
from helmr.models import SUBJECT_MAX, WaitInfo, WaitPriority
from helmr.person.review import agreement, granting
from helmr.person.review.words import next_end
from helmr_runtime.http.answer_page import texts
from helmr_runtime.http.answer_page.layout import INBOX_SCRIPT, SignedInBar, render

STATE_CHARS = 12
AGENTS = "calls of agents"
"""The label of the gate's own task in the filter."""


class InboxView(StrEnum):
    """A view of the inbox; its value stands in the URL."""

    OPEN = "open"
    """The person may answer, and has not."""
    MINE = "mine"
    """Open ones that are assigned to, or name, the person or a group of theirs."""
    VOTED = "voted"
    """The person has answered, and others must agree."""
    ANSWERED = "answered"
    """Ended, and answered by the person."""


VIEWS = {
    InboxView.OPEN: ("For you", "Nothing waits for you."),
    InboxView.MINE: ("Yours by name", "Nothing waits for you by name."),
    InboxView.VOTED: ("Others must agree", "Nothing that you have answered waits for others."),
    InboxView.ANSWERED: ("Answered by you", "You have answered nothing in the last seven days."),
}
"""The heading of each view, and the text of an empty one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxPage:
    """A page of the list.

    Attributes:
        now: The time of the view.
        bar: The signed-in person.
        view: The view.
        filters: Filters by field: `task`, `priority`, `tag`.
        waits: The waits, in order.
        cursor: The cursor of the next page; None at the end.
        is_first: It is the first page.
        total: The number of waits in the view with these filters.
        place, places: The number of this page, and of all pages.
        tasks: The tasks of the waits, without the filter by task.
        has_views: The page offers other views than the open waits.
        problem: The problem of a filter.
    """

    now: datetime
    bar: SignedInBar
    view: InboxView = InboxView.OPEN
    filters: dict[str, str]
    waits: Sequence[WaitInfo] = ()
    cursor: str | None = None
    is_first: bool = True
    total: int = 0
    place: int = 1
    places: int = 1
    tasks: Sequence[str] = ()
    has_views: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """One wait. `state` is a hash of its changing texts, except the time."""

    id: str
    title: str
    asked_by: str
    facts: tuple[str, ...]
    is_urgent: bool
    at: datetime | None
    word: str
    asked_at: datetime | None
    state: str


def render_inbox(page: InboxPage) -> str:
    """The whole HTML document."""
    heading, empty = VIEWS[page.view]
    return render(
        "inbox.html.jinja",
        title=f"{heading} · Inbox",
        bar=page.bar,
        script=INBOX_SCRIPT,
        page=page,
        heading=heading,
        empty=empty,
        count=_count(page),
        tasks=[(one, AGENTS if one == CALL_TASK else one) for one in page.tasks],
        rows=[_row(one, page.view) for one in page.waits],
        views=[
            (view.value, label, view is page.view, _query(page, view))
            for view, (label, _) in VIEWS.items()
            if page.has_views
        ],
        following=_query(page, page.view, cursor=page.cursor) if page.cursor else "",
        first=_query(page, page.view),
        priorities=[one.value for one in WaitPriority],
        problem=texts.clean(page.problem, SUBJECT_MAX),
    )


def _count(page: InboxPage) -> str:
    """The total and the page's number: `120 questions, page 2 of 3`."""
    if not page.waits:
        return ""
    said = f"{page.total:,} {'question' if page.total == 1 else 'questions'}"
    return f"{said}." if page.places < 2 else f"{said}, page {page.place:,} of {page.places:,}."


def _query(page: InboxPage, view: InboxView, **more: str) -> str:
    given = {"show": view.value, **page.filters, **more}
    return urlencode({name: value for name, value in given.items() if value})


def _row(wait: WaitInfo, view: InboxView) -> InboxRow:
    is_over = view is InboxView.ANSWERED
    facts = []
    if wait.priority is not WaitPriority.NORMAL:
        facts.append(f"{wait.priority.value} priority")
    if tally := agreement.tally(wait):
        facts.append(f"{tally} agree")
    end = next_end(wait) if not is_over else None
    if end is not None and end.is_default:
        facts.append(f"then {end.then}")
    if wait.claim is not None:
        facts.append(f"{wait.claim.label} is working on it")
    if wait.deputy_for and not is_over:
        facts.append(f"for {', '.join(wait.deputy_for)}")
    if wait.assignee is not None:
        facts.append(f"assigned to {wait.assignee}")
    shown = tuple(texts.clean(one, SUBJECT_MAX) for one in facts)
    title = texts.clean(wait.subject, SUBJECT_MAX) or texts.clean(wait.stream, SUBJECT_MAX)
    at, word = (wait.resolved_at, "answered") if is_over else (wait.ends_at, "answer by")
    state = hashlib.sha256("\0".join((title, *shown, str(at))).encode()).hexdigest()
    return InboxRow(
        id=wait.id,
        title=title or "Please answer",
        asked_by=texts.clean(granting.asker(wait), SUBJECT_MAX),
        facts=shown,
        is_urgent=wait.priority is WaitPriority.HIGH,
        at=at,
        word=word,
        asked_at=wait.opened_at,
        state=state[:STATE_CHARS],
    )
