"""State and services that all screens share: the store, the connection, the operator, messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from textual.app import App, SuspendNotSupported
from textual.content import Content

from helmr.client.aio import AsyncClient
from helmr.client.profiles import Profile, save_filter, saved_path
from helmr.models import EntryInfo, WaitInfo
from helmr.person.editor import EditorFailed, edit
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.personal import AnswerDraft, PersonalFiles
from helmr.wire.safe_text import one_line
from helmr_console import views
from helmr_console.actions import BY_ID, ActionContext, Permit, key_name
from helmr_console.background import Background
from helmr_console.bell import Bell
from helmr_console.clock import ConsoleClock, LinkState, MachineClock, ServerClock
from helmr_console.ended import LastHere
from helmr_console.keys import KeyLine
from helmr_console.link import Link
from helmr_console.look import DEFAULT_THEME
from helmr_console.message_line import MessageLine, Severity
from helmr_console.store import Store
from helmr_console.unsent import PendingSend, Snoozed, UndoOutbox, Unsent
from helmr_console.widgets.bars import HeaderFacts

COALESCE_S = 0.05
"""Entries of the feed within this time are shown together."""
GIVES_BACK_S = 2.0
"""Longest wait for claims to be released at the end; they lapse by themselves."""
LOST_MAX = 50


@dataclass(frozen=True, slots=True)
class Options:
    """Options with which the console was started."""

    read_only: bool = False
    ascii_only: bool = False
    theme: str = DEFAULT_THEME
    name: str = ""
    identity: str = "you"
    keys: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    state_folder: Path = Path(".helmr-console")
    environ: Mapping[str, str] = field(default_factory=dict)
    handle_signals: bool = False
    hold_s: float = 0.0
    """Seconds in which a confirmed answer can be taken back; with 0 every answer is reviewed and leaves at once."""

    @property
    def log_path(self) -> Path:
        """The console's own log."""
        return self.state_folder / "console.log"


@runtime_checkable
class OpenScreen(Protocol):
    """A screen that hears of changes."""

    @property
    def is_attached(self) -> bool: ...
    def refresh_bars(self) -> None: ...
    def tick(self) -> None: ...
    def tick_behind(self) -> None: ...
    def entry_came(self, entry: EntryInfo) -> None: ...
    def store_changed(self) -> None: ...


class UnderWay(Protocol):
    """The batch of answers, as the console uses it."""

    @property
    def is_running(self) -> bool: ...
    def stop(self) -> None: ...
    def content(self, width: int) -> Content: ...


