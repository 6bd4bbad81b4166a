"""The base of all screens: three bars, keys from the action table, one gate for every action."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, Self, cast, runtime_checkable

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from helmr.models import EntryInfo
from helmr_console import actions
from helmr_console.actions import BY_ID, ActionContext, ActionScope, Permit, permit
from helmr_console.console import Console
from helmr_console.inside_textual import forget_drawn, is_over
from helmr_console.widgets.bars import BarPressed, FooterBar, HeaderBar, StatusLine

WIDTH_MIN = 60
HEIGHT_MIN = 16


@runtime_checkable
class Explained(Protocol):
    """A widget with help of its own while it has the focus."""

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """A title, and lines about it."""
        ...


@runtime_checkable
class Ticking(Protocol):
    """A part of a screen that acts when the screen comes to the front, and each second."""

    def resumed(self) -> None:
        """Act when the screen comes to the front."""
        ...

    def tick(self) -> None:
        """Act each second while the screen is in front."""
        ...


class HasConsole(Protocol):
    """The app, as screens use it."""

    shared: Console


Pairs = tuple[tuple[str, str], ...]


def bindings(*scopes: str) -> list[BindingType]:
    """The key bindings of these scopes; each has its action's id, for the user's key map."""
    return [
        Binding(
            ",".join(action.keys), f"act('{action.id}')", action.label, show=False, id=action.id
        )
        for action in actions.in_scopes(scopes)
        if action.keys
    ]


class TooSmall(Static):
    """The sentence shown when the terminal is too small for anything else."""

    DEFAULT_CSS = (
        "TooSmall { display: none; width: 1fr; height: 1fr; content-align: center middle; }"
    )


class ConsoleScreen(Screen[None]):
    """A screen of the console.

    Subclasses set `SCOPES` (and `BINDINGS = bindings(*SCOPES)`), compose their middle in `body`, and have a
    method `do_<action id>` for each action they handle; their `parts`, then the app, handle the rest.
    """

    parts: tuple[object, ...] = ()
    """Objects that handle actions besides the screen itself, each by a method `do_<action id>`."""

    focused = reactive[Widget | None](None, repaint=False)
    """Like Textual's, which repaints the screen when the focus moves; here only the two widgets repaint."""
    _is_opening = True
    _resized_to: Size | None = None
    AUTO_FOCUS = ""  # the filter line, which is not shown, would get it, and keys be lost
    SCOPES: tuple[str, ...] = (ActionScope.ANYWHERE,)
    AREA = ""
    HELP_TEXT = ""
    DEFAULT_CSS = """
    ConsoleScreen { background: $c-background; color: $c-foreground; }
    ConsoleScreen.-tiny > * { display: none; }
    ConsoleScreen.-tiny > TooSmall { display: block; }
    """

    def compose(self) -> ComposeResult:
        """Put the bars around the body."""
        self._classes_of_size()
        yield HeaderBar()
        yield StatusLine()
        yield from self.body()
        yield FooterBar()
        yield TooSmall(
            Content(f"The console needs {WIDTH_MIN} by {HEIGHT_MIN} cells; make the window larger.")
        )

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """Repaint regions only: changed widgets paint themselves, and Textual would repaint the whole screen too.

        For a screen that replaces another it would do so three times, though the first frame has everything.
        """
        is_whole = not regions and not recompose
        if is_whole and self._is_opening and not (layout and self.is_mounted):
            return self
        if is_whole and layout:
            repaint = False
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def call_after_refresh(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call it after a refresh, unless this screen is over by then.

        The screen in front makes the call, which may be one that came after this: the parts of this one are gone.
        """
        return super().call_after_refresh(self._if_open, partial(callback, *args, **kwargs))

    def _if_open(self, callback: Callable[[], Any]) -> Any:
        return None if is_over(self) else callback()

    def _classes_of_size(self) -> None:
        # Textual sets these classes with the first size, and then styles every part once more.
        width, height = self.app.size
        for length, steps in (
            (width, self.app.HORIZONTAL_BREAKPOINTS),
            (height, self.app.VERTICAL_BREAKPOINTS),
        ):
            reached = [(least, name) for least, name in steps or () if least <= length]
            if reached:
                self.add_class(max(reached)[1])

    def body(self) -> Iterable[Widget]:
        """The middle of the screen."""
        return ()

    @property
    def console(self) -> Console:
        """The state that all screens of the app share."""
        return cast("HasConsole", self.app).shared

    # --- the gate

    def context(self) -> ActionContext:
        """The state on which actions depend."""
        return self.console.base_context()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ignore keys whose scope this screen does not have."""
        if action == "act" and parameters and str(parameters[0]) in BY_ID:
            return BY_ID[str(parameters[0])].scope in self.SCOPES
        return super().check_action(action, parameters)

    async def action_act(self, action_id: str) -> None:
        """Perform an action; keys, clicks in a bar and commands all come through here."""
        await self.perform(action_id)

    async def perform(self, action_id: str) -> None:
        """Perform an action of the table, or show why not."""
        action = BY_ID[action_id]
        if self.has_class("-tiny") and action_id != "quit":
            return
        reason = action.refusal(self.context())
        if reason:
            self.console.say(f"{action.label}: {reason}", action.refused_as)
            return
        name = "do_" + action_id.replace(".", "_")
        takers = (getattr(part, name, None) for part in (self, *self.parts, self.app))
        handler = next((taker for taker in takers if taker is not None), None)
        if handler is None:
            return
        done = handler()
        if inspect.isawaitable(done):
            await done
        self.refresh_bars()

    def action_copy_text(self) -> None:
        """Copy the text selected with the mouse (^c), and confirm it."""
        super().action_copy_text()
        chosen = self.get_selected_text() or ""
        self.console.say(f"Copied {len(chosen)} characters", "information")

    def permit(self, action_id: str) -> Permit:
        """Return the permit to write; ask for it at the moment of sending.

        Raises:
            NotPermitted: Read-only, stale, or the action's own reason.
        """
        return permit(action_id, self.context(), self.console.client)

    def on_bar_pressed(self, event: BarPressed) -> None:
        """Treat clicks in bars as keys."""
        event.stop()
        self.console.background.start(self.perform(event.action_id), group="click", holds_keys=True)

    # --- help

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the focused widget: a title and lines; None if it has none of its own."""
        node = self.focused
        for part in node.ancestors_with_self if node is not None else ():
            if part is self:
                break
            if isinstance(part, Explained):
                return part.focus_help()
        return None

    # --- drawing

    @property
    def area(self) -> str:
        """The area of this screen, to which the area's number leads back."""
        mode = self.app.current_mode
        return mode if mode in self.app.MODES else self.AREA

    def status(self) -> tuple[Pairs, Pairs]:
        """Left and right part of the second line, as pairs (safe text, role)."""
        return (), ()

    def refresh_bars(self) -> None:
        """Redraw the bars: place, freshness, possible actions."""
        if not self.is_mounted or not self.is_attached or not self.query(HeaderBar):
            return
        self.query_one(HeaderBar).show(self.console.header_facts(self.area))
        left, right = self.status()
        beside = (self.console.under_way, self.console.outbox.text(self._undo_key()))
        right = (*((f"{text}  ", "accent") for text in beside if text), *right)
        line, now_s = self.console.line, self.console.store.mono()
        self.query_one(StatusLine).show(left, right, line.front(now_s), line.beside(now_s))
        offered = actions.footer(self.SCOPES, self.context())
        names = dict(self.console.key_names)
        # In a text field a letter types; in a field of choices it may pick one that begins with it, as d declines.
        keys = {action.id: self._key_here(action) for action, _ in offered}
        offered = [one for one in offered if keys[one[0].id]]
        names = keys | names if self.is_typing else names | keys
        self.query_one(FooterBar).show(offered, names, self.labels())

    def _key_here(self, action: actions.Action) -> str:
        """The key of an action at the current focus; empty if none works there."""
        if self.is_typing:
            return actions.key_while_typing(action)
        key = self.console.key_names.get(action.id, action.key_text)
        is_taken = (
            len(key) == 1 and self.focused is not None and self.focused.check_consume_key(key, key)
        )
        return actions.key_while_typing(action) if is_taken else key

    @property
    def is_typing(self) -> bool:
        """True while characters go into a text field and are no keys."""
        return isinstance(self.focused, Input | TextArea)

    def on_descendant_focus(self) -> None:
        """Redraw the bars, because other keys work now."""
        self.refresh_bars()

    def on_descendant_blur(self) -> None:
        """Redraw the bars, because other keys work now."""
        self.refresh_bars()

    def _undo_key(self) -> str:
        undo = BY_ID["undo"]
        if self.is_typing:
            return actions.key_while_typing(undo)
        return self.console.key_names.get(undo.id, undo.key_text)

    def labels(self) -> dict[str, str]:
        """Footer labels that differ from the table, by action id."""
        return {}

    def tick(self) -> None:
        """Redraw what depends on time, each second while in front."""
        self.refresh_bars()
        for part in self.parts:
            if isinstance(part, Ticking):
                part.tick()

    def tick_behind(self) -> None:
        """Act each second while another screen is in front."""

    def entry_came(self, entry: EntryInfo) -> None:
        """Handle a new entry of the feed."""

    def store_changed(self) -> None:
        """Redraw after a change of the store."""
        self.refresh_bars()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Catch up when the screen opens or comes back to the front."""
        if self.stack_updates == 0:
            event.refresh_styles = False  # its parts have just been styled
            self.call_after_refresh(self._has_opened)
        self.store_changed()
        for part in self.parts:
            if isinstance(part, Ticking):
                part.resumed()

    def _has_opened(self) -> None:
        self._is_opening = False

    def on_resize(self, event: events.Resize) -> None:
        """Show only one sentence below the smallest size."""
        tiny = event.size.width < WIDTH_MIN or event.size.height < HEIGHT_MIN
        self.set_class(tiny, "-tiny")

    def _screen_resized(self, size: Size) -> None:
        # Textual reports the size twice to a screen that opens, and again to those behind it, which have it already.
        # After a resize, `size` may be new before anything is laid out for it.
        known = self._resized_to or self.size
        self._resized_to = size
        if size != known:
            super()._screen_resized(size)

    async def _message_loop_exit(self) -> None:
        drawn = [self, *self.walk_children(Widget)]
        await super()._message_loop_exit()
        for widget in drawn:
            forget_drawn(widget)

    def do_back(self) -> None:
        """Close this screen."""
        if len(self.app.screen_stack) > 1:
            self.dismiss()
