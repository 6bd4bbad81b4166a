"""What every screen asks of the console: its picture of the runtime, its connection, its operator, what it says."""

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
from helmr.editor import EditorFailed, edit
from helmr.models import EntryInfo, WaitInfo
from helmr.profiles import Profile, save_filter, saved_path
from helmr.review import words
from helmr.review.outcome import AnswerOutcome, Result
from helmr.review.personal import AnswerDraft, PersonalFiles
from helmr.safe_text import one_line
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
"""Longest that leaving waits for claims to be released; they lapse by themselves."""
LOST_MAX = 50


@dataclass(frozen=True, slots=True)
class Options:
    """How the console was started."""

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
    """How long what was confirmed can be taken back; 0 lets all of it be reviewed, and leave at once."""

    @property
    def log_path(self) -> Path:
        """The console's own log."""
        return self.state_folder / "console.log"


@runtime_checkable
class OpenScreen(Protocol):
    """A screen, as far as it hears what happened."""

    @property
    def is_attached(self) -> bool: ...
    def refresh_bars(self) -> None: ...
    def tick(self) -> None: ...
    def tick_behind(self) -> None: ...
    def entry_came(self, entry: EntryInfo) -> None: ...
    def store_changed(self) -> None: ...


class UnderWay(Protocol):
    """A batch of answers, as far as is known here."""

    @property
    def is_running(self) -> bool: ...
    def stop(self) -> None: ...
    def content(self, width: int) -> Content: ...


class Console:
    """One operator at one gateway; the same for all screens.

    Args:
        app: Whose screens hear what happened.
        client: Talks to the gateway; closed by the app.
        options: How it was started.
        clock: Where time comes from.
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
        """With the filters that were saved since."""
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
        """Waits that are claimed for as long as their form is open, and what let that through."""
        self.sending = 0
        self.batch: UnderWay | None = None
        """The batch of answers that was sent last, or is being sent."""
        self.under_way = ""
        """How far a batch is, safe text; empty if none is under way."""
        self.unsent = Unsent(self.files.drafts, self.store)
        self.outbox = UndoOutbox(options.hold_s, self.clock, self.lists_changed)
        self.paused_at_s: float | None = None
        """Since when new rows are held back, by the monotonic clock."""
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
        """The connection and the clock."""
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
        """Only what is in front is drawn; what is behind it looks when it is in front again."""
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
        """Who comes back to the console hears how to see what ended meanwhile."""
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
        """An answer of this console was accepted: its row leaves the inbox at once, which goes to the next wait."""
        self.store.answered(wait_id)
        self._show_change()

    def voted(self, wait_id: str) -> None:
        """A vote of this console was accepted: its wait stays, and says who stands for what now."""
        self.background.start(self._read_again(wait_id), group="voted")

    async def _read_again(self, wait_id: str) -> None:
        self.store.put_wait(await self.client.waits.get(wait_id))
        self.lists_changed()

    def took(self, wait_id: str, outcome: AnswerOutcome) -> None:
        """The gateway took an answer of this console."""
        self.form_claims.pop(wait_id, None)
        if outcome.result is Result.VOTED:
            self.voted(wait_id)
        else:
            self.answered(wait_id)

    def keep_as_last(self, wait: WaitInfo, draft: AnswerDraft) -> None:
        """This answer was accepted: forms of waits alike can be filled with it."""
        keeping = asyncio.to_thread(self.files.last.keep, wait, draft)
        self.background.start(keeping, group="last")

    async def give_back(self) -> None:
        """Release what open forms have claimed: the console ends."""
        claimed, self.form_claims = self.form_claims, {}
        releases = [given.client.waits.release(wait_id) for wait_id, given in claimed.items()]
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVES_BACK_S):
                await asyncio.gather(*releases, return_exceptions=True)

    def hold(self, sending: PendingSend) -> None:
        """It was confirmed: it leaves when its time has passed, unless it is taken back."""
        self.background.start(self.outbox.hold(sending), group="held")

    def open_ids(self) -> frozenset[str]:
        """Waits that can be answered and for which no answer is held."""
        return frozenset(self.store.waits) - self.outbox.wait_ids

    def is_claimed_by_another(self, wait_id: str) -> bool:
        """Whether someone else has claimed it, as far as is known."""
        wait = self.store.waits.get(wait_id)
        claim = wait.claim if wait is not None else None
        if claim is None or claim.until <= self.store.now():
            return False
        return claim.on_behalf_of != self.identity

    def take_back(self) -> None:
        """What was confirmed last does not leave."""
        sending = self.outbox.take_back()
        if sending is not None:
            self.say(f"Taken back, nothing was sent: {sending.title}", "information")

    def lists_changed(self) -> None:
        """Something here changes what lists show."""
        self._show_change()

    # --- messages

    def say(self, text: str, severity: str) -> None:
        """Say this on the second line of whatever is in front, for a moment; see `MessageLine`."""
        self.line.say(
            one_line(text, 400), Severity(severity), now_s=self.store.mono(), shown_s=monotonic()
        )
        for screen in self.screens()[-1:]:
            screen.refresh_bars()

    def key_of(self, action_id: str) -> str:
        """The key that does this, as people write it."""
        return self.key_names.get(action_id) or BY_ID[action_id].key_text

    def show_under_way(self, text: str) -> None:
        """Say this on the second line of whatever is in front, until it is said otherwise."""
        self.under_way = text
        for screen in self.screens()[-1:]:
            screen.refresh_bars()

    def _say_error(self, text: str) -> None:
        self.say(text, "error")

    def _keys_left_out(self, count: int) -> None:
        self._say_error(f"The console was not ready; {count} key(s) typed meanwhile were left out")

    # --- filters by name

    async def save_filter(self, name: str, text: str) -> None:
        """Keep a filter of the inbox under this name, in the profile's file; an empty one forgets it.

        Raises:
            UsageError, BadFilter: It can't be kept under this name, or is not a filter.
            OSError: It can't be written.
        """
        path = saved_path(self.options.state_folder, self.profile.name)
        await asyncio.to_thread(save_filter, path, name, text)
        others = {key: one for key, one in self.profile.filters.items() if key != name}
        kept = {**others, name: text.strip()} if text.strip() else others
        self.profile = replace(self.profile, filters=kept)

    # --- where it stands

    def base_context(self) -> ActionContext:
        """Freshness and mode, for every action."""
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
        """What the header says."""
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
        """Show these colours."""
        self._app.theme = name
        for screen in self._app.screen_stack:
            screen.refresh(layout=True)
        self.say(f"Theme {name}", "information")

    def edit(self, text: str, suffix: str) -> str | None:
        """A text through $EDITOR; None if it is as before."""
        try:
            with self._app.suspend():
                return edit(text, self.options.environ, suffix=suffix)
        except EditorFailed as error:
            self.say(str(error), "warning")
        except SuspendNotSupported:
            self.say("An editor needs a terminal of its own", "warning")
        return None