class Console:
    """One operator at one gateway; the same for all screens.

    Args:
        app: Its screens hear of changes.
        client: Talks to the gateway; closed by the app.
        options: The options of the command.
        clock: Source of time; the machine's if None.
    """

    def __init__(
        self, app: App[Any], client: AsyncClient, options: Options, clock: ConsoleClock | None
    ) -> None:
        self.clock: ConsoleClock = clock or MachineClock()
        self.store = Store(ServerClock(self.clock))
        self.options = options
        self.client = client
        self.files = PersonalFiles.within(options.state_folder, options.identity)
        self.snoozed = Snoozed(self.files.snoozes, self.store.now)
        self.here = LastHere(self.files.drafts.folder.parent / "last-here.json")
        self.identity = one_line(options.identity, 60)
        self.profile = options.profile
        """The profile, with filters saved since the start."""
        self._bell = Bell(
            app, options.profile.notices, self.store, options.identity, options.environ
        )
        self.key_names = {
            action_id: " ".join(key_name(key) for key in keys.split(",")[:1])
            for action_id, keys in options.keys.items()
        }
        self.line = MessageLine()
        self.lost: deque[Content] = deque(maxlen=LOST_MAX)
        """Pending answers to waits that someone else answered first, the newest first."""
        self.form_claims: dict[str, Permit] = {}
        """Waits claimed while their form is open, each with the permit that claimed it."""
        self.sending = 0
        self.batch: UnderWay | None = None
        """The batch that is being sent, or was sent last."""
        self.under_way = ""
        """Progress of the batch, safe text; empty if none is being sent."""
        self.unsent = Unsent(self.files.drafts, self.store)
        self.outbox = UndoOutbox(options.hold_s, self.clock, self.lists_changed)
        self.paused_at_s: float | None = None
        """Monotonic time at which the operator paused new rows; None if they come in."""
        self._app = app
        self._coming: list[EntryInfo] = []
        self._flush_set = False
        self._typed_s: float | None = None
        self.keys = KeyLine(app, left_out=self._keys_left_out)
        self.background = Background(
            app, self.keys, self.store.errors, options.log_path, say=self._say_error
        )
        self.link = Link(client, self.store, self.clock, changed=self._changed)

    def start(self) -> None:
        """Start the connection and the ticks."""
        self.background.start(self.link.run(), group="link")
        self.background.start(self._tick(), group="tick")

    def ask_again(self) -> None:
        """Ask the gateway now."""
        if self.store.freshness.failing:
            self.link.ask_again()
        else:
            self.background.start(self.link.reload(), group="reload", exclusive=True)

    # --- what screens hear

    def screens(self) -> list[OpenScreen]:
        """The screens of this area, the one on top last."""
        return [screen for screen in self._app.screen_stack if isinstance(screen, OpenScreen)]

    def _show_change(self) -> None:
        """Redraw the screen in front; those behind it catch up when they come to the front."""
        for screen in self.screens()[-1:]:
            if screen.is_attached:
                screen.store_changed()

    async def _tick(self) -> None:
        while True:
            begun = await self.unsent.look()
            if await self.snoozed.look() or begun:
                self.lists_changed()
            await self._look_who_is_here()
            await self.clock.sleep(1.0)
            attached = [screen for screen in self.screens() if screen.is_attached]
            for screen in attached[:-1]:
                screen.tick_behind()
            for screen in attached[-1:]:
                screen.tick()

    async def _look_who_is_here(self) -> None:
        """Point an operator who was away to the list of what ended meanwhile."""
        if self.store.health is None or self.keys.typed_s == self._typed_s:
            return
        self._typed_s, now = self.keys.typed_s, self.store.now()
        away = self.here.pressed(now)
        if away is not None:
            for_long = words.span(away.total_seconds())
            self.say(f"Away for {for_long}: {self.key_of('since')} shows what ended", "information")
        try:
            await self.here.keep(now)
        except OSError as error:
            self.store.errors.append(f"when you were here can't be kept: {error.strerror}")

    def _changed(self, entry: EntryInfo | None) -> None:
        if entry is not None:
            self._coming.append(entry)
            self._bell.heard(entry)
        if not self._flush_set:
            self._flush_set = True
            self._app.set_timer(COALESCE_S, self._show_changes)

    def _show_changes(self) -> None:
        self._flush_set = False
        coming, self._coming = self._coming, []
        for screen in self.screens():
            for entry in coming:
                screen.entry_came(entry)
        self._show_change()

    def answered(self, wait_id: str) -> None:
        """Remove the row of an accepted answer from the inbox at once; the cursor goes to the next wait."""
        self.store.answered(wait_id)
        self._show_change()

    def voted(self, wait_id: str) -> None:
        """Read the wait of an accepted vote again: it stays in the inbox and shows the votes."""
        self.background.start(self._read_again(wait_id), group="voted")

    async def _read_again(self, wait_id: str) -> None:
        self.store.put_wait(await self.client.waits.get(wait_id))
        self.lists_changed()

    def took(self, wait_id: str, outcome: AnswerOutcome) -> None:
        """Record that the gateway accepted an answer or a vote of this console."""
        self.form_claims.pop(wait_id, None)
        if outcome.result is Result.VOTED:
            self.voted(wait_id)
        else:
            self.answered(wait_id)

    def keep_as_last(self, wait: WaitInfo, draft: AnswerDraft) -> None:
        """Keep an accepted answer, to fill forms of similar waits."""
        keeping = asyncio.to_thread(self.files.last.keep, wait, draft)
        self.background.start(keeping, group="last")

    async def give_back(self) -> None:
        """Release the claims of open forms before the console ends."""
        claimed, self.form_claims = self.form_claims, {}
        releases = [given.client.waits.release(wait_id) for wait_id, given in claimed.items()]
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVES_BACK_S):
                await asyncio.gather(*releases, return_exceptions=True)

    def hold(self, sending: PendingSend) -> None:
        """Hold a confirmed answer; it is sent when its time has passed, unless it is taken back."""
        self.background.start(self.outbox.hold(sending), group="held")

    def open_ids(self) -> frozenset[str]:
        """Ids of the open waits without a pending answer."""
        return frozenset(self.store.waits) - self.outbox.wait_ids

    def is_claimed_by_another(self, wait_id: str) -> bool:
        """True while someone else holds the claim, as far as is known here."""
        wait = self.store.waits.get(wait_id)
        claim = wait.claim if wait is not None else None
        if claim is None or claim.until <= self.store.now():
            return False
        return claim.on_behalf_of != self.identity

    def take_back(self) -> None:
        """Take back the answer that was confirmed last."""
        sending = self.outbox.take_back()
        if sending is not None:
            self.say(f"Taken back, nothing was sent: {sending.title}", "information")

    def lists_changed(self) -> None:
        """Redraw lists after a change in the console itself."""
        self._show_change()

    # --- messages

    def say(self, text: str, severity: str) -> None:
        """Show this on the second line of the screen in front, for a moment (`MessageLine`)."""
        self.line.say(
            one_line(text, 400), Severity(severity), now_s=self.store.mono(), shown_s=monotonic()
        )
        for screen in self.screens()[-1:]:
            screen.refresh_bars()

    def key_of(self, action_id: str) -> str:
        """The action's key, as people write it."""
        return self.key_names.get(action_id) or BY_ID[action_id].key_text

    def show_under_way(self, text: str) -> None:
        """Show this on the second line of the screen in front, until the next call."""
        self.under_way = text
        for screen in self.screens()[-1:]:
            screen.refresh_bars()

    def _say_error(self, text: str) -> None:
        self.say(text, "error")

    def _keys_left_out(self, count: int) -> None:
        self._say_error(f"The console was not ready; {count} key(s) typed meanwhile were left out")

    # --- filters by name

    async def save_filter(self, name: str, text: str) -> None:
        """Save an inbox filter under this name in the profile's file; an empty one deletes it.

        Raises:
            UsageError, BadFilter: The name can't be used, or the text is not a filter.
            OSError: The file can't be written.
        """
        path = saved_path(self.options.state_folder, self.profile.name)
        await asyncio.to_thread(save_filter, path, name, text)
        others = {key: one for key, one in self.profile.filters.items() if key != name}
        kept = {**others, name: text.strip()} if text.strip() else others
        self.profile = replace(self.profile, filters=kept)

    # --- where it stands

    def base_context(self) -> ActionContext:
        """The part of the context that all actions share: freshness, mode, batch."""
        now_s = self.store.mono()
        fresh = self.store.freshness
        return ActionContext(
            live=fresh.writable(now_s),
            link_text=fresh.text(now_s),
            read_only=self.options.read_only,
            held=len(self.outbox),
            batch_running=self.batch is not None and self.batch.is_running,
            has_batch=self.batch is not None,
            lost=len(self.lost),
        )

    def header_facts(self, area: str) -> HeaderFacts:
        """Facts for the header."""
        now_s = self.store.mono()
        fresh = self.store.freshness
        state = fresh.link(now_s)
        role = {LinkState.LIVE: "success", LinkState.CONNECTING: "muted"}.get(state, "error")
        failed, blocked = self.store.failed_and_blocked
        name = self.options.name or self.client.endpoint.url.partition("://")[2]
        return HeaderFacts(
            name=one_line(name, 40),
            area=area,
            link=fresh.text(now_s),
            link_role=role,
            offset=self.store.feed_offset,
            identity=self.identity,
            read_only=self.options.read_only,
            failed=views.failed_text(failed, blocked),
            failed_count=failed + blocked,
        )

    def paused_text(self) -> str:
        """`paused 2m`; empty while new rows come in."""
        if self.paused_at_s is None:
            return ""
        for_s = int(self.store.mono() - self.paused_at_s)
        return f"paused {for_s // 60}m" if for_s >= 60 else f"paused {for_s}s"

    # --- the terminal

    def use_theme(self, name: str) -> None:
        """Switch to this theme."""
        self._app.theme = name
        for screen in self._app.screen_stack:
            screen.refresh(layout=True)
        self.say(f"Theme {name}", "information")

    def edit(self, text: str, suffix: str) -> str | None:
        """Edit a text in $EDITOR; None if it did not change or the editor failed."""
        try:
            with self._app.suspend():
                return edit(text, self.options.environ, suffix=suffix)
        except EditorFailed as error:
            self.say(str(error), "warning")
        except SuspendNotSupported:
            self.say("An editor needs a terminal of its own", "warning")
        return None
