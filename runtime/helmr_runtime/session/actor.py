"""The pool actor: holds at most one session at a time, and answers for it.

Plain Python; `spawn` makes a Ray actor of it. A *slot* runs task code, a *desk* only decides. The constructor does
nothing that can fail: the task modules are loaded at the first call.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from helmr.errors import Moved, NotReady
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Command, Send
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.faults import Point, reach
from helmr_runtime.host_status import HostStatus, StatusFile
from helmr_runtime.ports import Adopted, Busy, Death, Lease, Ledger, Released, Report
from helmr_runtime.replay.driver import SILENCE_S
from helmr_runtime.session.live_session import LiveSession

LINGER_S = 30.0
"""How long a waiting session stays hot unless others need its actor."""

LOCAL_URL = "http://127.0.0.1:4356"
"""Where a runtime answers unless it was told otherwise."""

WATCH_S = 3600.0
"""A watch that nobody changes is answered after an hour, so that no call waits for ever."""

REPORT_AFTER_S = 0.25
"""That a waiting session works again is reported so late, with whatever it does then: one that is called again and
again would be reported twice a call."""

log = logging.getLogger("helmr.session")


class SessionActor:
    """Implements `helmr_runtime.ports.Session`.

    Args:
        name: Its actor name; what the ledger's head says holds a session.
        role: `slot` or `desk`.
        ledger: The ledger.
        clock: The clock.
        load: Imports the task modules; called once.
        on_retire: Ends this process; called when parts of a run's code did not end.
        status_path: Where the status file is written.
        linger_s: A step's longer backoff parks.
        replay_always: Replay at every await, for tests.
        base_url: What the callback URLs of tokens begin with.
        silence_s: How long a replay may be silent before it counts as different from the journal.
    """

    def __init__(
        self,
        name: str,
        role: str,
        ledger: Ledger,
        clock: Clock,
        load: Callable[[], Registry],
        *,
        on_retire: Callable[[str], None],
        status_path: Path | None = None,
        linger_s: float = LINGER_S,
        replay_always: bool = False,
        silence_s: float = SILENCE_S,
        base_url: str = LOCAL_URL,
        node: str = "",
    ) -> None:
        self.name = name
        self.role = role
        self._ledger = ledger
        self._clock = clock
        self._load = load
        self._retire = on_retire
        self._status_path = status_path
        self._linger_s = linger_s
        self._replay_always = replay_always
        self._silence_s = silence_s
        self._base_url = base_url
        self._node = node
        self._registry: Registry | None = None
        self._status_file: StatusFile | None = None
        self._held: LiveSession | None = None
        self._is_adopting = False
        self._retiring: str | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._fencing: asyncio.Task[None] | None = None
        self._is_releasing = False
        self._reported: tuple[str, str | None, str | None] | None = None
        self._version = 1
        self._state = "free"
        self._since = clock.now()
        self._detail: str | None = None
        self._changed = asyncio.Event()
        self._told: Report | None = None

    # --- Session port ---------------------------------------------------------------------------

    async def adopt(
        self, session_id: str, *, command: Command | None, death: Death | None, catalog_hash: str
    ) -> Adopted:
        """Bind to a session: load, record the last holder's death, decide the command, run what is to run.

        Raises:
            Moved: This actor holds another session, or is about to end.
            NotReady: Its code is not the catalog's; fact `code_hash`.
            HelmrError: What the command raises; the actor holds the session then.
        """
        registry = self._code()
        if registry.code_hash != catalog_hash:
            raise NotReady(
                f"{self.name} has code {registry.code_hash}, the catalog {catalog_hash}",
                code_hash=registry.code_hash,
            )
        if self._retiring is not None or self._is_adopting:
            raise Moved(f"{self.name} can't adopt {session_id}")
        if self._held is not None and not self._held.is_lost:
            if self._held.id != session_id:
                raise Moved(f"{self.name} holds {self._held.id}, not {session_id}")
            reply = await self._held.command(command) if command is not None else None
            return Adopted(epoch=self._held.epoch, reply=reply)
        self._is_adopting = True
        try:
            held = await self._load_session(session_id, command, registry)
            reach(Point.SESSION_LOADED)
            self._held = held
        finally:
            self._is_adopting = False
        self._report()
        reply = await held.begin(command, death)
        self._report()
        return Adopted(epoch=held.epoch, reply=reply)

    async def command(self, session_id: str, command: Command) -> Mapping[str, Any]:
        """Decide a command; returns its receipt when durable."""
        return await self._holding(session_id).command(command)

    async def release(self, session_id: str, reason: str) -> Released | Busy:
        """Park and give the session up.

        Raises:
            Moved: The session is not held here.
        """
        held = self._holding(session_id)
        if not held.is_parkable:
            # Whoever asked takes it for busy, so that "parkable" must be told again even if no call changes anything.
            self._report()
            return Busy(reason=f"{session_id} is not parkable")
        self._is_releasing = True
        try:
            stored = await held.park()
        finally:
            self._is_releasing = False
        if stored is None:
            self._report()
            return Busy(reason=f"{session_id} was called while it parked")
        self._held = None
        log.debug("%s: parked %s (%s)", self.name, session_id, reason)
        self._report()
        if self._is_isolated(held):
            self.end("its session was isolated")
        self._end_if_doomed()
        return Released(next_deadline_at=stored.next_deadline_at)

    async def watch(self, known: int) -> Report:
        """Long poll: returns when the report's version differs from `known`."""
        try:
            await self._until(lambda: self._version != known, WATCH_S)
        except TimeoutError:
            log.debug("%s: nothing changed for %.0f s", self.name, WATCH_S)
        with suppress(TimeoutError):
            await self._until(lambda: not self._is_called_again(), REPORT_AFTER_S)
        self._told = Report(
            state=self._state,
            session_id=self._held.id if self._held is not None else None,
            since=self._since,
            version=self._version,
            detail=self._detail or self._retiring,
        )
        return self._told

    async def _until(self, holds: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def _is_called_again(self) -> bool:
        """The session that was last reported as parkable has been called since, and nothing else happened."""
        told, held = self._told, self._held
        return (
            told is not None
            and told.state == "parkable"
            and held is not None
            and held.id == told.session_id
            and self._state in ("parkable", "busy")
            and self._version != told.version
            and (self._detail or self._retiring) is None
        )

    async def who(self) -> Lease:
        """What this actor holds."""
        held = self._held
        return Lease(
            name=self.name,
            session_id=held.id if held is not None else None,
            epoch=held.epoch if held is not None else None,
            code_hash=self._code().code_hash,
            pid=os.getpid(),
            executing=held is not None and held.execution.is_executing(held.state.run),
            node=self._node,
        )

    async def ping(self) -> None:
        """Answered by the actor's loop."""

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored; for tests."""
        held = self._held
        return not self._is_adopting and (held is None or held.is_settled)

    async def crash(self) -> None:
        """Drop what is held without a word to the ledger, as a kill does; for in-process tests."""
        held, self._held = self._held, None
        if held is not None:
            held.drop()
            await held.execution.wait_closed()

    # --- parts ----------------------------------------------------------------------------------

    async def _load_session(
        self, session_id: str, command: Command | None, registry: Registry
    ) -> LiveSession:
        key: tuple[str, str] | None = None
        if isinstance(command, Send) and command.idempotency_key is not None:
            key = (command.stream, key_hash(command.idempotency_key))
        operation = command.operation if command is not None else None
        loaded = await self._ledger.load(
            session_id,
            self.name,
            operation_id=operation.id if operation is not None else None,
            key=key,
        )
        return LiveSession(
            loaded,
            asked_operation=operation,
            session_id=session_id,
            ledger=self._ledger,
            clock=self._clock,
            registry=registry,
            is_hot=self.role == "slot",
            linger_s=self._linger_s,
            replay_always=self._replay_always,
            silence_s=self._silence_s,
            base_url=self._base_url,
            on_change=self._report,
            on_lost=self._lost,
            on_retire=self.end,
        )

    def _code(self) -> Registry:
        if self._registry is None:
            self._registry = self._load()
        return self._registry

    def _holding(self, session_id: str) -> LiveSession:
        held = self._held
        if held is None or held.id != session_id or held.is_lost:
            raise Moved(f"{self.name} does not hold {session_id}")
        return held

    @staticmethod
    def _is_isolated(held: LiveSession) -> bool:
        return held.registered is not None and held.registered.task.isolated

    def _lost(self, reason: str) -> None:
        self._detail = reason
        self._report()
        held, self._held = self._held, None
        if held is not None:
            self._is_adopting = True
            self._fencing = asyncio.get_running_loop().create_task(self._bury(held))

    async def _bury(self, held: LiveSession) -> None:
        """A lost session's code ends before this actor serves another session."""
        try:
            await held.execution.wait_ended()
        finally:
            self._is_adopting = False
            self._detail = None
            self._report()
            self._end_if_doomed()

    def end(self, reason: str) -> None:
        """This actor must not serve another session: it gives up the one it holds, and ends."""
        log.warning("%s ends: %s", self.name, reason)
        self._retiring = self._retiring or reason
        self._report()
        self._end_if_doomed()

    async def _leave(self, held: LiveSession) -> None:
        """Give the session up unasked, so that it is soon where code can run again."""
        try:
            await self.release(held.id, "retiring")
        except Moved:
            self._end_if_doomed()
        finally:
            self._leaving = None

    def _end_if_doomed(self) -> None:
        if self._retiring is not None and self._held is None:
            self._retire(self._retiring)

    def _report(self) -> None:
        held = self._held
        if held is None:
            state = "failed" if self._detail is not None or self._is_adopting else "free"
        elif held.is_lost:
            state = "failed" if self._detail is not None else "busy"
        else:
            state = "parkable" if held.is_parkable else "busy"
        self._write_crumb()
        is_to_leave = self._retiring is not None and state == "parkable"
        if is_to_leave and held is not None and not self._is_releasing and self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave(held))
        detail = self._detail or self._retiring
        now_is = (state, held.id if held is not None else None, detail)
        if now_is == self._reported:
            return
        self._reported = now_is
        self._state = state
        self._since = self._clock.now()
        self._version += 1
        self._changed.set()

    def _write_crumb(self) -> None:
        if self._status_file is None:
            self._status_file = StatusFile(self._status_path)
        held = self._held
        if held is None:
            self._status_file.write(None)
            return
        run = held.state.run
        executing = held.execution.is_executing(run)
        op = run.op_max if executing and run is not None and run.op_max else None
        self._status_file.write(HostStatus(held.id, held.epoch, executing, op))
