"""Screens that open over others for a moment: a full text, help, the copy menu, the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ACTIONS, ActionScope, in_scopes, key_name
from helmr_console.actions import scopes as scopes_of_all
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.views import Cell, Row
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.lines import Column, LineList
from helmr_console.widgets.panes import TextPane, lines

FOUND_MAX = 200
MENU_ROWS = 8
FRAME_LINES = 3
"""Lines of a menu besides its rows: the frame and the filter line."""
BARS_ABOVE = 2
MENU_INDENT = 4
LABEL_CELLS = 30
DIGITS = "123456789"
LETTERS = "abcdefghilmnopqrstuvwxyz"
"""All letters but j and k, which move."""
HELP_LINE_CELLS = 400


class TextScreen(ConsoleScreen):
    """A text in full."""

    SCOPES = (ActionScope.ANYWHERE,)
    BINDINGS = bindings(*SCOPES, ActionScope.LIST)
    DEFAULT_CSS = "TextScreen TextPane { height: 1fr; border: round $c-accent; }"

    def __init__(self, title: str, content: Content) -> None:
        super().__init__()
        self.title_text = title
        self.content = content
        self.pane = TextPane(title, id="text")
        self.pane.can_focus = True

    def body(self) -> Iterable[Widget]:
        """The text."""
        yield self.pane

    def on_mount(self) -> None:
        """Show the text, and focus it so that the arrow keys scroll."""
        self.pane.say(self.content)
        self.pane.focus()
        self.refresh_bars()

    def status(self) -> tuple[Pairs, Pairs]:
        """The title, and the key that closes."""
        return ((self.title_text, "foreground"),), (("esc closes", "muted"),)

    def do_list_down(self) -> None:
        """Scroll a line down."""
        self.pane.scroll_down(animate=False)

    def do_list_up(self) -> None:
        """Scroll a line up."""
        self.pane.scroll_up(animate=False)

    def do_list_first(self) -> None:
        """Scroll to the top."""
        self.pane.scroll_home(animate=False)

    def do_list_last(self) -> None:
        """Scroll to the end."""
        self.pane.scroll_end(animate=False)

    def do_open(self) -> None:
        """Close on enter."""
        self.dismiss()


def help_content(
    focus: tuple[str, Sequence[str]] | None,
    text: str,
    scopes: Sequence[str],
    keys: dict[str, str],
) -> Content:
    """Help for the focused widget, for the screen around it, then every key."""
    parts: list[Content] = []
    if focus is not None:
        title, about = focus
        parts.append(safe.line(title, "bold $c-accent", limit=100))
        parts += [safe.line(f"  {line}", limit=HELP_LINE_CELLS) for line in about]
        parts.append(Content(""))
    if text:
        parts.append(safe.text(text))
    here = [*scopes]
    widest = max(len(action.label) for action in ACTIONS) + 2
    for scope in [*here, *(scope for scope in scopes_of_all() if scope not in here)]:
        found = in_scopes([scope])
        if not found:
            continue
        title = str(scope) if scope in here else f"{scope} (elsewhere)"
        parts += [Content(""), Content.styled(title, "bold")]
        for action in found:
            own = keys.get(action.id)
            names = own or " ".join(key_name(key) for key in action.keys) or "(commands)"
            star = " Sends." if action.dangerous else ""
            parts.append(
                Content.assemble(
                    (f"  {names:<12}", "$c-accent"),
                    (f"{action.label:<{widest}}", ""),
                    (action.help + star, "$c-muted"),
                )
            )
    return lines(parts)


@dataclass(frozen=True, slots=True)
class MenuItem:
    """A choice of a menu: its words and its action."""

    label: str
    detail: str
    pick: Callable[[], None]


def copy_menu(screen: ConsoleScreen, items: Sequence[tuple[str, str]]) -> PickScreen:
    """The copy menu of a screen, from (name, text) pairs; text selected with the mouse comes first."""

    def copy(name: str, text: str) -> None:
        screen.app.copy_to_clipboard(text)
        screen.console.say(f"Copied {name}: {text[:120]}", "information")

    chosen = screen.get_selected_text()
    items = [("selection", chosen), *items] if chosen else items
    choices = [MenuItem(name, text, partial(copy, name, text)) for name, text in items]
    return PickScreen("Copy", choices, typed=False)


class PickList(LineList):
    """A list of choices: j and k move, a digit picks by place, any other letter or `/` filters."""

    BINDINGS = [
        Binding("j", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
        Binding("slash", "narrow('')", show=False),
        *(Binding(digit, f"take({digit})", show=False) for digit in DIGITS),
        *(Binding(one, f"narrow('{one}')", show=False) for one in LETTERS),
    ]

    class Narrowed(Message):
        """Sent when a typed letter begins a filter."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def action_narrow(self, text: str) -> None:
        """Begin to filter."""
        self.post_message(self.Narrowed(text))

    def action_take(self, number: int) -> None:
        """Pick the choice at this place."""
        if number <= len(self.keys):
            self.move_to(number - 1)
            self.action_choose()


