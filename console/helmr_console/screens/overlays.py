"""What opens over a screen for a moment: a text in full, help, the copy menu, the commands."""

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

from helmr.safe_text import one_line
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
"""Of a menu: its frame, and the line that a filter is typed into."""
BARS_ABOVE = 2
MENU_INDENT = 4
LABEL_CELLS = 30
DIGITS = "123456789"
LETTERS = "abcdefghilmnopqrstuvwxyz"
"""But j and k, which move."""
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
        """It scrolls by the arrow keys."""
        self.pane.say(self.content)
        self.pane.focus()
        self.refresh_bars()

    def status(self) -> tuple[Pairs, Pairs]:
        """What it is."""
        return ((self.title_text, "foreground"),), (("esc closes", "muted"),)

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

    def do_open(self) -> None:
        """Enter closes it again."""
        self.dismiss()


def help_content(
    focus: tuple[str, Sequence[str]] | None,
    text: str,
    scopes: Sequence[str],
    keys: dict[str, str],
) -> Content:
    """Help for what has the focus, for the screen around it, then every key."""
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
    """Something to pick: its words, and what picking does."""

    label: str
    detail: str
    pick: Callable[[], None]


def copy_menu(screen: ConsoleScreen, items: Sequence[tuple[str, str]]) -> PickScreen:
    """What can be copied of a screen, (name, text) each; text chosen with the mouse comes first."""

    def copy(name: str, text: str) -> None:
        screen.app.copy_to_clipboard(text)
        screen.console.say(f"Copied {name}: {text[:120]}", "information")

    chosen = screen.get_selected_text()
    items = [("selection", chosen), *items] if chosen else items
    choices = [MenuItem(name, text, partial(copy, name, text)) for name, text in items]
    return PickScreen("Copy", choices, typed=False)


class PickList(LineList):
    """Choices: j and k move, a digit picks by place, any other letter or `/` filters."""

    BINDINGS = [
        Binding("j", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
        Binding("slash", "narrow('')", show=False),
        *(Binding(digit, f"take({digit})", show=False) for digit in DIGITS),
        *(Binding(one, f"narrow('{one}')", show=False) for one in LETTERS),
    ]

    class Narrowed(Message):
        """A letter was typed: it begins a filter."""

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
    """A line to type into and what it finds: the commands, the copy menu, the themes.

    Args:
        title: What is picked.
        choices: What there is.
        typed: The line stands there from the beginning; otherwise a letter brings it.
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
        """Everything, until something is typed."""
        if not self.typed:
            self.add_class("menu")
            self.styles.background = "transparent"  # the list stays in sight
            self._over_the_row()
        self._find("")
        (self.field if self.typed else self.list).focus()
        self.refresh_bars()

    def on_resize(self, event: events.Resize) -> None:
        """The box stays in sight."""
        if not self.typed:
            self._over_the_row()

    def _over_the_row(self) -> None:
        """A menu is a box below the row that it is about, or above it."""
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
        """What is typed here."""
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
        """The line comes, with that letter in it."""
        event.stop()
        self.field.display = True
        self.field.value = event.text
        self.field.cursor_position = len(event.text)
        self.field.focus()
        self.refresh_bars()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow down."""
        event.stop()
        self._find(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pick what is under the cursor."""
        event.stop()
        self._pick()

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Enter in the list."""
        event.stop()
        self._pick()

    def key_down(self) -> None:
        """Down goes on in the list while the field has the focus."""
        if self.field.has_focus:
            self.list.action_move(1)

    def key_up(self) -> None:
        """Up, too."""
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
        """It is open already."""

    def do_copy(self) -> None:
        """There is nothing to copy here."""

    def status(self) -> tuple[Pairs, Pairs]:
        """What it is."""
        return ((self.title_text, "foreground"),), (("enter picks, esc closes", "muted"),)
