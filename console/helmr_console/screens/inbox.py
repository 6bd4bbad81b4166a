"""The Inbox: waits a person can answer, soonest end first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from textual.content import Content
from textual.timer import Timer

from helmr.models import ClaimInfo, EntryInfo, WaitInfo, WaitStatus
from helmr.person import filters
from helmr.person.filters import Facts, parse
from helmr.person.review import granting, words
from helmr.person.review.agreement import is_for_others
from helmr_console import safe, views
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.ended import AnswersRead
from helmr_console.link import tail
from helmr_console.screens.answer import AnswerScreen, ReviewTurns
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.batch import BatchScreen, BatchSeenScreen
from helmr_console.screens.lists import ListScreen, NamedFilters
from helmr_console.screens.overlays import copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.wait_actions import WaitActions
from helmr_console.views import By, Cell, Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import head, lines, nothing_here, wait_content

PREVIEW_DELAY_S = 0.08
"""Rest of the cursor before the pane fills, in seconds, so that holding a key stays smooth."""
PREVIEWS_MAX = 200
ONE_AGE = timedelta(minutes=1)
"""Waits that all opened within this time show no age."""
LAST_ENTRIES = 16
"""Newest entries searched for the last words of a person or step."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A wait in full, with the end of its transcript."""

    wait: WaitInfo
    entries: tuple[EntryInfo, ...]