class PickScreen(ConsoleScreen):
    """A filter line and the choices that it finds: the commands, the copy menu and others.

    Args:
        title: Title of the box.
        choices: All choices.
        typed: Show the filter line from the beginning; otherwise a letter opens it.
    """

    SCOPES = (ActionScope.ANYWHERE,)
    BINDINGS = bindings(*SCOPES)
    DEFAULT_CSS = """
    PickScreen #box { height: 1fr; border: round $c-accent; border-title-color: $c-foreground; }
    PickScreen LineList { height: 1fr; }
    PickScreen.menu #box { background: $c-background; width: 1fr; max-width: 84; }
    PickScreen.menu #find { height: 1; border: none; }
    """

    def __init__(self, title: str, choices: Sequence[MenuItem], *, typed: bool) -> None:
        super().__init__()
        self.title_text = title
        self.choices = list(choices)
        self.typed = typed
        kind = LineList if typed else PickList
        widest = LABEL_CELLS if typed else max(map(self._label_cells, choices), default=0)
        self.list = kind(
            (Column("", min(LABEL_CELLS, widest)), Column("", 0)),
            self._row,
            empty="nothing matches",
            id="list",
        )
        self.field = SafeInput(id="find", placeholder="type to find", select_on_focus=False)
        self._about = BARS_ABOVE

    @staticmethod
    def _label_cells(choice: MenuItem) -> int:
        return cell_len(one_line(choice.label, 120)) + 4

    def body(self) -> Iterable[Widget]:
        """Field and list."""
        self.field.display = self.typed
        self._about = max(BARS_ABOVE, self.app.cursor_position.y)
        box = Vertical(self.field, self.list, id="box")
        box.border_title = Content(self.title_text)
        yield box

    def on_mount(self) -> None:
        """Show all choices until something is typed."""
        if not self.typed:
            self.add_class("menu")
            self.styles.background = "transparent"  # keeps the list below visible
            self._over_the_row()
        self._find("")
        (self.field if self.typed else self.list).focus()
        self.refresh_bars()

    def on_resize(self, event: events.Resize) -> None:
        """Move a menu so that it stays visible."""
        if not self.typed:
            self._over_the_row()

    def _over_the_row(self) -> None:
        """Place a menu below its row, or above it where there is no room."""
        height = min(len(self.choices), MENU_ROWS) + FRAME_LINES
        row, screen = self._about, self.app.size.height
        top = row + 1 if row + 1 + height < screen else max(BARS_ABOVE, row - height)
        box = self.query_one("#box")
        box.styles.height = height
        box.styles.margin = (top - BARS_ABOVE, 2, 0, MENU_INDENT)

    def _row(self, key: str) -> Row:
        choice = self.choices[int(key)]
        place = self.list.keys.index(key) + 1
        number = f"{place} " if not self.field.display and place <= len(DIGITS) else ""
        return (
            Cell(one_line(f"{number}{choice.label}", 120)),
            Cell(one_line(choice.detail, 400), "muted"),
        )

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the filter line and the list."""
        return self.title_text, (
            "type words to find lines with all of them; arrows move, enter picks, esc closes",
            "ids, correlation ids and external ids can be pasted",
            "in a menu without this line, j and k move, a digit picks, and a letter or / begins a filter",
        )

    def _find(self, text: str) -> None:
        words = text.casefold().split()
        found = [
            str(index)
            for index, choice in enumerate(self.choices)
            if all(word in f"{choice.label} {choice.detail}".casefold() for word in words)
        ]
        self.list.set_keys(found[:FOUND_MAX], None)

    def on_pick_list_narrowed(self, event: PickList.Narrowed) -> None:
        """Show the filter line with the typed letter."""
        event.stop()
        self.field.display = True
        self.field.value = event.text
        self.field.cursor_position = len(event.text)
        self.field.focus()
        self.refresh_bars()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the choices down to the typed text."""
        event.stop()
        self._find(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pick the choice under the cursor."""
        event.stop()
        self._pick()

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Pick on enter in the list."""
        event.stop()
        self._pick()

    def key_down(self) -> None:
        """Move down in the list while the field has the focus."""
        if self.field.has_focus:
            self.list.action_move(1)

    def key_up(self) -> None:
        """Move up in the list while the field has the focus."""
        if self.field.has_focus:
            self.list.action_move(-1)

    def _pick(self) -> None:
        key = self.list.cursor
        if key is None:
            return
        choice = self.choices[int(key)]
        self.dismiss()
        self.app.call_after_refresh(choice.pick)

    def do_palette(self) -> None:
        """Do nothing; the palette is open already."""

    def do_copy(self) -> None:
        """Do nothing; a menu has nothing to copy."""

    def status(self) -> tuple[Pairs, Pairs]:
        """The title and the keys."""
        return ((self.title_text, "foreground"),), (("enter picks, esc closes", "muted"),)
