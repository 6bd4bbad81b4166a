"""A teller serves one notice target: it follows the feed, looks ahead to deadlines, and sends (S-84).

`helmr_runtime.core.notices` decides content and time; this module has the clock, the ledger and the sender. No call of
a task or an operator waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import BadRequest, HelmrError, Unavailable, WaitResolved, WaitTimedOut
from helmr.link_templates import LinkTemplate, links_of
from helmr.models import (
    AnswerLinkRequest,
    NoticeTestReceipt,
    RunInfo,
    WaitInfo,
    WaitKind,
    WaitsQuery,
)
from helmr.models.system import EventName
from helmr.person import filters
from helmr.wire import ids
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.core.notices import (
    ASKING,
    NoticeEvent,
    NoticePace,
    Outbox,
    Position,
    due_soon,
    ends_at_of,
    event_of,
)
from helmr_runtime.notices.content import TEST, Notice, NotTaken, Sender, Subject, notice
from helmr_runtime.notices.targets import ASSIGNEE, PASSING, Target
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.service.access import AnswerLinks
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.following import Events, FollowedEntries

logger = logging.getLogger(__name__)

TAKE_S = 20.0
PAUSE = timedelta(seconds=1)
"""Pause after the ledger did not answer."""

LOOK_AHEAD_EVERY = timedelta(seconds=15)
PAGE_ITEMS = 200
DUE_SOON_PAGES = 50
"""Pages of pending waits, by deadline, that are searched for waits due soon."""

ASKED = (WaitKind.INPUT, WaitKind.TOKEN)
"""The kinds of waits that people answer."""


@dataclass(frozen=True, slots=True)
class TellerMeans:
    """The parts that the tellers of all targets share.

    Attributes:
        ledger: Reads waits and runs.
        events: The feed.
        links: Makes answer links.
        clock: Tells the time.
        source: The runtime's name in notices.
        templates: Those of the links that waits show.
    """

    ledger: LedgerClient
    events: Events
    links: AnswerLinks
    clock: Clock
    source: str
    templates: Sequence[LinkTemplate] = ()


class Teller:
    """One target's way from the feed to its sender.

    Args:
        target: The events that it gets, and in how much detail.
        sender: Sends its notices.
        position: The place to go on from.
        means: The parts that all tellers share.
    """

    def __init__(
        self, target: Target, sender: Sender, position: Position, means: TellerMeans
    ) -> None:
        self.target = target
        self.outbox = Outbox(
            position.offset, position.soon_at, pace=replace(NoticePace(), longest=target.pause_max)
        )
        self.settled = 0
        """Events taken or dropped: when this number grows, the position is worth storing."""
        self.is_caught_up = not position.late
        """True once the outbox has an earlier process's late events; until then its position is not the target's."""
        self._late = position.late
        self._sender = sender
        self._ledger = means.ledger
        self._events = means.events
        self._links = means.links
        self._clock = means.clock
        self._source = means.source
        self._templates = means.templates
        self._filter = target.parsed
        self._heard = frozenset(target.heard)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve the target until cancelled."""
        await self._take_up_late()
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._read())
            parts.create_task(self._send())
            if EventName.WAIT_DUE_SOON in self._heard:
                parts.create_task(self._look_ahead())

    async def test(self) -> NoticeTestReceipt:
        """Send a test notice."""
        sent = Notice(
            id=f"test-{ids.new_id(ids.OPERATION)}",
            event=TEST,
            at=self._clock.now(),
            source=self._source,
            data={
                "subject": f"a test of notice target {self.target.name}",
                "body": f"Notices for {self.target.name} arrive here. This one is about nothing that waits.",
            },
        )
        error, remark = await self._told(sent)
        return NoticeTestReceipt(
            target=self.target.name, taken=error is None, error=error, remark=remark
        )

    def retry(self) -> int:
        """Try all queued events now; returns their number."""
        count = self.outbox.hurry(self._clock.now())
        self._wake.set()
        return count

    def stored(self, passed: Mapping[str, str]) -> None:
        """Note that a position is stored; see `Outbox.stored`."""
        if passed:
            self.outbox.stored(passed)
            self._wake.set()

    # --- what is to be sent ---------------------------------------------------------------------------

    async def _read(self) -> None:
        following: FollowedEntries | None = None
        try:
            while True:
                try:
                    if following is None or following.is_closed:
                        following = await self._events.follow_all(self.outbox.read_offset)
                    for item in await following.take_items(TAKE_S):
                        await self._consider(event_of(item.entry), late=False)
                        self.outbox.read_offset = item.offset
                except HelmrError as error:
                    logger.info("notices %s: the feed is interrupted: %s", self.target.name, error)
                    if following is not None:
                        following.close()
                        following = None
                    await self._sleep(PAUSE)
                while self.outbox.is_full:
                    self._room.clear()
                    await self._room.wait()
        finally:
            if following is not None:
                following.close()

    async def _take_up_late(self) -> None:
        """Queue the events that an earlier process passed by."""
        for first, last in self._late:
            after = first - 1
            while after < last:
                try:
                    entries = await self._ledger.feed(after, min(PAGE_ITEMS, last - after), 0.0)
                    for entry in entries:
                        if entry["feed_offset"] <= last:  # entries after a gap may lie behind it
                            await self._consider(event_of(entry), late=True)
                        after = int(entry["feed_offset"])
                except HelmrError as error:
                    logger.info("notices %s: can't go on yet: %s", self.target.name, error)
                    await self._sleep(PAUSE)
                else:
                    if not entries:
                        break
        self.is_caught_up = True

    async def _look_ahead(self) -> None:
        while True:
            now, after = self._clock.now(), self.outbox.soon_at
            try:
                for wait in await self._ending_by(now + self.target.lead):
                    found = due_soon(wait, lead=self.target.lead, after=after, until=now)
                    await self._consider(found, late=False)
                self.outbox.soon_at = now
            except HelmrError as error:
                logger.info("notices %s: can't look ahead: %s", self.target.name, error)
            await self._sleep(LOOK_AHEAD_EVERY)

    async def _ending_by(self, until: datetime) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        cursor = None
        for _ in range(DUE_SOON_PAGES):
            page = await self._ledger.list_waits(
                **WaitsQuery(kind=list(ASKED), cursor=cursor, limit=PAGE_ITEMS).given()
            )
            for wait in page["items"]:
                ends_at = ends_at_of(wait)
                if ends_at is None or ends_at > until:
                    return found
                found.append(wait)
            cursor = page["next_cursor"]
            if cursor is None:
                return found
        logger.warning(
            "notices %s: too many waits end at once: not all are announced", self.target.name
        )
        return found

    async def _consider(self, event: NoticeEvent | None, *, late: bool) -> None:
        """Queue an event if it is for this target.

        Raises:
            Unavailable: The ledger does not answer, so this can't be decided.
        """
        if event is None or event.name not in self._heard:
            return
        about = await self._about(event)
        if about is None or not (self._wants(event, about) or self._did_want(event, about)):
            return
        if late:
            self.outbox.add_late(event, self._clock.now())
        else:
            self.outbox.add(event, self._clock.now())
        self._wake.set()

    async def _about(self, event: NoticeEvent) -> Subject | None:
        """The wait or run of an event, as it is now; None if the event is not sent.

        Raises:
            Unavailable: The ledger does not answer.
        """
        try:
            if event.wait_id is not None:
                stored = await self._ledger.get_wait(event.wait_id)
                links = links_of(self._templates, stored)
                wait = WaitInfo.model_validate({**stored, "links": links})
                return Subject(wait=wait) if wait.kind in ASKED else None
            run = RunInfo.model_validate(await self._ledger.get_run(event.run_id or ""))
            session = await self._ledger.get_session(event.session_id)
            return Subject(run=run, session_tags=tuple(session["tags"]))
        except Unavailable:
            raise
        except HelmrError as error:
            logger.warning("notices %s: %s is not sent: %s", self.target.name, event.id, error)
            return None

    def _wants(self, event: NoticeEvent, about: Subject) -> bool:
        """True if the target's filter lets the event pass."""
        return self._filter.matches(self._facts(event, about), self._clock.now())

    def _did_want(self, event: NoticeEvent, about: Subject) -> bool:
        """True if people still see the wait at the target, because its filter wants who had the wait before."""
        if event.name is not EventName.WAIT_ASSIGNED or not self.target.stays_in_sight:
            return False
        assert about.wait is not None
        before = about.wait.model_copy(update={"assignee": event.from_assignee})
        return self._wants(event, replace(about, wait=before))

    def _facts(self, event: NoticeEvent, about: Subject) -> filters.Facts:
        if about.wait is not None:
            facts = filters.wait_facts(about.wait, self._clock.now())
            passing = dict.fromkeys(PASSING) if self.target.stays_in_sight else {}
            return {**facts, **passing}
        task = about.run.task if about.run is not None else None
        return {
            "session": event.session_id,
            "run": event.run_id,
            "task": task,
            "tag": about.session_tags,
        }

    # --- telling --------------------------------------------------------------------------------------

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as tries:
            while True:
                self._wake.clear()
                now = self._clock.now()
                for event in self.outbox.due(now):
                    tries.create_task(self._try(event))
                if not self.outbox.is_full:
                    self._room.set()
                next_at = self.outbox.next_at()
                timer = None
                if next_at is not None and next_at > now:  # else the end of a try wakes this
                    timer = self._clock.call_at(next_at, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    if timer is not None:
                        timer.cancel()

    async def _try(self, event: NoticeEvent) -> None:
        try:
            try:
                sent = await self._notice(event)
            except HelmrError as error:
                logger.info("notices %s: %s waits: %s", self.target.name, event.id, error)
                self.outbox.postponed(event, self._clock.now())
                return
            if sent is None:
                self.outbox.dropped(event)
                self.settled += 1
                return
            error_text, _ = await self._told(sent)
            now = self._clock.now()
            if error_text is None:
                self.outbox.took(event, now)
                self.settled += 1
                return
            if self.outbox.failing_since is None:
                logger.warning("notices %s: %s", self.target.name, error_text)
            self.outbox.failed(event, now, error_text)
        finally:
            self._wake.set()

    async def _told(self, sent: Notice) -> tuple[str | None, str | None]:
        """Send a notice; returns the error text, None if the target took it, and what the sender remarks."""
        try:
            return None, await self._sender.send(sent)
        except HelmrError as error:
            has_hint = isinstance(error, NotTaken) and error.hint
            return f"{error.message}. {error.hint}" if has_hint else error.message, None
        except Exception as error:  # noqa: BLE001 - a fault in a sender must not end the others' notices
            # No traceback: it may show a secret.
            return f"it could not be sent: {type(error).__name__}", None

    async def _notice(self, event: NoticeEvent) -> Notice | None:
        """The notice of an event; None if the event is outdated.

        Raises:
            HelmrError: The ledger or the session does not answer.
        """
        about = await self._about(event)
        if about is None:
            return None
        wait = about.wait
        is_pending = wait is not None and wait.takes_answers
        if event.name is EventName.WAIT_DUE_SOON and not is_pending:
            return None
        asks = is_pending and event.name in ASKING
        if self.target.stays_in_sight and event.name in ASKING:
            wants = self._wants(event, about)
            asks = asks and wants
            if not asks and (wants or not self._did_want(event, about)):
                return None  # a later event says what became of the wait
        link = await self._link(wait) if wait is not None and asks else None
        return notice(
            event,
            about,
            detail=self.target.detail,
            source=self._source,
            link=link,
            late=self.outbox.is_late(event),
            asks=asks,
        )

    async def _link(self, wait: WaitInfo) -> str | None:
        """An answer link for the person that the target names; the same link on each try."""
        person = wait.assignee if self.target.links == ASSIGNEE else self.target.links
        if person is None:
            return None
        named = hashlib.sha256(f"{self.target.name}|{wait.id}|{person}".encode()).digest()
        caller = Caller(RUNTIME, ids.from_uuid(ids.OPERATION, uuid.UUID(bytes=named[:16])))
        with suppress(WaitResolved, WaitTimedOut, BadRequest):  # the wait is over or takes no link
            made = await self._links.create(caller, wait.id, AnswerLinkRequest(person=person))
            return made.url
        return None

    async def _sleep(self, pause: timedelta) -> None:
        step = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + pause, step.set)
        try:
            await step.wait()
        finally:
            timer.cancel()
