"""The screen "Since last here": waits that ended and runs that failed meanwhile, and by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from textual.content import Content

from helmr.client.aio import AsyncClient
from helmr.models import LIST_LIMIT_MAX, Activity, RunStatus, SessionInfo, SessionStatus, WaitInfo
from helmr.person.filters import Facts, Fields
from helmr.person.forms import pretty
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console import safe, views
from helmr_console.actions import ActionScope
from helmr_console.ended import AnswersRead, ended_since
from helmr_console.link import first
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.views import Cell, Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import asked, fact, head, lines

ENDED_MAX = 2_000
FAILED_MAX = 5 * LIST_LIMIT_MAX
FIRST_TIME = timedelta(days=1)
"""Period shown to an operator who was never here."""
FIRST_TITLE = "The last day: you were not here before"


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing that ended: a wait, or the newest run of a session."""

    at: datetime
    wait: WaitInfo | None = None
    session: SessionInfo | None = None

    @property
    def what(self) -> str:
        """The end in a word: `answered`, `failed`."""
        if self.wait is not None:
            return words.ended(self.wait)
        return views.session_state(self.session)[0] if self.session is not None else ""

    @property
    def about(self) -> str:
        """The subject of the wait, or the task of the session and its error. Safe."""
        if self.wait is not None:
            return words.subject_of(self.wait)
        assert self.session is not None, "it is one of both"
        return f"{one_line(self.session.task, 60)}: {views.error_line(self.session)}"

    @property
    def session_id(self) -> str:
        """Id of the session, also of a wait's."""
        of = self.wait.session_id if self.wait is not None else None
        return of or (self.session.id if self.session is not None else "")


async def happened_since(client: AsyncClient, since: datetime) -> tuple[dict[str, Happened], bool]:
    """Return all that ended or failed by id, newest first, and whether the list is cut."""
    ended = await ended_since(client, since, ENDED_MAX)
    found = {wait.id: Happened(wait.resolved_at or since, wait=wait) for wait in ended.waits}
    is_open = SessionStatus.OPEN
    for listed in (
        client.sessions.list(status=is_open, run_status=RunStatus.FAILED, limit=LIST_LIMIT_MAX),
        client.sessions.list(status=is_open, activity=Activity.BLOCKED, limit=LIST_LIMIT_MAX),
    ):
        for session in await first(listed, FAILED_MAX):
            if session.updated_at >= since:
                found[session.id] = Happened(session.updated_at, session=session)
    ordered = sorted(found.items(), key=lambda one: one[1].at, reverse=True)
    return dict(ordered), ended.is_cut


