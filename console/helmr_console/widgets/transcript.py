"""`TranscriptView`: a transcript of any length, one line per entry, unfolded entries in full, pages read as needed.

Its height follows from the newest seq alone. Only visible lines are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Offset, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from helmr.models import EntryInfo
from helmr_console import look
from helmr_console.attempts import step_line
from helmr_console.entry_lines import EntryLine, entry_full, set_aside_line
from helmr_console.session_detail import PAGE, EntryPages
from helmr_console.set_aside import Rewound
from helmr_console.widgets.lines import chosen_text, fit, highlighted, wrapped
from helmr_console.widgets.transcript_rows import Marks, Times, TranscriptRows, row, time_text

UNFOLDED_LINES_MAX = 400
UNFOLDED_CELLS_MAX = 64_000
LIVE_LINES_MAX = 6
"""Most lines shown of a running step's output: its end."""


class TranscriptView(ScrollView, can_focus=True):
    """Shows entries by seq, and asks for the pages that it is about to draw."""

    DEFAULT_CSS = """
    TranscriptView { background: $c-background; color: $c-foreground; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    BINDINGS = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class EntryReached(Message):
        """Sent when the cursor moves to another entry."""

    class EntryChosen(Message):
        """Sent when the entry under the cursor is opened."""

    class NeedsPage(Message):
        """Sent when a missing page is drawn."""

        def __init__(self, page: int) -> None:
            super().__init__()
            self.page = page

    def __init__(
        self, now: Callable[[], datetime], *, id: str | None = None
    ) -> None:  # Textual's name
        super().__init__(id=id)
        self.now = now
        self.count = 0
        self.seq = 1
        self.follow = True
        self.marked: int | None = None
        self.times = Times.CLOCK
        self.wrap = True
        self.is_active = False
        """True while the session has a run that has not ended."""
        self.folds_aside = False
        """True to fold each stretch that a rewind set aside into one line."""
        self.pages = EntryPages()
        self.rows = TranscriptRows()

    # --- entries

    def set_count(self, count: int) -> None:
        """Set the number of entries; a view that follows moves to the last."""
        if count == self.count:
            return
        self.pages.may_be_asked_again((self.count - 1) // PAGE)
        self.count = count
        self._resize()
        if self.follow:
            self.move_to(count)
        self.refresh()

    def put_page(self, page: int, entries: Sequence[EntryInfo]) -> None:
        """Show the entries of a page."""
        self.pages.put(page, entries)
        if self.rows.learn(entries) or self.folds_aside:
            self._refold()
        self.refresh()
        if (self.seq - 1) // PAGE == page:
            self.post_message(self.EntryReached())

    def page_failed(self, page: int) -> None:
        """Note that a page could not be read, so that drawing it asks again."""
        self.pages.may_be_asked_again(page)

    def append(self, entry: EntryInfo) -> None:
        """Append an entry of the feed."""
        self.pages.append(entry)
        if self.rows.learn([entry]):
            self._refold()
        self.set_count(max(self.count, entry.seq))

    def say_live(self, texts: Mapping[int | None, Sequence[str]]) -> None:
        """Show live output by op, below the start of that step; without op, below the last entry."""
        width = max(10, self.size.width - 8)
        lines: dict[int, list[str]] = {}
        for op, said in texts.items():
            step = self.rows.steps.running(op) if op is not None else None
            parts = [part for text in said for part in text.split("\n") if part]
            seq = step.start.seq if step is not None else self.count
            lines[seq] = [line for part in parts for line in wrapped(part, width)]
        self.rows.say_live({seq: one[-LIVE_LINES_MAX:] for seq, one in lines.items()})
        self._resize()
        if self.follow:
            self._keep_in_view()
        self.refresh()

    def entry(self, seq: int) -> EntryInfo | None:
        """Return the entry if its page is here; else ask for the page."""
        found = self.pages.look(seq)
        if found is None and seq <= self.count and (page := self.pages.ask(seq)) is not None:
            self.post_message(self.NeedsPage(page))
        return found

    @property
    def current(self) -> EntryInfo | None:
        """The entry under the cursor, if it is here."""
        return self.entry(self.seq) if self.count else None

    @property
    def told(self) -> EntryInfo | None:
        """The entry that the row under the cursor shows: for a step on one row, its end."""
        return self.entry(self.rows.told(self.seq)) if self.count else None

    @property
    def cause(self) -> EntryInfo | None:
        """The failed step's end, if it is here, for a `run.failed` under the cursor: it has the step's traceback."""
        told = self.told
        op = told.body.get("failed_op") if told is not None and told.kind == "run.failed" else None
        if told is None or op is None:
            return None
        ends = (one for one in self.pages.in_order() if one.kind == "step.failed")
        found = [one for one in ends if (one.run_id, one.op) == (told.run_id, op)]
        return found[-1] if found and found[-1].seq < told.seq else None

    # --- cursor and folding

    def move_to(self, seq: int) -> None:
        """Move the cursor to this entry."""
        seq = self.rows.map.shown(max(1, min(seq, self.count)))
        if seq != self.seq:
            self.seq = seq
            self.post_message(self.EntryReached())
        self._keep_in_view()
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move by entries; moving up stops following."""
        self.follow = self.follow and by > 0
        self.move_to(self.rows.map.step(self.seq, by))

    def action_page(self, by: int) -> None:
        """Move by screens."""
        self.follow = self.follow and by > 0
        self.move_to(self.rows.map.step(self.seq, by * max(1, self.size.height - 1)))

    def action_choose(self) -> None:
        """Open the entry."""
        self.post_message(self.EntryChosen())

    def toggle_screen(self) -> None:
        """Unfold the entries on screen, or fold all if any is unfolded."""
        rows = self.rows
        if rows.unfolded:
            rows.unfolded.clear()
        else:
            top = self.scroll_offset.y
            for line in range(top, top + self.size.height):
                seq, _ = rows.map.at_line(line)
                if not rows.is_folded(seq):
                    self._unfold(seq)
        rows.measure()
        self._resize()
        self._keep_in_view()
        self.refresh()

    def _unfold(self, seq: int) -> None:
        entry = self.entry(self.rows.told(seq))
        if entry is not None:
            self.rows.unfolded[seq] = self._full(entry)

    def toggle_aside(self) -> int:
        """Fold or show set-aside entries; return the number of folded stretches."""
        self.folds_aside = not self.folds_aside
        self._refold()
        self.move_to(self.seq)
        return len(self.rows.aside)

    @property
    def aside(self) -> Rewound | None:
        """The known rewind that set the entry under the cursor aside; None if there is none."""
        entry = self.current
        return self.rows.rewinds.of(entry) if entry is not None else None

    def toggle_wrap(self) -> None:
        """Switch between wrapping and cutting long lines of unfolded entries."""
        self.wrap = not self.wrap
        self._reflow()

    def next_times(self) -> Times:
        """Switch to the next format of times, and return it."""
        order = list(Times)
        self.times = order[(order.index(self.times) + 1) % len(order)]
        self.refresh()
        return self.times

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """Help for reading a transcript."""
        return "The transcript", (
            "one line per entry, oldest first: number, time, kind, text, and who did it",
            "j k move; g goes to the first entry; G goes to the last and follows new ones",
            "enter shows the entry in full; f unfolds those on screen, w wraps or cuts their long lines",
            "~ marks what a rewind has set aside; e folds it; c corrects something here",
            "/ searches, n N go through the matches; space marks an entry, d compares another with it",
            "drag the mouse to choose text, ^c copies it",
        )

    # --- geometry

    def _resize(self) -> None:
        self.virtual_size = Size(self.size.width, self.rows.map.height(self.count))

    def _refold(self) -> None:
        above = self.rows.map.line_of(self.seq) - self.scroll_offset.y
        self.rows.fold(self.pages.in_order(), folds_aside=self.folds_aside)
        self._resize()
        self.seq = self.rows.map.shown(self.seq)
        # Keep the cursor's row in place on screen, because the rows above may now take fewer lines.
        top = self.rows.map.line_of(self.seq) - above
        if self.count and top != self.scroll_offset.y:
            self.scroll_to(y=max(0, top), animate=False, force=True)
        self._keep_in_view()
        self.refresh()
        self.post_message(self.EntryReached())  # the entry under the cursor may be set aside by now

    def _keep_in_view(self) -> None:
        line = self.rows.map.line_of(self.seq)
        end = line + len(self.rows.below(self.seq))
        top, height = self.scroll_offset.y, max(1, self.size.height)
        # Forced, because a view that has just learnt its length has no scroll bar yet.
        if line < top:
            self.scroll_to(y=line, animate=False, force=True)
        elif end >= top + height:
            self.scroll_to(y=min(line, end - height + 1), animate=False, force=True)
        if self.has_focus:
            self.app.cursor_position = Offset(
                self.content_region.x + 1, self.content_region.y + line - self.scroll_offset.y
            )

    def _reflow(self) -> None:
        for seq in list(self.rows.unfolded):
            del self.rows.unfolded[seq]
            self._unfold(seq)
        self.rows.measure()
        self._resize()
        self._keep_in_view()
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap unfolded entries again; keep the cursor visible."""
        self._reflow()

    def on_focus(self) -> None:
        """Redraw the gutter, which shows the focus."""
        self._keep_in_view()
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Select an entry on a click; open it on a second one."""
        seq, _ = self.rows.map.at_line(self.scroll_offset.y + event.y)
        if seq <= self.count:
            self.follow = False
            again = seq == self.seq and event.chain >= 2
            self.move_to(seq)
            if again:
                self.action_choose()

    # --- drawing

    def render_line(self, y: int) -> Strip:
        """Draw one line, with its place, so that text can be selected with the mouse."""
        line = self.scroll_offset.y + y
        strip = self._strip(line)
        selection = self.text_selection
        if selection is not None:
            strip = highlighted(strip, selection.get_span(line))
        return strip.apply_offsets(0, line)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text as shown; entries that are not here yet are `…`."""
        return chosen_text(selection, self._text_at, self.virtual_size.height), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Redraw the selection."""
        self.refresh()

    def _text_at(self, line: int) -> str:
        """The text of a line, without asking for a missing page, because a selection may be long."""
        seq, _ = self.rows.map.at_line(line)
        if seq <= self.count and self.pages.peek(seq) is None:
            return self._pending(seq, self.size.width, "").text
        return self._strip(line).text

    def _strip(self, line: int) -> Strip:
        width = self.size.width
        seq, below = self.rows.map.at_line(line)
        if seq > self.count:
            return Strip.blank(width, self._style(""))
        ground = "cursor" if seq == self.seq else ""
        if below:
            text = self.rows.below(seq)[below - 1]
            role = "accent" if self.rows.is_live(seq, below) else ""
            style = self._style(role, ground)
            strip = Strip([Segment(fit("      " + text, width), style)])
            return strip.adjust_cell_length(width, self._style("", ground))
        entry = self.entry(seq)
        if entry is None:
            return self._pending(seq, width, ground)
        aside = self.rows.rewinds.of(entry)
        stretch = self.rows.map.stretch_at(seq) if self.rows.is_folded(seq) else None
        if stretch is not None and aside is not None:
            said = set_aside_line(seq, stretch[1], aside.reason, aside.by)
        else:
            said = step_line(self.rows.steps, entry, self._runs_now, self.now)
        return self._line(entry, said, width, ground, aside=aside is not None)

    def _runs_now(self, seq: int) -> bool:
        """True if the session is active and every page from this step on is here, so that none hides its end."""
        first, last = (seq - 1) // PAGE, (self.count - 1) // PAGE
        return self.is_active and all(page in self.pages.held for page in range(first, last + 1))

    def _pending(self, seq: int, width: int, ground: str) -> Strip:
        strip = Strip([Segment(f"  {seq:>5}  …", self._style("muted", ground))])
        return strip.adjust_cell_length(width, self._style("", ground))

    def _line(
        self, entry: EntryInfo, line: EntryLine, width: int, ground: str, *, aside: bool
    ) -> Strip:
        fold = (
            "-" if line.seq in self.rows.unfolded else "+" if self.rows.is_folded(line.seq) else " "
        )
        marks = Marks(
            sign=self._sign() if line.seq == self.seq else " ",
            is_marked=line.seq == self.marked,
            fold=fold,
            is_aside=aside,
        )
        parts = row(line, self._time(entry), marks, width)
        strip = Strip([Segment(text, self._style(role, ground)) for text, role in parts if text])
        return strip.adjust_cell_length(width, self._style("", ground))

    def _time(self, entry: EntryInfo) -> str:
        return time_text(self.times, entry, self.pages.peek(entry.seq - 1), self.now)

    def _full(self, entry: EntryInfo) -> list[str]:
        width = max(10, self.size.width - 8)
        found: list[str] = []
        for text in entry_full(entry, UNFOLDED_CELLS_MAX).expandtabs(4).split("\n"):
            found += wrapped(text, width) if self.wrap else [text]
            if len(found) >= UNFOLDED_LINES_MAX:
                return [*found[:UNFOLDED_LINES_MAX], "… cut here; enter opens the entry"]
        return found

    def _sign(self) -> str:
        return "▌" if self.has_focus else "│"

    def _style(self, role: str, ground: str = "") -> Style:
        return look.style(self.app.theme, role, ground=ground or "background")