class InboxScreen(ListScreen[WaitInfo]):
    """The list of open waits, the operator's main screen."""

    AREA = "inbox"
    SCOPES = (
        ActionScope.ANYWHERE,
        ActionScope.LIST,
        ActionScope.AREA,
        ActionScope.MARKS,
        ActionScope.WAITS,
        ActionScope.ONE_WAIT,
    )
    BINDINGS = bindings(*SCOPES)
    FIELDS = filters.WAIT_FIELDS
    TITLE_TEXT = "Inbox"
    NOUN = "waits"
    SORTS = ("deadline", "mine first", "stream", "session", "age")
    COLUMNS = (
        Column("", 1),
        Column("", 1),
        Column("due", 9),
        Column("age", 7, from_width=84),
        Column("subject", 0, both_ends=True),
        Column("who", 14, yields=True),
    )
    HELP_TEXT = (
        "Waits that a person can answer. `!` ends in less than a minute, `▲` in less than ten; `x` has ended; `◆` is "
        "of high priority. `@ada` says whose it is, `○ gus` its claimant. The list does not move while you read: `.` "
        "lets new rows in. `a` opens the form for exactly the wait under the cursor; nothing is sent before its review."
    )

    def __init__(self) -> None:
        super().__init__()
        self.parts = (WaitActions(self), NamedFilters(self))
        self.show_ended = False
        self.by = By.NOTHING
        self._heads: dict[str, str] = {}
        """Text of each group's heading."""
        self._previews: OrderedDict[str, Preview] = OrderedDict()
        self._timer: Timer | None = None
        self.answers: AnswersRead

    def on_mount(self) -> None:
        """Prepare reading answers as ended waits come into view; Textual calls `on_mount` of every class."""
        self.answers = AnswersRead(self.console.client, self.console.store.put_wait)

    # --- rows

    def all_keys(self) -> Iterable[str]:
        """Open waits, followed by ended ones if shown."""
        store = self.console.store
        hidden = self.console.outbox.wait_ids | self._snoozed_ids()
        waits = [wait for wait in store.inbox() if wait.id not in hidden]
        match self.SORTS[self.sort]:
            case "mine first":
                mine, now = parse("is:mine", self.FIELDS), store.now()
                waits = sorted(waits, key=lambda w: not mine.matches(self.facts(w.id), now))
            case "stream":
                waits = sorted(waits, key=lambda w: w.stream or w.kind.value)
            case "session":
                waits = sorted(waits, key=lambda w: w.session_id)
            case "age":
                waits = sorted(waits, key=lambda w: w.opened_at)
            case _:  # as the store has them
                pass
        ended = store.ended_lately() if self.show_ended else []
        return [wait.id for wait in (*waits, *ended)]

    def keys(self) -> list[str]:
        """Waits that pass the filter, each group after its heading."""
        store, found = self.console.store, super().keys()
        if self.by is By.NOTHING:
            return found
        waits = [wait for key in found if (wait := store.wait(key)) is not None]
        keys: list[str] = []
        self._heads.clear()
        for name, group in views.in_groups(waits, self.by).items():
            self._heads[name] = views.head_text(name, self.by, group, store.now())
            keys += [views.head_of(name), *(wait.id for wait in group)]
        return keys

    def row(self, key: str) -> Row:
        """The row of a wait or heading; a wait that is over keeps its place and says so."""
        group = views.group_of(key)
        if group is not None:
            return views.group_row(f"── {self._heads.get(group, group)}")
        store = self.console.store
        wait = store.wait(key)
        if wait is None:
            return (Cell(""), Cell("x", "muted"), Cell("over", "muted"))
        gone = key not in store.waits
        stuck_since = store.stuck_since(wait.run_id) if gone else None
        snoozed = self.console.snoozed.text(key)
        return views.wait_row(
            wait,
            store.now(),
            gone=gone,
            stuck_since=stuck_since,
            snoozed=snoozed,
            draft=self.console.unsent.sign(key),
        )

    def _snoozed_ids(self) -> frozenset[str]:
        """Snoozed waits, which are hidden unless the filter asks for them."""
        if self.filter.says("snoozed"):
            return frozenset()
        snoozed = self.console.snoozed
        return frozenset(one for one in self.console.store.waits if snoozed.until(one) is not None)

    def filters(self) -> Mapping[str, str]:
        """The profile's filters."""
        return self.console.profile.filters

    def facts(self, key: str) -> Facts:
        """Facts for the filter."""
        store = self.console.store
        wait = store.wait(key)
        if wait is None:
            return {}
        snoozed = self.console.snoozed.until(key) is not None
        return filters.wait_facts(
            wait,
            store.now(),
            self.console.identity,
            snoozed=snoozed,
            drafted=bool(self.console.unsent.sign(key)),
        )

    def empty_text(self) -> str:
        """Text of an empty inbox."""
        store = self.console.store
        if self.filter and store.waits:
            return f"0 of {len(store.waits)} match. esc clears the filter."
        if store.health is None:
            return (
                "Asking the gateway…"
                if not store.freshness.failing
                else "The gateway does not answer."
            )
        running = store.health.counts.get("sessions_running")
        tail = f" {running} sessions are running." if running else ""
        return f"No waits need an answer.{tail} 2 shows all sessions."

    def counts(self) -> Pairs:
        """Number of waits, and of those not sent, snoozed, stuck or ended lately."""
        store = self.console.store
        snoozed_ids = self._snoozed_ids()
        hidden = (self.console.outbox.wait_ids | snoozed_ids) & store.waits.keys()
        total, shown = len(store.waits) - len(hidden), len(self.shown_rows())
        more = f">{total}" if store.waits_cut else f"{total}"
        text = f"{shown} of {more}" if self.filter else more
        noun = "wait" if text == "1" else self.NOUN
        over = "hides" if self.show_ended else "shows"
        told = (
            (len(self.console.unsent.open_ids()), "not sent", "warning"),
            (len(snoozed_ids), "snoozed", "muted"),
            (len(store.stuck()), "answered, not gone on yet", "warning"),
            (len(store.ended_lately()), f"ended, e {over}", "muted"),
        )
        more_of = [(f"   {count} {word}", role) for count, word, role in told if count]
        return ((f"{text} {noun}", "muted"), *more_of)

    def merge(self) -> None:
        """Show all rows, without the age column if all opened within a minute."""
        super().merge()
        waits = [wait for key in self.list.keys if (wait := self.console.store.wait(key))]
        opened = [wait.opened_at for wait in waits if wait.status is WaitStatus.PENDING]
        is_one_minute = bool(opened) and max(opened) - min(opened) < ONE_AGE
        self.list.left_out = frozenset({"age"} if is_one_minute and not self.show_ended else ())

    def shown_rows(self) -> list[str]:
        """Keys of the rows that are waits."""
        return [key for key in self.list.keys if views.group_of(key) is None]

    def _draw_title(self) -> None:
        store, now = self.console.store, self.console.store.now()
        by = f", by {self.by.value}" if self.by else ""
        parts = [f"{self.TITLE_TEXT}{by}", *views.figures(store.inbox(), now)]
        title = " · ".join([*parts, *filter(None, [store.answered_today()])])
        self.query_one("#frame").border_title = Content(title)

    # --- the pane

    def selected(self) -> WaitInfo | None:
        """The wait under the cursor, in full if it was read."""
        key = self.list.cursor
        if key is None:
            return None
        known = self.console.store.wait(key)
        preview = self._previews.get(key)
        if known is not None and preview is not None and known.json_schema is None:
            full = preview.wait
            return known.model_copy(
                update={
                    "body": full.body,
                    "evidence": full.evidence,
                    "links": full.links,
                    "json_schema": full.json_schema,
                    "initial": full.initial,
                    "comments": full.comments,
                    "task": full.task,
                }
            )
        return known

    def moved(self) -> None:
        """Show the known part at once; read the rest when the cursor rests."""
        self.draw_pane()
        if self._timer is not None:
            self._timer.stop()
        if self._wants_preview():
            self._timer = self.set_timer(PREVIEW_DELAY_S, self._ask_preview)

    def tick(self) -> None:
        """Redraw countdowns in title and pane."""
        super().tick()
        self._draw_title()
        self.draw_pane()

    def store_changed(self) -> None:
        """Remove waits that were answered or snoozed here at once; redraw the rest."""
        leaving = self.console.store.own | self.console.outbox.wait_ids | self._snoozed_ids()
        own = leaving & set(self.rows.shown)
        if own and self.is_attached and not self.show_ended:
            left = self.rows.take_away(own, self.list.cursor)
            self.list.marks -= own
            self.list.set_keys(left.keys, left.cursor)
        super().store_changed()
        if self.is_attached:
            self._draw_title()
            if self._wants_preview() and self._timer is None:
                self.moved()

    def _read_answers(self) -> None:
        if not self.show_ended or not self.is_attached:
            return
        ended = self.console.store.ended
        shown = [ended[key] for key in self.list.on_screen() if key in ended]
        if lacking := self.answers.lacking(shown):
            self.console.background.start(self._answers_read(lacking), group="answers")

    async def _answers_read(self, wait_ids: list[str]) -> None:
        await self.answers.read(wait_ids)
        self.list.refresh()

    def _wants_preview(self) -> bool:
        key = self.list.cursor
        return key is not None and key not in self._previews and views.group_of(key) is None

    def _ask_preview(self) -> None:
        self._timer = None
        key = self.list.cursor
        if key is not None and self._wants_preview():
            self.console.background.start(self._load_preview(key), group="preview", exclusive=True)

    async def _load_preview(self, key: str) -> None:
        client, store = self.console.client, self.console.store
        known = store.waits.get(key)
        wait = await client.waits.get(key)
        entries = await tail(client, wait.session_id, LAST_ENTRIES)
        self._previews[key] = Preview(wait, tuple(entries))
        while len(self._previews) > PREVIEWS_MAX:
            self._previews.popitem(last=False)
        if store.waits.get(key) is known:  # else a newer version came meanwhile
            store.put_wait(wait)
        self.draw_pane()
        self.refresh_bars()

    def draw_pane(self) -> None:
        self._read_answers()
        wait = self.selected()
        group = views.group_of(self.list.cursor or "")
        if group is not None:
            about = "space marks the group, B then answers what is marked"
            self.pane.say(
                lines([safe.line(self._heads.get(group, group), "bold"), head(about)]), "Group"
            )
            return
        if wait is None:
            self.pane.say(nothing_here(self.filter_text, "What a row asks is shown here."), "Wait")
            return
        preview = self._previews.get(wait.id)
        content = wait_content(
            wait,
            preview.entries if preview is not None else (),
            now=self.console.store.now(),
            me=self.console.identity,
            loaded=preview is not None or wait.json_schema is not None,
            width=self.pane.size.width - 2,
            narrow=self.has_class("-narrow") and not self.has_class("zoomed"),
        )
        self.pane.say(content, "Wait")

    # --- actions

    def context(self) -> ActionContext:
        """The context of the selected wait, and whether it can be answered."""
        wait = self.selected()
        over = words.wait_over(wait, self.console.store.now()) if wait is not None else ""
        if views.group_of(self.list.cursor or "") is not None:
            over = "a heading is selected; j goes to its first wait"
        elif self.list.cursor is not None and (
            wait is None or self.list.cursor in self.rows.gone()
        ):
            over = over or "the wait is over"
        ended = self.console.store.ended.get(self.list.cursor or "")
        return replace(
            super().context(),
            wait=wait is not None,
            wait_over=over,
            call=wait is not None and granting.is_call(wait),
            own_answer=bool(over) and words.is_by(ended, self.console.identity),
        )

    def do_zoom(self) -> None:
        """Zoom the pane and redraw it, because alone it shows more."""
        super().do_zoom()
        self.call_after_refresh(self.draw_pane)

    def do_open(self) -> None:
        """Open the wait's session, or the pane on a narrow screen; answering needs its own key."""
        self.do_zoom() if self.has_class("-narrow") else self.do_session()

    wait_in_front = selected

    def claim_changed(self, claim: ClaimInfo | None) -> None:
        """Do nothing; the row shows the claim."""

    def seen_to(self) -> None:
        """Remove the row at once."""
        self.show_now()

    def do_answer(self) -> None:
        """Open the form of the wait under the cursor."""
        if self.list.cursor is not None:
            self.app.push_screen(AnswerScreen(self.list.cursor))

    def do_next(self) -> None:
        """Review waits one after the other, from the one under the cursor on."""
        cursor = self.list.cursor
        waits = self.console.store.waits
        keys = [key for key in self.list.keys if key in waits]
        if cursor in keys:
            begun = keys[keys.index(cursor) :]
            begun = [key for key in begun if not is_for_others(waits[key])]
            work = self._review(ReviewTurns(self.console, begun, super().keys))
            self.console.background.start(work, group="next", holds_keys=True)

    async def _review(self, turns: ReviewTurns) -> None:
        first = await turns.take_free()
        if first is not None:
            self.app.push_screen(first)
        else:
            self.console.say(turns.ended_text(), "information")

    def do_session(self) -> None:
        """Open the wait's session."""
        wait = self.selected()
        if wait is not None:
            self.app.push_screen(SessionScreen(wait.session_id))

    def do_batch(self) -> None:
        """Open one form for the marked waits."""
        marked = [key for key in self.all_keys() if key in self.list.marks]
        lead = self.list.cursor if self.list.cursor in self.list.marks else marked[0]
        self.app.push_screen(BatchScreen(marked, lead))

    def do_batch_seen(self) -> None:
        """Show the last batch."""
        if self.console.batch is not None:
            self.app.push_screen(BatchSeenScreen(self.console.batch))

    def do_mark(self) -> None:
        """Mark a wait and go to the next; on a heading, mark its group."""
        group = views.group_of(self.list.cursor or "")
        if group is None:
            super().do_mark()
            return
        store = self.console.store
        inside = {
            key
            for key in self.shown_rows()
            if (wait := store.wait(key)) is not None and views.name_of(wait, self.by) == group
        }
        self.list.marks = (
            self.list.marks - inside if inside <= self.list.marks else self.list.marks | inside
        )
        self.list.refresh()

    def do_mark_range(self) -> None:
        """Mark a range, waits only."""
        super().do_mark_range()
        self.list.marks &= set(self.shown_rows()) | set(self.all_keys())

    def do_group(self) -> None:
        """Group by the next property."""
        self.by = self.by.next
        self.show_now()
        self.list.show_top()
        self._draw_title()

    def do_over(self) -> None:
        """Show or hide ended waits below the open ones."""
        self.show_ended = not self.show_ended
        self.show_now()

    def do_copy(self) -> None:
        """Copy a wait's ids, JSON or CLI command."""
        wait = self.selected()
        if wait is None:
            return
        items = [("wait id", wait.id), ("session id", wait.session_id), ("run id", wait.run_id)]
        if wait.token_id:
            items.append(("token id", wait.token_id))
        if wait.correlation_id:
            items.append(("correlation id", wait.correlation_id))
        items.append(("JSON", wait.model_dump_json(by_alias=True, indent=2)))
        items.append(("CLI command", f"helmr wait get {wait.id}"))
        self.app.push_screen(copy_menu(self, items))