class SinceScreen(ListScreen[Happened]):
    """Waits and runs that ended since the operator was last here, newest first."""

    AREA = "inbox"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST)
    BINDINGS = bindings(*SCOPES)
    FIELDS = Fields(
        noun="ended",
        texts=("what", "by", "subject", "task", "tag", "session"),
        times={"ended": ("at", False)},
        pushed={},
    )
    TITLE_TEXT = "Since you were last here"
    NOUN = "ended"
    PANE = "Ended"
    HINT = "How it ended is shown here."
    COLUMNS = (
        Column("", 1),
        Column("what", 9),
        Column("ago", 7),
        Column("about", 0, both_ends=True),
        Column("by", 14, yields=True),
    )
    HELP_TEXT = (
        "What was answered, timed out, was cancelled or failed since you were last here, newest first. If you press "
        "no key for fifteen minutes, you are away, whether the console is open or not; when you were here is kept on "
        "this machine. Enter opens the session."
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Happened] | None = None
        self.is_cut = False
        self.answers: AnswersRead

    def on_mount(self) -> None:
        """Start reading; Textual calls `on_mount` of every class."""
        self.answers = AnswersRead(self.console.client, self._put)
        self.console.background.start(self._load(), group="since", holds_keys=True)

    @property
    def since(self) -> datetime:
        """Start of the period: when the operator was last here, else a day ago."""
        return self.console.here.since or self.console.store.now() - FIRST_TIME

    async def _load(self) -> None:
        self.found, self.is_cut = await happened_since(self.console.client, self.since)
        if self.is_attached:
            since = words.moment_ago(self.since, self.console.store.now())
            was_here = self.console.here.since is not None
            title = f"{self.TITLE_TEXT}: {since}" if was_here else FIRST_TITLE
            self.query_one("#frame").border_title = Content(title)
            self.show_now()

    def _put(self, wait: WaitInfo) -> None:
        if self.found is not None and wait.id in self.found:
            self.found[wait.id] = Happened(wait.resolved_at or self.since, wait=wait)

    def all_keys(self) -> Iterable[str]:
        """Ids, newest first."""
        return list(self.found or ())

    def things(self) -> Mapping[str, Happened] | None:
        """All that was read, by id; None before."""
        return self.found

    def row_of(self, one: Happened, now: datetime) -> Row:
        """sign, end, time since, subject, person."""
        ago = Cell(words.span((now - one.at).total_seconds()), "muted")
        if one.wait is None:
            return (Cell("!", "error"), Cell(one.what, "error"), ago, Cell(one.about), Cell(""))
        _, _, _, _, about, by = views.wait_row(one.wait, now, gone=True)
        about = Cell(about.text, "", about.rest, about.more)
        return (Cell("x", "muted"), Cell(one.what, "muted"), ago, about, by)

    def facts_of(self, one: Happened) -> Facts:
        """Facts for the filter."""
        wait, session = one.wait, one.session
        by = views.who_of(wait, self.console.store.now()) if wait is not None else None
        tags = (*wait.tags, *wait.session_tags) if wait is not None else ()
        return {
            "what": one.what,
            "by": by,
            "subject": one.about,
            "task": wait.task
            if wait is not None
            else session.task
            if session is not None
            else None,
            "tag": tags or tuple(session.tags if session is not None else ()),
            "session": one.session_id,
            "at": one.at,
        }

    def content_of(self, one: Happened, now: datetime) -> Content:
        """The wait with its answer, or the run's error, in full."""
        at = fact("at", f"{words.stamp(one.at)} ({words.ago(one.at, now)})")
        wait = one.wait
        if wait is None:
            assert one.session is not None, "it is one of both"
            parts = [
                safe.line(one.what, "bold $c-error"),
                fact("task", safe.line(one.session.task)),
                at,
            ]
            error = one.session.error.text if one.session.error is not None else ""
            return lines([*parts, Content(""), safe.text(error, limit=4_000)])
        parts = [*asked(wait), Content(""), fact("ended", one.what)]
        if by := words.resolver(wait):
            parts.append(fact("by", safe.line(by, limit=100)))
        parts.append(at)
        if wait.answer is not None:
            parts += [Content(""), head("Answer"), safe.text(pretty(wait.answer), limit=4_000)]
        return lines(parts)

    def empty_text(self) -> str:
        """Text of an empty list: nothing ended, or no match."""
        since = words.moment_ago(self.since, self.console.store.now())
        return super().empty_text() or f"Nothing ended or failed since {since}."

    def draw_pane(self) -> None:
        """Draw the pane, and read the answers of the rows on screen."""
        super().draw_pane()
        if self.found is None or not self.is_attached:
            return
        shown = [one.wait for key in self.list.on_screen() if (one := self.found.get(key))]
        if lacking := self.answers.lacking(wait for wait in shown if wait is not None):
            self.console.background.start(self._read(lacking), group="answers")

    async def _read(self, wait_ids: list[str]) -> None:
        await self.answers.read(wait_ids)
        if self.is_attached:
            self.list.refresh()
            self.draw_pane()

    def counts(self) -> Pairs:
        """`3 failed, 28 answered`."""
        if self.found is None:
            return (("asking the gateway…", "muted"),)
        of = [one.what for one in self.found.values()]
        order = dict.fromkeys(("failed", "blocked", *words.ENDED.values(), *of))
        said = ", ".join(f"{of.count(what)} {what}" for what in order if what in of)
        shown = f"{len(self.list.keys)} of " if self.filter else ""
        more = f"  the first {ENDED_MAX} waits" if self.is_cut else ""
        return ((f"{shown}{said or '0 ended'}{more}", "muted"),)

    def do_open(self) -> None:
        """Open the session."""
        if (one := self.selected()) is not None:
            self.app.push_screen(SessionScreen(one.session_id))

    def do_copy(self) -> None:
        """Copy ids, JSON or CLI command."""
        one = self.selected()
        if one is None:
            return
        items = [("session id", one.session_id)]
        if one.wait is not None:
            items = [("wait id", one.wait.id), *items]
            items.append(("JSON", one.wait.model_dump_json(by_alias=True, indent=2)))
            items.append(("CLI command", f"helmr wait get {one.wait.id}"))
        self.app.push_screen(copy_menu(self, items))
