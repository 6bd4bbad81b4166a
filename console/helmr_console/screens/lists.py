"""The base of screens with a list: filter, sort, marks, rows that stand still, a pane, filters by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial, partialmethod
from typing import Any, ClassVar, Generic, TypeVar

from textual.containers import Container, Vertical
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from helmr.client.profiles import BUILT_IN, NAME_MAX
from helmr.errors import BadFilter, HelmrError
from helmr.person.filters import Facts, Fields, Filter, parse
from helmr.person.review.queue import KeyedList
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.views import Row
from helmr_console.widgets.field_row import PasteCut, SafeInput
from helmr_console.widgets.lines import Column, LineList
from helmr_console.widgets.panes import TextPane, nothing_here

LAYOUTS = {"wider": "a wider pane", "below": "the pane below", "alone": "the list alone"}
"""CSS classes of the layouts, and their words."""
STILL_S = 10.0
"""Rest of the cursor before new rows come in by themselves, in seconds."""


T = TypeVar("T")


class ListScreen(ConsoleScreen, Generic[T]):
    """A list with a filter, and a pane beside it with the selected thing in full.

    Subclasses give the things by key, the row, the full content and the filter's facts of each.
    """

    COLUMNS: ClassVar[Sequence[Column]] = ()
    FIELDS: ClassVar[Fields]
    TITLE_TEXT = ""
    NOUN = ""
    PANE = ""
    """Title of the pane."""
    HINT = ""
    """Text of the pane when nothing is selected."""
    NONE = ""
    """Text of an empty list."""
    SORTS: ClassVar[tuple[str, ...]] = ()
    MARK_ALL_ASKS: ClassVar[int | None] = 50
    """Rows above which `*` must be pressed twice; None where actions on marks ask for the number themselves."""
    DEFAULT_CSS = """
    ListScreen #filter { display: none; }
    ListScreen.filtering #filter { display: block; }
    ListScreen #middle { layout: horizontal; height: 1fr; }
    ListScreen.-narrow #middle { layout: vertical; }
    ListScreen #frame { border: round $c-border; width: 3fr; height: 1fr; border-title-color: $c-muted;
                        border-subtitle-color: $c-muted; }
    ListScreen #frame:focus-within { border: round $c-accent; border-title-color: $c-foreground; }
    ListScreen #pane { width: 2fr; height: 1fr; }
    ListScreen.-narrow #frame { width: 1fr; }
    ListScreen.-narrow #pane { width: 1fr; height: 7; }
    ListScreen.-tall #middle { layout: vertical; }
    ListScreen.-tall #frame { width: 1fr; height: 3fr; }
    ListScreen.-tall #pane { width: 1fr; height: 2fr; }
    ListScreen.-xwide #middle { layout: horizontal; }
    ListScreen.-xwide #frame { width: 3fr; height: 1fr; }
    ListScreen.-xwide #pane { width: 2fr; height: 1fr; }
    ListScreen.wider #middle { layout: horizontal; }
    ListScreen.wider #frame { width: 2fr; height: 1fr; }
    ListScreen.wider #pane { width: 3fr; height: 1fr; }
    ListScreen.below #middle { layout: vertical; }
    ListScreen.below #frame { width: 1fr; height: 1fr; }
    ListScreen.below #pane { width: 1fr; height: 1fr; }
    ListScreen.alone #frame { width: 1fr; height: 1fr; }
    ListScreen.alone #pane { display: none; }
    ListScreen.zoomed #frame { display: none; }
    ListScreen.zoomed #pane { display: block; }
    ListScreen.zoomed #pane { width: 1fr; height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = KeyedList()
        self.filter = Filter(self.FIELDS)
        self.filter_text = ""
        self.filter_problem = ""
        self._filter_before = ""
        self.sort = 0
        self.reversed = False
        self.loaded = False
        self._rested_s = 0.0
        self._mark_from: str | None = None
        self.list = LineList(self.COLUMNS, self.row, id="list")
        self.pane = TextPane(id="pane")

    def body(self) -> Iterable[Widget]:
        """The filter line, the list and its pane."""
        yield SafeInput(id="filter", placeholder="filter", select_on_focus=False)
        frame = Vertical(self.list, id="frame")
        frame.border_title = Content(self.TITLE_TEXT)
        yield Container(frame, self.pane, id="middle")

    def on_mount(self) -> None:
        """Focus the list, and show what is known."""
        self._rested_s = self.console.store.mono()
        self.list.focus()
        self.store_changed()

    # --- for subclasses

    def all_keys(self) -> Iterable[str]:
        """Keys of all rows, in the chosen order."""
        return ()

    def things(self) -> Mapping[str, T] | None:
        """The things by key; None before the first read."""
        return {}

    def row_of(self, one: T, now: datetime) -> Row:
        """The row of a thing."""
        return ()

    def facts_of(self, one: T) -> Facts:
        """Facts of a thing for the filter."""
        return {}

    def content_of(self, one: T, now: datetime) -> Content:
        """A thing in full."""
        return Content("")

    def selected(self) -> T | None:
        """The thing under the cursor."""
        return (self.things() or {}).get(self.list.cursor or "")

    def row(self, key: str) -> Row:
        """The current row of a key."""
        one = (self.things() or {}).get(key)
        return self.row_of(one, self.console.store.now()) if one is not None else ()

    def facts(self, key: str) -> Facts:
        """Facts of a row for the filter."""
        one = (self.things() or {}).get(key)
        return self.facts_of(one) if one is not None else {}

    def empty_text(self) -> str:
        """Text of the list when it has no rows."""
        known = self.things()
        if known is None:
            return "Asking the gateway…"
        if self.filter and known:
            return f"0 of {len(known)} match. esc clears the filter."
        return self.NONE

    def draw_pane(self) -> None:
        """Draw the selected thing in full."""
        one, now = self.selected(), self.console.store.now()
        hint = nothing_here(self.filter_text, self.HINT)
        self.pane.say(self.content_of(one, now) if one is not None else hint, self.PANE)

    def filters(self) -> Mapping[str, str]:
        """Filters by name."""
        return {}

    def moved(self) -> None:
        """Redraw the pane for the cursor's new row."""
        self.draw_pane()

    # --- the list

    def keys(self) -> list[str]:
        """Keys of the rows that pass the filter, in order."""
        now = self.console.store.now()
        found = [
            key
            for key in self.all_keys()
            if not self.filter or self.filter.matches(self.facts(key), now)
        ]
        return found[::-1] if self.reversed else found

    def store_changed(self) -> None:
        """Offer the current rows; they come in once the list may change."""
        if self.is_attached:
            self.rows.offer(self.keys())
            if not self.rows.shown or self._may_merge():
                self.merge()
        super().store_changed()
        if self.is_attached:
            self.list.empty = self.empty_text()
            self.list.refresh()
            self.draw_pane()

    def merge(self) -> None:
        """Take in new and gone rows; the cursor stays on its row."""
        merged = self.rows.merge(self.list.cursor)
        self.list.marks &= {*merged.keys, *self.all_keys()}
        self.list.set_keys(merged.keys, merged.cursor)

    def show_now(self) -> None:
        """Show the current rows at once, because the operator asked for another view."""
        self.rows.offer(self.keys())
        self.merge()
        self.list.empty = self.empty_text()
        self.list.refresh()
        self.refresh_bars()

    def tick(self) -> None:
        """Redraw countdowns, and take in rows once the cursor has rested."""
        if self._may_merge() and self.rows.pending():
            self.merge()
        self.list.refresh()
        super().tick()

    def _may_merge(self) -> bool:
        on_top = self.app.screen is self
        rested = self.console.store.mono() - self._rested_s >= STILL_S
        quiet = not self.list.marks and not self.has_class("filtering")
        return on_top and rested and quiet and self.app.app_focus and not self.console.paused_text()

    def on_line_list_cursor_moved(self) -> None:
        """Restart the cursor's rest, and redraw the pane."""
        self._rested_s = self.console.store.mono()
        self.moved()
        self.refresh_bars()

    async def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Open the row on enter or a second click."""
        event.stop()
        await self.perform("open")

    def context(self) -> ActionContext:
        """The context with row and marks."""
        base = super().context()
        return replace(
            base,
            row=self.list.cursor is not None,
            marked=len(self.list.marks),
            pending=self.rows.pending().added + self.rows.pending().gone,
        )

    # --- actions

    def _move(self, by: int) -> None:
        self.list.action_move(by)

    do_list_down = partialmethod(_move, 1)
    do_list_up = partialmethod(_move, -1)

    def do_list_first(self) -> None:
        """Move to the first row."""
        self.list.move_to(0)

    def do_list_last(self) -> None:
        """Move to the last row."""
        self.list.move_to(len(self.list.keys) - 1)

    do_merge = merge

    def do_mark(self) -> None:
        """Mark or unmark the row, and go to the next."""
        self._mark_from = self.list.cursor
        self.list.toggle_mark()
        self.list.action_move(1)

    def do_mark_range(self) -> None:
        """Mark from the last mark to here."""
        keys = self.list.keys
        start = keys.index(self._mark_from) if self._mark_from in keys else self.list.index
        low, high = sorted((start, self.list.index))
        self.list.marks |= set(keys[low : high + 1])
        self.list.refresh()

    def shown_rows(self) -> list[str]:
        """Keys of the rows that can be marked."""
        return self.list.keys

    def do_mark_all(self) -> None:
        """Mark all rows shown."""
        count, most = len(self.shown_rows()), self.MARK_ALL_ASKS
        if most is not None and count > most and not self.has_class("asked"):
            self.add_class("asked")
            self.console.say(
                f"{count} rows would be marked; press * again to mark them all", "warning"
            )
            return
        self.remove_class("asked")
        self.list.marks |= set(self.shown_rows())
        self.list.refresh()

    def do_sort(self) -> None:
        """Sort by the next column."""
        if self.SORTS:
            self.sort = (self.sort + 1) % len(self.SORTS)
            self.show_now()

    def do_sort_reverse(self) -> None:
        """Reverse the order."""
        self.reversed = not self.reversed
        self.show_now()

    def do_layout(self) -> None:
        """Switch to the next layout of list and pane."""
        names = ("", *LAYOUTS)
        here = next((name for name in LAYOUTS if self.has_class(name)), "")
        chosen = names[(names.index(here) + 1) % len(names)]
        self.remove_class(*LAYOUTS)
        if chosen:
            self.add_class(chosen)
        self.console.say(f"Layout: {LAYOUTS.get(chosen, 'as the window is')}", "information")
        self.call_after_refresh(self._laid_out)

    def _laid_out(self) -> None:
        self.list.show_top()
        self.moved()

    def do_zoom(self) -> None:
        """Show the pane alone, or both."""
        self.toggle_class("zoomed")
        if not self.has_class("zoomed"):
            self.list.focus()

    def do_filter(self) -> None:
        """Open the filter line."""
        self._filter_before = self.filter_text
        self.add_class("filtering")
        field = self.query_one("#filter", SafeInput)
        field.value = self.filter_text
        field.action_select_all()  # typing replaces the text; an arrow edits it
        field.focus()

    def do_back(self) -> None:
        """Close, else clear marks, else clear the filter."""
        if self.has_class("filtering"):
            self.set_filter(self._filter_before)
            self._close_filter()
        elif self.has_class("zoomed"):
            self.do_zoom()
        elif self.list.marks:
            self.list.marks.clear()
            self.list.refresh()
        elif self.filter_text:
            self.set_filter("")
        else:
            super().do_back()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the list while the operator types."""
        event.stop()
        if event.input.id == "filter" and self.has_class("filtering"):
            self.set_filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter on enter."""
        event.stop()
        if event.input.id == "filter":
            self._close_filter()

    def set_filter(self, text: str) -> None:
        """Show the rows that pass; a filter that can't be parsed changes nothing and shows why."""
        self.filter_text = text
        try:
            self.filter = parse(self.filters().get(text.strip(), text), self.FIELDS)
        except BadFilter as error:
            self.filter_problem = one_line(f"{error.message}. {error.hint or ''}", 200)
        else:
            self.filter_problem = ""
            self.filter_changed()
            self.show_now()
        self.refresh_bars()

    def filter_changed(self) -> None:
        """Act on a new filter."""

    def _close_filter(self) -> None:
        self.remove_class("filtering")
        self.list.focus()
        self.refresh_bars()

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the filter line while it is open."""
        if not self.has_class("filtering"):
            return super().focus_help()
        fields = self.FIELDS
        return "The filter", (
            'a word finds rows that contain it; quote "two words" and "a:b"; a row must match all words',
            f"a field equals a value: {', '.join(f'{name}:' for name in fields.texts)}",
            "several values with commas (kind:input,token), a prefix with * (task:pub*), -field:value for all others",
            f"times: {', '.join(f'{name}<10m {name}>1h' for name in fields.times)}",
            "enter keeps the filter, esc returns to the one before",
        )

    # --- status line

    def status(self) -> tuple[Pairs, Pairs]:
        """The filter or its problem, and the counts."""
        if self.filter_problem:
            left: Pairs = ((self.filter_problem, "error"),)
        elif self.filter_text:
            left = (("/ ", "muted"), (one_line(self.filter_text, 200), "foreground"))
        else:
            left = (("no filter", "muted"),)
        right: list[tuple[str, str]] = [*self.counts()]
        if self.SORTS and (self.sort or self.reversed):
            right.append(
                (f"   by {self.SORTS[self.sort]}{' reversed' if self.reversed else ''}", "muted")
            )
        if self.list.marks:
            hidden = len(self.list.marks - set(self.list.keys))
            more = f", {hidden} not shown" if hidden else ""
            right.append((f"   {len(self.list.marks)} marked{more}", "strong"))
        if paused := self.console.paused_text():
            right.append((f"   {paused}", "warning"))
        pending = self.rows.pending()
        if pending:
            right.append((f"   {pending.text()}, . merges", "accent"))
        return left, tuple(right)

    def counts(self) -> Pairs:
        """`12 of 37 waits`."""
        total = sum(1 for _ in self.all_keys())
        shown = len(self.list.keys)
        text = f"{shown} of {total}" if self.filter else f"{total}"
        noun = self.NOUN.removesuffix("s") if total == 1 else self.NOUN
        return ((f"{text} {noun}", "muted"),)


class NamedFilters:
    """Actions that pick a list's filter by name, and save one."""

    def __init__(self, page: ListScreen[Any]) -> None:
        self._page = page

    def do_filter_pick(self) -> None:
        """Pick a named filter, or none."""
        page = self._page
        found = [MenuItem("all", "no filter", partial(page.set_filter, ""))]
        for name, text in page.filters().items():
            found.append(MenuItem(one_line(name, 60), text, partial(page.set_filter, text)))
        page.app.push_screen(PickScreen("Filters", found, typed=True))

    def do_filter_save(self) -> None:
        """Open the page that asks for the filter's name."""
        self._page.app.push_screen(SaveFilterScreen(self._page.filter_text))


