"""The three lines that frame every screen: header, status line, footer."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from helmr_console.actions import Action
from helmr_console.message_line import LineMessage, Severity, receipt_text
from helmr_console.widgets.lines import fit

AREAS = (
    ("inbox", "1", "Inbox", "Inbox"),
    ("sessions", "2", "Sessions", "Ses"),
    ("activity", "3", "Activity", "Act"),
    ("system", "4", "System", "Sys"),
)
WIDE = 100


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """Facts for the header; texts are safe already."""

    name: str
    area: str
    link: str
    link_role: str
    offset: int | None
    identity: str
    read_only: bool
    failed: str = ""
    """`2 failed, 1 blocked`; empty for none."""
    failed_count: int = 0


class BarPressed(Message):
    """Sent when an action is clicked in a bar."""

    def __init__(self, action_id: str) -> None:
        super().__init__()
        self.action_id = action_id


class HeaderBar(Widget):
    """The first line: name, areas, freshness, identity, mode."""

    DEFAULT_CSS = (
        "HeaderBar { height: 1; dock: top; background: $c-surface; color: $c-foreground; }"
    )

    def __init__(self) -> None:
        super().__init__()
        self.facts = HeaderFacts("", "", "", "", None, "", False)
        self._areas_at: list[tuple[int, int, str]] = []

    def show(self, facts: HeaderFacts) -> None:
        """Show these facts; redraw only on a change."""
        if facts != self.facts:
            self.facts = facts
            self.refresh()

    def render(self) -> Content:
        """Areas on the left, freshness and mode on the right."""
        facts, width = self.facts, self.size.width
        wide = width >= WIDE
        left: list[tuple[str, str]] = [(" helmr ", "bold $c-accent")]
        if facts.name:
            left.append((f" {fit(facts.name, 14 if wide else 8).rstrip()} ", "$c-foreground"))
        left.append(("  " if wide else " ", ""))
        self._areas_at = []
        for area, key, name, short in AREAS:
            label = f"{key} {name if wide else short}"
            here = area == facts.area
            text = f"[{label}]" if here else f" {label} "
            start = sum(cell_len(part) for part, _ in left)
            self._areas_at.append((start, start + cell_len(text), f"area.{area}"))
            left.append((text, "bold $c-foreground" if here else "$c-muted"))
        mode = (
            ("read-only" if wide else "RO") if facts.read_only else ("read-write" if wide else "RW")
        )
        right: list[tuple[str, str]] = []
        if facts.failed:
            right.append((facts.failed if wide else f"!{facts.failed_count}", "$c-error"))
            right.append(("  ", ""))
        right += [(facts.link, _style(facts.link_role))]
        if wide and facts.offset is not None:
            right.append((f"  at {facts.offset}", "$c-muted"))
        if facts.identity:
            right.append((f"  {fit(facts.identity, 18 if wide else 8).rstrip()}", "$c-foreground"))
        right.append((f"  {mode} ", "$c-warning" if facts.read_only else "$c-muted"))
        used = sum(cell_len(part) for part, _ in (*left, *right))
        if facts.failed:
            start = max(width, used + 1) - sum(cell_len(part) for part, _ in right)
            self._areas_at.append((start, start + cell_len(right[0][0]), "failed"))
        gap = (" " * max(1, width - used), "")
        return Content.assemble(*left, gap, *right)

    def on_click(self, event: events.Click) -> None:
        """Go to the clicked area."""
        for start, end, action_id in self._areas_at:
            if start <= event.x < end:
                self.post_message(BarPressed(action_id))


SAID_LINES_MAX = 3
RECEIPT_CELLS_MIN = 14
_SAID_ROLE = {
    Severity.RECEIPT: "success",
    Severity.INFORMATION: "success",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
}


class StatusLine(Widget):
    """The second line: path or filter on the left, counts and new rows on the right.

    For a moment it shows a message instead, as many lines as it needs; a receipt stands between left and right and
    takes no room from them.
    """

    DEFAULT_CSS = "StatusLine { height: 1; background: $c-background; color: $c-muted; }"

    def __init__(self) -> None:
        super().__init__()
        self.left: tuple[tuple[str, str], ...] = ()
        self.right: tuple[tuple[str, str], ...] = ()
        self.said: LineMessage | None = None
        self.receipt: LineMessage | None = None
        self.height = 1

    def show(
        self,
        left: tuple[tuple[str, str], ...],
        right: tuple[tuple[str, str], ...],
        said: LineMessage | None = None,
        receipt: LineMessage | None = None,
    ) -> None:
        """Show (safe text, role) pairs, or a message instead; and a receipt beside them."""
        if (left, right, said, receipt) != (self.left, self.right, self.said, self.receipt):
            self.left, self.right, self.said, self.receipt = left, right, said, receipt
            self._be_as_high()
            self.refresh()

    def on_resize(self) -> None:
        """Adapt the height to the new width."""
        self._be_as_high()

    def _be_as_high(self) -> None:
        # Setting the same height would lay the screen out again.
        height = len(self._said_lines())
        if height != self.height:
            self.height = height
            self.styles.height = height

    def _said_lines(self) -> list[str]:
        if self.said is None:
            return [""]
        sign = "" if self.said.severity is Severity.INFORMATION else "! "
        room = max(10, self.app.size.width - 2)
        found = textwrap.wrap(sign + self.said.text, room) or [""]
        if len(found) > SAID_LINES_MAX:
            rest = " ".join(found[SAID_LINES_MAX - 1 :])
            found = [*found[: SAID_LINES_MAX - 1], fit(rest, room)]
        return found

    def render(self) -> Content:
        """The message, or one line in which the left part gives way."""
        if self.said is not None:
            style = _style(_SAID_ROLE[self.said.severity])
            found = self._said_lines()
            tail = "".join(text for text, _ in self.right)
            gap = self.size.width - 2 - cell_len(found[0]) - cell_len(tail)
            if len(found) == 1 and gap >= 3:
                rest = [(text, _style(role)) for text, role in self.right]
                return Content.assemble((f" {found[0]}", style), (" " * gap, ""), *rest, (" ", ""))
            return Content("\n").join(Content.styled(f" {line}", style) for line in found)
        width = self.size.width
        right = "".join(text for text, _ in self.right)
        room = max(0, width - cell_len(right) - 4)
        parts: list[tuple[str, str]] = [(" ", "")]
        for text, role in self.left:
            shown = fit(text, min(cell_len(text), room))
            room -= cell_len(shown)
            parts.append((shown, _style(role)))
        between = room + 2
        if self.receipt is not None and between - 3 >= RECEIPT_CELLS_MIN:
            said = receipt_text(self.receipt.text)
            said = fit(said, min(cell_len(said), between - 3))
            gap = between - cell_len(said) - 2
            parts += [(" " * gap, ""), (said, _style("muted"))]
            between = 2
        parts.append((" " * between, ""))
        parts += [(text, _style(role)) for text, role in self.right]
        parts.append((" ", ""))
        return Content.assemble(*parts)


class FooterBar(Widget):
    """The last line: keys of the actions here, most important first; grey ones can't run now."""

    DEFAULT_CSS = "FooterBar { height: 1; dock: bottom; background: $c-surface; }"

    def __init__(self) -> None:
        super().__init__()
        self.actions: tuple[tuple[str, str, str, bool], ...] = ()
        self._at: list[tuple[int, int, str]] = []

    def show(
        self, actions: list[tuple[Action, bool]], keys: dict[str, str], labels: dict[str, str]
    ) -> None:
        """Offer these actions; `keys` and `labels` replace those of the table, by action id."""
        shown = tuple(
            (
                action.id,
                keys.get(action.id, action.key_text),
                labels.get(action.id, action.label),
                enabled,
            )
            for action, enabled in actions
        )
        if shown != self.actions:
            self.actions = shown
            self.refresh()

    def render(self) -> Content:
        """The actions that fit; help and commands always stand at the right."""
        width = self.size.width
        keys = {entry[0]: entry[1] for entry in self.actions}
        words = {"help": "Help", "palette": "commands" if width >= WIDE else ""}
        ends = [(name, f"{keys[name]} {words[name]}".rstrip()) for name in words if name in keys]
        end = "  ".join(text for _, text in ends) + " "
        parts: list[tuple[str, str]] = [(" ", "")]
        used, self._at = 1, []
        for action_id, key, label, enabled in self.actions:
            if action_id in words:
                continue
            size = cell_len(key) + 1 + cell_len(label) + 2
            if used + size + cell_len(end) > width:
                continue
            self._at.append((used, used + size - 2, action_id))
            parts.append((key, "bold $c-accent" if enabled else "$c-border"))
            parts.append((f" {label}  ", "$c-foreground" if enabled else "$c-border"))
            used += size
        start = width - cell_len(end)
        parts += [(" " * max(0, start - used), ""), (end, "$c-muted")]
        for name, text in ends:
            self._at.append((start, start + cell_len(text), name))
            start += cell_len(text) + 2
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Perform the clicked action."""
        for start, end, action_id in self._at:
            if start <= event.x < end:
                self.post_message(BarPressed(action_id))


def _style(role: str) -> str:
    if role in ("", "foreground"):
        return "$c-foreground"
    return "bold $c-foreground" if role == "strong" else f"$c-{role}"
