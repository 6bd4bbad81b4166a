"""Two attempts of a run beside each other: what the second took over, did again, did otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from helmr.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionScope
from helmr_console.attempts import Attempt, OpPair, attempts, beside, summary
from helmr_console.reads import whole
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.widgets.lines import fit
from helmr_console.widgets.panes import TextPane, head, lines

ENTRIES_MAX = 5_000
"""Newest entries of the session that attempts are told from."""
COLUMNS_FROM = 100
"""Cells from which there is room for two columns."""
GUTTER = 8
TEXT_CELLS = 400
_ROLES = {"=": "warning", "~": "error", "-": "muted", "+": "success"}


class AttemptsScreen(ConsoleScreen):
    """Attempts of one run, two at a time."""

    AREA = "sessions"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.ATTEMPTS)
    BINDINGS = bindings(*SCOPES, ActionScope.LIST)
    HELP_TEXT = (
        "Each line is an op. A space: the later attempt took over what there was; `=` it was done again and came out "
        "the same; `~` it came out otherwise; `-` and `+` only one of them has it. `[` and `]` show other attempts."
    )
    DEFAULT_CSS = "AttemptsScreen TextPane { height: 1fr; border: round $c-accent; }"

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__()
        self.session_id = session_id
        self.run_id = run_id
        self.found: list[Attempt] = []
        self.at = 1
        self.problem = ""
        self._is_cut = False
        self.pane = TextPane("Attempts", id="text")
        self.pane.can_focus = True

    def body(self) -> Iterable[Widget]:
        """The two."""
        yield self.pane

    def on_mount(self) -> None:
        """Read the session."""
        self.pane.focus()
        self.console.background.start(
            self._load(), group="attempts", holds_keys=True, on_error=self._failed
        )
        self.refresh_bars()

    async def _load(self) -> None:
        entries = await whole(self.console.client, self.session_id, ENTRIES_MAX)
        self._is_cut = bool(entries) and entries[0].seq > 1
        self.found = attempts(entries, self.run_id)
        self.at = max(1, len(self.found) - 1)
        self._draw()

    def _failed(self, text: str) -> None:
        self.problem = text
        self.refresh_bars()

    def on_resize(self, event: events.Resize) -> None:
        """Two columns or one."""
        super().on_resize(event)
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        if not self.found or not self.is_attached:
            return
        if len(self.found) == 1:
            text = "This run has had one attempt; there is nothing to compare."
            self.pane.say(Content.styled(text, "$c-muted"), "Attempt 1")
        else:
            first, second = self.found[self.at - 1], self.found[self.at]
            shown = pair_content(first, second, self.size.width - 6)
            self.pane.say(shown, f"Attempts {first.number} and {second.number}")
        self.refresh_bars()

    def status(self) -> tuple[Pairs, Pairs]:
        """Which, of how many."""
        if self.problem:
            return ((self.problem[:200], "error"),), ()
        if not self.found:
            return (("Attempts", "foreground"),), (("asking the gateway…", "muted"),)
        cut = f"; of the newest {ENTRIES_MAX} entries" if self._is_cut else ""
        many = f"{len(self.found)} attempts{cut}"
        return ((f"Sessions > Attempts   {many}", "foreground"),), (("esc closes", "muted"),)

    def _turn(self, by: int) -> None:
        self.at = max(1, min(self.at + by, len(self.found) - 1))
        self._draw()

    def do_pair_older(self) -> None:
        """The two before."""
        self._turn(-1)

    def do_pair_newer(self) -> None:
        """The two after."""
        self._turn(1)

    def do_list_down(self) -> None:
        """A line down."""
        self.pane.scroll_down(animate=False)

    def do_list_up(self) -> None:
        """A line up."""
        self.pane.scroll_up(animate=False)

    def do_list_first(self) -> None:
        """To the top."""
        self.pane.scroll_home(animate=False)

    def do_list_last(self) -> None:
        """To the end."""
        self.pane.scroll_end(animate=False)


def pair_content(first: Attempt, second: Attempt, width: int) -> Content:
    """Both, in two columns where there is room, else one under the other."""
    pairs = beside(first, second)
    parts = [head(summary(pairs))]
    parts += [safe.line(_about(one), "$c-muted", limit=300) for one in (first, second)]
    parts.append(Content(""))
    draw = _columns if width >= COLUMNS_FROM else _stacked
    for pair in pairs:
        parts += draw(pair, width)
    return lines(parts)


def _about(one: Attempt) -> str:
    return f"attempt {one.number}: {one.how or 'the first'}; {one.ended or 'it came to no end'}"


def _columns(pair: OpPair, width: int) -> Iterator[Content]:
    room = (width - GUTTER - 3) // 2
    role = _ROLES.get(pair.sign, "")
    for number, texts in enumerate(zip_longest(_lines(pair, pair.left), _lines(pair, pair.right))):
        left, right = (fit(one_line(text or "", TEXT_CELLS), room) for text in texts)
        left += " " * (room - cell_len(left))
        yield _drawn(f"{_gutter(pair.sign, pair.op, number)}{left} │ {right}", role)


def _stacked(pair: OpPair, width: int) -> Iterator[Content]:
    shown = [(pair.sign, pair.right)]
    if pair.sign not in " =":
        shown = [("-", pair.left), ("+", pair.right)]
    for sign, texts in shown:
        for number, text in enumerate(_lines(pair, texts)):
            said = fit(one_line(text, TEXT_CELLS), width - GUTTER)
            yield _drawn(f"{_gutter(sign, pair.op, number)}{said}", _ROLES.get(sign, ""))


def _lines(pair: OpPair, texts: Sequence[str]) -> Sequence[str]:
    """What was taken over is one line, what differs all of its lines."""
    return [" · ".join(texts)] if pair.sign == " " else texts


def _gutter(sign: str, op: int, number: int) -> str:
    return f"{sign} {op:>4}  " if number == 0 else f"{sign}       "


def _drawn(text: str, role: str) -> Content:
    return safe.line(text, f"$c-{role}" if role else "")