class SaveFilterScreen(ConsoleScreen):
    """The page that saves a filter under a name or, without a filter, deletes the named one.

    Args:
        text: The filter.
    """

    SCOPES = (ActionScope.ANYWHERE,)
    BINDINGS = bindings(*SCOPES)
    AREA = "inbox"
    DEFAULT_CSS = """
    SaveFilterScreen #box { height: 1fr; border: round $c-accent; border-title-color: $c-foreground; padding: 0 1; }
    SaveFilterScreen Static { height: auto; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text.strip()
        self.field = SafeInput(id="typed", select_on_focus=False, max_length=NAME_MAX)
        self.problem = Static(markup=False)

    def body(self) -> Iterable[Widget]:
        """The filter, the name's field and its problem."""
        asked = "Keep this filter as" if self.text else "There is no filter; forget the one named"
        box = Vertical(
            Static(safe.line(self.text or "", limit=400)),
            Static(Content.styled(asked, "bold")),
            self.field,
            self.problem,
            id="box",
        )
        box.border_title = Content("Save a filter")
        yield box

    def on_mount(self) -> None:
        """Focus the name's field, with known names as suggestions."""
        names = [name for name in self.console.profile.filters if name not in BUILT_IN]
        self.field.suggester = SuggestFromList(names, case_sensitive=False)
        self.field.focus()
        self.refresh_bars()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Save the filter on enter."""
        event.stop()
        saving = self._save(self.field.value.strip())
        self.console.background.start(saving, group="filter", holds_keys=True)

    async def _save(self, name: str) -> None:
        try:
            await self.console.save_filter(name, self.text)
        except HelmrError as error:
            self._refuse(error.message)
        except OSError as error:
            self._refuse(f"it can't be kept: {error.strerror}")
        else:
            done = "kept; f picks it" if self.text else "forgotten"
            self.console.say(f"Filter {name} {done}", "information")
            self.dismiss()

    def on_paste_cut(self, event: PasteCut) -> None:
        """Show what a paste lost."""
        event.stop()
        self.console.say(event.text(), "warning")

    def _refuse(self, why: str) -> None:
        self.problem.update(safe.line(f"! {why}", "$c-error", limit=300))

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the name's field."""
        return "The name of a filter", (
            "f in the inbox picks it; `helmr next --filter NAME` and other commands use it too",
            "saving under a name that exists replaces that filter",
        )

    def status(self) -> tuple[Pairs, Pairs]:
        """The title, the profile and the keys."""
        profile = one_line(self.console.profile.name, 40)
        return (("Save a filter", "foreground"),), (
            (f"profile {profile}  enter saves, esc closes", "muted"),
        )
