"""The question above its form: it fills the room that the form leaves, and counts the lines that it cuts.

A call is never cut: its decision comes at the end, and its frame counts the lines that were never on screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual import events
from textual.content import Content
from textual.widget import Widget

from helmr_console.widgets.lines import fit
from helmr_console.widgets.markdown import CodeLines
from helmr_console.widgets.panes import TextPane, lines

LEAST_LINES = 6
"""Minimum of lines above a form that would take the whole screen."""
FEWEST_LINES = 3
"""Minimum of lines above a review or JSON."""
FRAME_FROM = 20
"""Width in cells below which code has no frame."""


def wrapped(parts: Sequence[Content | CodeLines], width: int) -> list[Content]:
    """Wrap these parts to `width` cells, code in frames."""
    return [line for part in parts for line in _wrapped(part, max(1, width))]


def _wrapped(part: Content | CodeLines, width: int) -> Iterator[Content]:
    if isinstance(part, Content):
        yield from part.wrap(width)
        return
    room = width - 4 if width >= FRAME_FROM else width
    inner = [line for one in part.lines for line in (one.wrap(room) if one.plain else [one])]
    if room == width:
        yield from inner
        return
    title = f"─ {part.language} " if part.language else ""
    yield Content.styled(f"╭{title}{'─' * (width - 2 - len(title))}╮", "$c-muted")
    side = ("│", "$c-muted")
    for line in inner:
        blank = " " * max(0, room - line.cell_length)
        yield Content.assemble(side, " ", line, f"{blank} ", side)
    yield Content.styled(f"╰{'─' * (width - 2)}╯", "$c-muted")


class AskedText(Widget):
    """Lines that fill the remaining room, at least some; the last one counts those that are cut."""

    DEFAULT_CSS = """
    AskedText { height: 1fr; width: 1fr; background: $c-background; color: $c-foreground; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # Textual's name
        super().__init__(id=id)
        self._parts: list[Content | CodeLines] = []
        self._least: int | None = LEAST_LINES
        self.lines: list[Content] = []
        """All wrapped lines."""

    def say(self, parts: Sequence[Content | CodeLines], *, width: int, least: int | None) -> None:
        """Show these parts.

        Args:
            parts: The question.
            width: Estimated width of the text before it is laid out.
            least: Minimum of lines to show; None cuts nothing, and the operator scrolls to the rest.
        """
        if list(parts) == self._parts and least == self._least:
            return
        self._parts, self._least = list(parts), least
        self._lay_out(self.content_size.width or width)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap again at the new width."""
        self._lay_out(event.size.width)

    def _lay_out(self, width: int) -> None:
        self.lines = wrapped(self._parts, width)
        least, most = self.styles.min_height, self.styles.max_height
        count = max(1, len(self.lines))
        wanted = (count if self._least is None else min(count, self._least), count)
        if (least and least.value, most and most.value) != wanted:
            self.styles.min_height, self.styles.max_height = wanted
        self.refresh()

    @property
    def cut(self) -> int:
        """Number of lines cut, as the last line says."""
        room = self.content_size.height
        return len(self.lines) - room + 1 if 0 < room < len(self.lines) else 0

    def render(self) -> Content:
        """The lines that fit, and a last line that counts the cut ones."""
        if not self.cut:
            return lines(self.lines)
        shown = self.lines[: len(self.lines) - self.cut]
        said = fit(f"… {self.cut} more lines, F3", self.content_size.width)
        return lines([*shown, Content.styled(said, "bold $c-warning")])


class Unseen:
    """Remembers the lines of a text that were on screen."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def looks(self, first: int, count: int) -> None:
        """Note that these lines are on screen."""
        self._seen.update(range(max(0, first), first + count))

    def of(self, count: int) -> list[int]:
        """Numbers below `count` of the lines that were never on screen."""
        return [one for one in range(count) if one not in self._seen]


def outside(top: int, room: int, count: int) -> list[int]:
    """Numbers below `count` of the lines that are not on screen now."""
    return [one for one in range(count) if not top <= one < top + room]


def unseen_text(count: int, what: str) -> Content:
    """`… 25 more lines of this call, pgdn`; empty for none."""
    said = f" … {count} more line{'s' if count > 1 else ''} of {what} "
    return Content.styled(said, "bold $c-warning") if count else Content("")


class AsidePane(TextPane):
    """Text beside a form, or in its place; its frame counts the lines of the question below."""

    asked_lines = 0
    """Number of lines at its beginning that are the question."""

    def say(self, content: Content, title: str | None = None) -> None:
        """Show this content, and count again."""
        super().say(content, title)
        self.call_after_refresh(self.count)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Count again, because other lines are on screen."""
        super().watch_scroll_y(old_value, new_value)
        self.count()

    def on_resize(self) -> None:
        """Count again, because other lines are on screen."""
        self.call_after_refresh(self.count)

    def count(self) -> None:
        """Show the number of lines of the question below."""
        room = self.scrollable_content_region.height
        below = self.asked_lines - round(self.scroll_y) - room if room else 0
        self.border_subtitle = unseen_text(max(0, below), "the text, pgdn")
