"""The area Sessions: read page by page, newest activity first, never all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from textual.content import Content
from textual.widgets import Input

from helmr.client.aio import AsyncClient
from helmr.errors import BadId, NotFound, UsageError
from helmr.models import BULK_RUNS_MAX, BulkPlan, BulkVerb, SessionInfo
from helmr.person import filters
from helmr.person.filters import Facts
from helmr.person.forms import pretty
from helmr.person.review import words
from helmr_console import safe, views
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.bulk import LISTED_MAX, BulkBatch
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.store import SESSIONS_MAX, Store
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

PAGE_ROWS = 100
NEAR_END = 20
REFRESH_MAX = 20
"""Most sessions read again at once after entries of the feed touched them."""


class SessionsScreen(ListScreen[SessionInfo]):
    """All sessions."""

    AREA = "sessions"
    SCOPES = (
        ActionScope.ANYWHERE,
        ActionScope.LIST,
        ActionScope.AREA,
        ActionScope.MARKS,
        ActionScope.SESSIONS,
    )
    BINDINGS = bindings(*SCOPES)
    FIELDS = filters.SESSION_FIELDS
    TITLE_TEXT = "Sessions, newest activity first"
    NOUN = "sessions"
    PANE = "Session"
    HINT = "What a session is at is shown here."
    SORTS = ("activity", "created", "task", "state")
    MARK_ALL_ASKS = None
    COLUMNS = (
        Column("", 1),
        Column("state", 9),
        Column("task", 16),
        Column("waits for", 0),
        Column("external id", 16, from_width=90),
        Column("quiet", 7, right=True),
        Column("session", 11, from_width=80),
    )
    HELP_TEXT = (
        "The console reads sessions page by page as you scroll. The gateway applies a filter with `task:`, `status:`, "
        "`activity:`, `tag:` or `external:`; other words search the pages that were read. Paste an id and press "
        "Enter to find its session."
    )

    def __init__(self) -> None:
        super().__init__()
        self._order: list[str] = []
        self._cursor: str | None = None
        self._more = True
        self._asking = False
        self._pushed: dict[str, str] = {}

    def on_mount(self) -> None:
        """Ask for the first page."""
        super().on_mount()
        self._ask()

    # --- rows

    def all_keys(self) -> Iterable[str]:
        """Sessions that were read, in the chosen order."""
        found = [
            self.console.store.sessions[key]
            for key in self._order
            if key in self.console.store.sessions
        ]
        if self.sort == 0:
            found.sort(key=lambda s: s.updated_at, reverse=True)
        elif self.sort == 1:
            found.sort(key=lambda s: s.created_at, reverse=True)
        elif self.sort == 2:
            found.sort(key=lambda s: s.task)
        else:
            found.sort(key=lambda s: (s.status.value, s.activity.value))
        return [session.id for session in found]

    def things(self) -> Mapping[str, SessionInfo]:
        """Sessions that were read, by id."""
        return self.console.store.sessions

    def row_of(self, session: SessionInfo, now: datetime) -> Row:
        """The row of a session."""
        return views.session_row(session, now)

    def facts_of(self, session: SessionInfo) -> Facts:
        """Facts for the filter."""
        return filters.session_facts(session)

    def empty_text(self) -> str:
        """Text of an empty list."""
        if self._asking:
            return "Asking the gateway…"
        if self.filter:
            return "None of the sessions read match. Enter looks the word up as an id; esc clears the filter."
        return "No sessions yet. helmr session start starts one."

    def counts(self) -> Pairs:
        """Number of sessions read; `+` if there are more."""
        shown, total = len(self.list.keys), len(self._order)
        cut = "+" if self._more else ""
        text = f"{shown} of {total}{cut}" if self.filter else f"{total}{cut}"
        known = self.console.store.health
        all_of = known.counts.get("sessions_total") if known is not None else None
        tail = f" of {all_of}" if all_of is not None and not self.filter else ""
        return ((f"{text} read{tail}", "muted"),)

    # --- pages

    def _ask(self, *, again: bool = False) -> None:
        if again:
            self._order, self._cursor, self._more = [], None, True
        if self._more and (again or not self._asking) and len(self._order) < SESSIONS_MAX:
            self._asking = True
            self.console.background.start(
                self._load(dict(self._pushed)),
                group="sessions",
                exclusive=True,
                on_error=self._failed,
            )

    async def _load(self, pushed: dict[str, str]) -> None:
        await self._page(pushed)
        self.show_now()
        # A page without a match must not look like the end.
        if self._more and self.filter and len(self.list.keys) < PAGE_ROWS // 4:
            self._ask()

    async def _page(self, pushed: dict[str, str]) -> None:
        page = await self.console.client.sessions.page(
            limit=PAGE_ROWS, cursor=self._cursor, **pushed
        )
        self._asking = False
        self.console.store.put_sessions(page.items)
        known = set(self._order)
        self._order += [session.id for session in page.items if session.id not in known]
        self._cursor, self._more = page.next_cursor, page.next_cursor is not None

    def _failed(self, text: str) -> None:
        self._asking = False
        self.list.empty = "The gateway does not answer; r asks again."
        self.refresh_bars()

    def moved(self) -> None:
        """Ask for the next page near the end of the list."""
        if self.list.index >= len(self.list.keys) - NEAR_END:
            self._ask()
        self.draw_pane()

    def filter_changed(self) -> None:
        """Ask the gateway again if its part of the filter changed."""
        pushed = self.filter.pushed()
        if pushed != self._pushed:
            self._pushed = pushed
            self._ask(again=True)

    def store_changed(self) -> None:
        """Read the sessions that the feed touched again, at most `REFRESH_MAX` at a time."""
        store = self.console.store
        dirty = [key for key in store.sessions_dirty if key in store.sessions]
        fresh = [key for key in store.sessions_dirty if key not in store.sessions]
        if self.is_attached and self.app.screen is self and (dirty or (fresh and not self._pushed)):
            chosen = [*dirty, *(fresh if not self._pushed else [])][:REFRESH_MAX]
            store.sessions_dirty -= set(chosen)
            self.console.background.start(self._refresh(chosen), group="refresh")
        super().store_changed()

    async def _refresh(self, chosen: Sequence[str]) -> None:
        found: list[SessionInfo] = []
        for key in chosen:
            try:
                found.append(await self.console.client.sessions.open(key).get())
            except (NotFound, BadId):
                continue
        self.console.store.put_sessions(found)
        known = set(self._order)
        self._order += [session.id for session in found if session.id not in known]
        super().store_changed()
        self.draw_pane()

    def tick(self) -> None:
        """Read the remaining touched sessions, and those near the cursor that may wait for a limit."""
        super().tick()
        if self.console.store.places_are_old():
            first = max(0, self.list.index - REFRESH_MAX // 2)
            near = self.list.keys[first : first + REFRESH_MAX]
            self.console.store.touch_going_on(near)
        if self.console.store.sessions_dirty:
            self.store_changed()

    # --- the pane

    def content_of(self, session: SessionInfo, now: datetime) -> Content:
        """A session's summary."""
        return session_content(session, now)

    # --- actions

    def context(self) -> ActionContext:
        """The context with the session's status and the possible bulk actions."""
        session = self.selected()
        status = session.status if session is not None else None
        now, chosen = self.console.store.now(), self._chosen()
        takes = (v for v in BulkVerb if any(v.takes(one, now, end_input=True) for one in chosen))
        return replace(super().context(), session_status=status, bulk=frozenset(takes))

    def _chosen(self) -> list[SessionInfo]:
        """The marked sessions, else the one under the cursor."""
        marked = [key for key in self.all_keys() if key in self.list.marks]
        cursor = [self.list.cursor] if self.list.cursor is not None else []
        sessions = (self.console.store.sessions.get(key) for key in marked or cursor)
        return [one for one in sessions if one is not None]

    def do_sessions_retry(self) -> None:
        """Retry the chosen sessions' runs, after a page to read."""
        self._bulk(BulkVerb.RETRY)

    def do_sessions_cancel(self) -> None:
        """Cancel the chosen sessions' runs, after a page to read."""
        self._bulk(BulkVerb.CANCEL)

    def do_sessions_close(self) -> None:
        """Close the chosen sessions, after a page to read."""
        self._bulk(BulkVerb.CLOSE)

    def do_sessions_prune(self) -> None:
        """Prune the chosen sessions, after a page to read."""
        self._bulk(BulkVerb.PRUNE)

    def _bulk(self, verb: BulkVerb) -> None:
        now = self.console.store.now()
        chosen = [one for one in self._chosen() if verb.takes(one, now, end_input=True)]
        reading = self._show_plan(verb, [one.id for one in chosen])
        self.console.background.start(reading, group="bulk", holds_keys=True)

    async def _show_plan(self, verb: BulkVerb, session_ids: Sequence[str]) -> None:
        """Read each run again, which fixes the attempt that is acted on, and open the page."""
        if len(session_ids) > LISTED_MAX:
            self.console.say(f"Reading {len(session_ids)} runs…", "information")
        plan = await self.console.client.bulk.preview(
            verb, session_ids=session_ids[:BULK_RUNS_MAX], end_input=verb is BulkVerb.CLOSE
        )
        if not plan.runs:
            self.console.say(f"None of them is there to {verb.value} any more", "warning")
            return
        if len(session_ids) > BULK_RUNS_MAX:
            self.console.say(f"There are more: these are the first {BULK_RUNS_MAX}", "warning")
        begun = self.list.marks.difference_update
        batch = BulkBatch(plan, self.console, keep=self._keep, begun=begun)
        self.app.push_screen(batch.screen(self.context()))

    async def _keep(self, plan: BulkPlan) -> None:
        try:
            await asyncio.to_thread(self.console.files.bulk.save, plan)
        except OSError as error:
            raise UsageError(
                f"nothing was done: the runs can't be kept: {error.strerror}"
            ) from error

    def do_mark_all(self) -> None:
        """Mark all sessions that pass the filter; with a filter, read the remaining pages first."""
        if self.filter and self._more:
            reading = self._read_rest()
            self.console.background.start(reading, group="mark", exclusive=True, holds_keys=True)
        else:
            super().do_mark_all()

    async def _read_rest(self) -> None:
        """Read every page, then mark all."""
        while self._more and len(self._order) < SESSIONS_MAX:
            await self._page(dict(self._pushed))
        self.show_now()
        super().do_mark_all()

    def show_failed(self) -> None:
        """Show only sessions that failed or are blocked."""
        self.set_filter("is:failed,blocked")

    def do_open(self) -> None:
        """Open the session."""
        if self.list.cursor is not None:
            self.app.push_screen(SessionScreen(self.list.cursor))

    def do_copy(self) -> None:
        """Copy a session's ids, JSON or CLI command."""
        session = self.selected()
        if session is None:
            return
        items = [
            ("session id", session.id),
            ("JSON", session.model_dump_json(by_alias=True, indent=2)),
        ]
        if session.external_id:
            items.insert(1, ("external id", session.external_id))
        items.append(("CLI command", f"helmr session get {session.id}"))
        self.app.push_screen(copy_menu(self, items))

    def do_refresh(self) -> None:
        """Read the list again."""
        self.console.ask_again()
        self._ask(again=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open the session of a whole id on enter, listed or not; keep any other filter."""
        super().on_input_submitted(event)
        word = self.filter_text.strip().strip('"')
        if not word or " " in word:
            return
        keys = self.list.keys
        # A pasted correlation id may parse as an unknown field.
        if self.filter_problem or not keys or (len(keys) == 1 and word in self._ids(keys[0])):
            self.console.background.start(self._look_up(word), group="lookup", holds_keys=True)

    def _ids(self, key: str) -> tuple[str | None, ...]:
        """Ids that name only this session."""
        session = self.console.store.sessions.get(key)
        if session is None:
            return (key,)
        wait = session.wait
        names = (wait.id, wait.run_id, wait.correlation_id) if wait is not None else ()
        return (key, session.external_id, *names)

    async def _look_up(self, word: str) -> None:
        session_id = await find_session(self.console.client, self.console.store, word)
        if session_id is None:
            self.console.say(f"No session, wait or external id is {word[:60]}", "warning")
            return
        session = await self.console.client.sessions.open(session_id).get()
        self.console.store.put_sessions([session])
        if session.id not in self._order:
            self._order.append(session.id)
        self.set_filter("")
        self.app.push_screen(SessionScreen(session.id))


async def find_session(client: AsyncClient, store: Store, word: str) -> str | None:
    """Find the session by a pasted id: its own, a wait's, a run's, an external or a correlation id."""
    word = word.partition(":")[2] if word.startswith(("external:", "id:")) else word
    for wait in store.waits.values():
        if word in (wait.id, wait.correlation_id, wait.run_id):
            return wait.session_id
    try:
        if word.startswith("ses_"):
            return (await client.sessions.open(word).get()).id
        if word.startswith("wait_"):
            return (await client.waits.get(word)).session_id
        if word.startswith("run_"):
            return (await client.runs.get(word)).session_id
        return (await client.sessions.find(word)).id
    except (NotFound, BadId):
        return None


def _failure(session: SessionInfo) -> list[Content]:
    """The whole error of the newest run, and the key that retries it; empty without an error."""
    if session.error is None:
        return []
    found = [safe.text(session.error.text, "$c-error", limit=2_000)]
    return [
        *found,
        *([head("R retries it")] if BulkVerb.RETRY.takes(session, session.updated_at) else []),
        Content(""),
    ]


def session_content(session: SessionInfo, now: datetime) -> Content:
    """A session's summary."""
    state, sign, role = views.session_state(session)
    role = "error" if role == "error" else "accent"
    parts = [
        Content.assemble(
            safe.line(session.task, "bold", limit=60),
            ("  ", ""),
            (f"{sign} {state}".strip(), f"bold $c-{role}"),
        ),
        *_failure(session),
        fact("session", safe.line(session.id, limit=80)),
    ]
    if session.external_id:
        parts.append(fact("external id", safe.line(session.external_id, limit=260)))
    if session.tags:
        parts.append(fact("tags", safe.line(", ".join(session.tags), limit=300)))
    parts.append(
        fact(
            "created",
            f"{words.stamp(session.created_at)} ({words.ago(session.created_at, now)})",
        )
    )
    parts.append(fact("changed", words.ago(session.updated_at, now)))
    if session.queued_for is not None:
        parts.append(fact("run", safe.line(session.queued_for.text, "$c-warning")))
    elif session.queued_at is not None:
        queued = safe.line(views.queued_text(session.queued_at, now), "$c-warning")
        parts.append(fact("run", queued))
    wait = session.wait
    if wait is not None:
        due = words.of_wait(wait, now)
        parts += [Content(""), head("Waits for"), safe.line(words.subject_of(wait), "bold")]
        parts.append(fact("kind", safe.line(f"{wait.kind.value} {wait.stream or ''}", limit=80)))
        parts.append(fact("due", due.full_text))
    parts += [safe.line(f"! {warning}", "$c-warning", limit=300) for warning in session.warnings]
    if session.metadata:
        parts += [Content(""), head("Metadata"), safe.text(pretty(session.metadata), limit=4_000)]
    return lines(parts)
