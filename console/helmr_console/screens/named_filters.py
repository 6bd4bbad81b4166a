"""Filters by name: one is picked from a list, and one that holds is kept under a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from textual.containers import Vertical
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from helmr.errors import HelmrError
from helmr.profiles import BUILT_IN, NAME_MAX
from helmr.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionScope
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.widgets.fields import PasteCut, SafeInput


class NamedFilters:
    """The keys that pick a filter of a list by its name, and save one."""

    def __init__(self, page: ListScreen[Any]) -> None:
        self._page = page

    def do_filter_pick(self) -> None:
        """One of the filters that have a name, or none."""
        page = self._page
        found = [MenuItem("all", "no filter", partial(page.set_filter, ""))]
        for name, text in page.filters().items():
            found.append(MenuItem(one_line(name, 60), text, partial(page.set_filter, text)))
        page.app.push_screen(PickScreen("Filters", found, typed=True))

    def do_filter_save(self) -> None:
        """The name is asked on a page of its own."""
        self._page.app.push_screen(SaveFilterScreen(self._page.filter_text))


class SaveFilterScreen(ConsoleScreen):
    """Under which name a filter is kept; without a filter, which one is forgotten.

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
        """The filter, the name, what is wrong with it."""
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
        """A name is typed."""
        names = [name for name in self.console.profile.filters if name not in BUILT_IN]
        self.field.suggester = SuggestFromList(names, case_sensitive=False)
        self.field.focus()
        self.refresh_bars()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter keeps it."""
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
        """Say what a paste lost."""
        event.stop()
        self.console.say(event.text(), "warning")

    def _refuse(self, why: str) -> None:
        self.problem.update(safe.line(f"! {why}", "$c-error", limit=300))

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """What is typed here."""
        return "The name of a filter", (
            "f in the inbox picks it; `helmr next --filter NAME` and other commands use it too",
            "saved again under the same name it takes the place of the one before",
        )

    def status(self) -> tuple[Pairs, Pairs]:
        """What it is."""
        profile = one_line(self.console.profile.name, 40)
        return (("Save a filter", "foreground"),), (
            (f"profile {profile}  enter saves, esc closes", "muted"),
        )
