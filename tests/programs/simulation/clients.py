"""Those who use the runtime: what they ask, how they repeat it, and what they were told.

Each command is planned by itself and draws from a source of its own, so that one can be left out and the others stay as
they were.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

from helmr.errors import (
    HelmrError,
    IdempotencyConflict,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from helmr.wire import ids
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import person_principal
from helmr_runtime.rpc.calls import GATEWAY
from tests.programs.simulation import tasks
from tests.programs.simulation.gateway import Asked
from tests.programs.simulation.users import PEOPLE

if TYPE_CHECKING:
    from tests.programs.simulation.world import World

ALICE = Principal("api_key", "key_simulated", "alice")
BOB = Principal("api_key", "key_other", "bob")
TRIES = 12
PAUSE_S = 0.3


class Clients:
    """All of them.

    Attributes:
        told: What was acknowledged, with the receipt and the hash of the entry that carries it, in that order.
        under_way: Commands that are not answered yet.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: list[tuple[Asked, Any, bytes]] = []
        self.under_way = 0
        self._sessions: list[tuple[str, str]] = []
        self._tokens: list[str] = []
        self._shared: list[tuple[str, str]] = []
        self._links: list[tuple[str, str]] = []
        """Answer links that were made, each with its wait."""
        name, self._mix = world.mix
        world.counts.reached(f"day:{name}")
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, number: int) -> None:
        """Send the command of that number."""
        random = self._world.random(f"command {number}")
        lane = self._world.outside.lane
        lane.create_task(self._command(random))

    def finish(self) -> asyncio.Task[None]:
        """Answer every wait that there is, again and again until none is left."""
        return self._world.outside.lane.create_task(self._answer_all())

    async def _command(self, random: Random) -> None:
        self.under_way += 1
        try:
            weights = self._mix.commands
            (kind,) = random.choices(list(weights), list(weights.values()))
            if kind == "again":
                await self._repeat(random)
                return
            if kind == "answer_batch":
                await self._answer_batch(random)
                return
            if kind == "deliver":
                await self._deliver(random)
                return
            asked = await self._asked(kind, random)
            if asked is not None:
                await self._tell(asked)
        finally:
            self.under_way -= 1

    # --- what is asked --------------------------------------------------------------------------------

    async def _asked(self, kind: str, random: Random) -> Asked | None:
        principal, target, parts = ALICE, "", {}
        sessions = self._sessions[-12:]
        session_id, task = random.choice(sessions) if sessions else ("", "")
        match kind:
            case "start":
                parts = self._start(random)
            case "make_token":
                parts = {"timeout": random.choice((3, 30, 600))}
            case "answer":
                waits = await self._read("waits")
                if not waits:
                    return None
                wait = random.choice(waits)
                if random.random() < 0.3 and wait.deadline_at is not None:
                    await self._until_nearly(wait.deadline_at, random)
                target, parts = wait.id, {"data": _data(wait.stream, random)}
                principal = random.choice((ALICE, ALICE, BOB))
            case "vote" | "withdraw":
                return await self._vote(kind, random)
            case "disable" | "enable":
                disabled = sorted(self._world.invariants.votes.disabled)
                target = random.choice(disabled if disabled and kind == "enable" else list(PEOPLE))
                voted = self._world.invariants.votes.voters()
                if kind == "disable" and voted and random.random() < 0.6:
                    target = random.choice(voted)
                if kind == "disable" and random.random() < 0.5:
                    parts = {"alone": True}
            case "claim" | "release" | "assign" | "link":
                waits = await self._read("waits")
                if not waits:
                    return None
                target, parts = random.choice(waits).id, _at_desk(kind, random)
                principal = random.choice((ALICE, BOB))
            case "answer_link":
                links, asking = self._world.links, self._world.invariants.waits
                urls = list(links)[-8:]
                if random.random() < 0.8:
                    urls = [url for url in links if asking[links[url]].status == "pending"]
                if not urls:
                    return None
                target = random.choice(urls).rpartition("/")[2]
                parts = {"data": random.randrange(50)}
            case "revoke_link":
                return await self._revocation(random)
            case "complete" | "cancel_token":
                token_ids = self._tokens[-6:] + [
                    t for t, s in list(self._world.invariants.tokens.items())[-6:] if s == "pending"
                ]
                if not token_ids:
                    return None
                target = random.choice(token_ids)
                if random.random() < 0.3:
                    known = self._world.invariants.waits.values()
                    on_it = [w for w in known if w.token_id == target and w.status == "pending"]
                    if on_it and on_it[0].deadline_at is not None:
                        await self._until_nearly(on_it[0].deadline_at, random)
                parts = {"data": random.randrange(3)} if kind == "complete" else {}
            case "cancel_run" | "retry":
                runs = await self._read("runs")
                if kind == "retry":
                    runs = [run for run in runs if run.status.value in ("failed", "blocked")]
                if not runs:
                    return None
                target = random.choice(runs).id
            case "prune":
                parts = {"older_than_s": self._world.day_s}
            case "pause" | "resume" | "run_schedule":
                target = random.choice(("rounds", "watches"))
            case "amend":
                return await self._amendment(random)
            case "rewind" | "fork":
                return await self._correction(kind, random)
            case "public_send":
                if not self._shared:
                    return None
                public_id, target = random.choice(self._shared[-3:])
                principal = Principal("public_token", public_id)
                parts = {"stream": "orders", "request": {"data": random.randrange(50)}}
            case _ if not session_id:
                return None
            case "share":
                scope = {"type": "session.input.send", "session": session_id, "stream": "orders"}
                parts = {"scope": scope, "max_uses": random.choice((1, 2, 3))}
            case "send":
                target, parts = session_id, _send(task, random)
            case "close":
                target, parts = session_id, {"end_input": random.random() < 0.5}
            case "note":
                target, parts = session_id, {"text": "seen"}
            case _:
                target = session_id
        return Asked(kind, principal, ids.new_id(ids.OPERATION), target, parts)

    async def _vote(self, kind: str, random: Random) -> Asked | None:
        """A person answers a wait that says who may, rather with what another has said, or takes that back."""
        known = self._world.invariants.votes.asked
        waits = [w for w in await self._read("waits") if w.stream == "refunds"]
        begun = [w for w in waits if w.voters]
        if kind == "withdraw" or (begun and random.random() < 0.6):
            waits = begun
        if not waits:
            return None
        wait = random.choice(waits)
        asked = known.get(wait.id)
        standing = [what for what, _ in asked.standing.values()] if asked is not None else []
        if random.random() < 0.3 and wait.deadline_at is not None:
            await self._until_nearly(wait.deadline_at, random)
        others = [one for one in PEOPLE if one not in wait.voters]
        name = random.choice(others if others and random.random() < 0.8 else list(PEOPLE))
        who = person_principal(name, random.choice(("key_1", "key_2")))
        if kind == "withdraw":
            who = person_principal(random.choice(wait.voters), "key_1")
            return Asked(kind, who, ids.new_id(ids.OPERATION), wait.id, {})
        data = _refund(random)
        if standing and random.random() < 0.7:
            data = {**random.choice(standing), "why": random.randrange(3)}
        return Asked(kind, who, ids.new_id(ids.OPERATION), wait.id, {"data": data})

    async def _revocation(self, random: Random) -> Asked | None:
        """A link is taken back: mostly one whose wait is pending, and if there is none, one that is made for it."""
        if not self._living_links() and random.random() < 0.8:
            made = await self._asked("link", random)
            if made is not None:
                await self._tell(made)
        links = self._living_links() or self._links[-6:]
        if not links:
            return None
        link_id, wait_id = random.choice(links)
        parts = {"link_id": link_id}
        return Asked("revoke_link", ALICE, ids.new_id(ids.OPERATION), wait_id, parts)

    def _living_links(self) -> list[tuple[str, str]]:
        asking = self._world.invariants.waits
        return [one for one in self._links if asking[one[1]].status == "pending"]

    async def _answer_batch(self, random: Random) -> None:
        """Several waits with one answer, one after another, under one name."""
        waits = [wait for wait in await self._read("waits") if wait.stream == "orders"]
        batch_id, data = ids.new_id("batch"), random.randrange(50)
        for wait in random.sample(waits, min(len(waits), 4)):
            parts = {"data": data, "batch_id": batch_id}
            operation_id = ids.new_id(ids.OPERATION)
            await self._tell(Asked("answer_batch", ALICE, operation_id, wait.id, parts))

    async def _deliver(self, random: Random) -> None:
        """What a sender of webhooks does: one delivery, under its id, to several streams; each perhaps once more.

        Some are delivered anew, all at once, when the session has left memory: what brings it back is not all that is
        asked of it.
        """
        if not self._sessions:
            return
        session_id, _ = random.choice(self._sessions[-12:])
        request = {"data": random.randrange(2), "idempotency_key": f"d{random.randrange(3)}"}

        async def send(stream: str) -> None:
            parts = {"stream": stream, "request": request}
            await self._tell(Asked("send", ALICE, ids.new_id(ids.OPERATION), session_id, parts))

        both = ("orders", "remarks")
        for stream in random.choices(both, k=random.randrange(2, 5)):
            await send(stream)
            if random.random() < 0.5:
                await asyncio.sleep(random.random() * 8.0)  # it leaves memory meanwhile
        if random.random() < 0.5:
            await asyncio.sleep(4.0 + random.random() * 4.0)
            for stream in random.sample(both, 2):
                await send(stream)

    async def _amendment(self, random: Random) -> Asked | None:
        """Another answer to one of the newest waits, mostly one that has an answer."""
        waits = list(self._world.invariants.waits.items())[-20:]
        if random.random() < 0.9:
            ended = ("fulfilled", "timed_out")
            waits = [(w, one) for w, one in waits if one.status in ended and one.kind != "timer"]
        if not waits:
            return None
        wait_id, wait = random.choice(waits)
        seen = await self._preview("amend", wait_id, {}, random)
        if seen is None:
            return None
        data = _data(wait.stream, random)
        return Asked("amend", ALICE, ids.new_id(ids.OPERATION), wait_id, {**seen, "data": data})

    async def _correction(self, kind: str, random: Random) -> Asked | None:
        """A rewind or a fork of a newest run, to one of its ops."""
        known = self._world.invariants
        there = [(s, task) for s, task in self._sessions if s in known.sessions]
        sessions = [s for s, _ in there[-12:]]
        of_those = [s for s, task in there if task == tasks.listens.id]
        closed = [s for s in of_those if known.sessions[s].status == "closed"]
        if kind == "rewind" and closed and random.random() < 0.3:  # it opens again
            sessions = closed[-4:]
        session_id = random.choice(sessions) if sessions else ""
        runs = known.sessions[session_id].runs if sessions else {}
        run_id, run = list(runs.items())[-1] if runs else ("", None)
        if run is None or not run.opened:
            return None
        to_op = random.choice(list(run.opened))
        if kind == "rewind":
            seen = await self._preview("rewind", run_id, {"to_op": to_op}, random)
            if seen is None:
                return None
            return Asked("rewind", ALICE, ids.new_id(ids.OPERATION), run_id, seen)
        parts: dict[str, Any] = {"reason": "what if", "to_op": to_op}
        if random.random() < 0.5:  # a run that was just rewound there keeps later answers
            seen = await self._preview("rewind", run_id, {"to_op": to_op}, random)
            if seen is not None:
                operation_id = ids.new_id(ids.OPERATION)
                await self._tell(Asked("rewind", ALICE, operation_id, run_id, seen))
        asked = [w for w in known.waits.values() if (w.run_id, w.op) == (run_id, to_op)]
        if asked and asked[-1].kind != "timer":
            parts["answer"] = _data(asked[-1].stream, random)
        return Asked("fork", ALICE, ids.new_id(ids.OPERATION), session_id, parts)

    async def _preview(
        self, kind: str, target: str, named: dict[str, Any], random: Random
    ) -> dict[str, Any] | None:
        """Look at what it would do, perhaps for so long that it would do something else meanwhile."""
        named = {**named, "keep_answers": random.random() < 0.8}
        operation_id = ids.new_id(ids.OPERATION)
        try:
            seen = await self.ask(Asked(f"preview_{kind}", ALICE, operation_id, target, named))
        except HelmrError as error:
            self._world.counts.reached(f"no preview:{error.code}")
            return None
        if random.random() < 0.3:
            await asyncio.sleep(random.random() * 3.0)
        return {**named, "reason": "it was wrong", "preview_hash": seen.hash}

    async def _until_nearly(self, at: datetime, random: Random) -> None:
        """Some milliseconds before or after that time, where a deadline and what comes meet."""
        left_s = (at - self._world.clock.now()).total_seconds() + random.uniform(-0.02, 0.01)
        if left_s < 30.0:
            await asyncio.sleep(max(0.0, left_s))

    def _start(self, random: Random) -> dict[str, Any]:
        task = random.choice(tasks.TASKS).id
        if self._mix.tasks is not None:
            (task,) = random.choices(list(self._mix.tasks), list(self._mix.tasks.values()))
        if self._world.perilous and random.random() < 0.4:
            task = tasks.deadly.id
        parts: dict[str, Any] = {"task": task, "payload": None}
        if task == "token" and self._tokens and random.random() < 0.8:
            parts["payload"] = {"token_id": random.choice(self._tokens[-4:])}
        elif task in tasks.OF_TENANTS:
            parts["payload"] = {"tenant": random.choice("aaab")}
        if random.random() < 0.15:
            parts["external_id"] = f"x{random.randrange(6)}"
        elif random.random() < 0.15:
            parts["idempotency_key"] = f"k{random.randrange(6)}"
        return parts

    async def _read(self, kind: str) -> list[Any]:
        try:
            found: list[Any] = await self._call(
                Asked(kind, ALICE, ids.new_id(ids.OPERATION), "", {})
            )
        except HelmrError:
            return []
        return found

    # --- how it is asked --------------------------------------------------------------------------------

    async def _call(self, asked: Asked) -> Any:
        return await self._world.calls.call(
            GATEWAY,
            "perform",
            asked.kind,
            asked.principal,
            asked.operation_id,
            asked.target,
            asked.parts,
        )

    async def ask(self, asked: Asked) -> Any:
        """Ask again while no one answers, under the same operation id.

        Raises:
            HelmrError: It was refused, or nobody has answered at all.
        """
        counts = self._world.counts
        for number in range(TRIES):
            try:
                return await self._call(asked)
            except (OutcomeUnknown, Unavailable, Overloaded) as error:
                counts.reached(f"asked again:{error.code}")
                if number == TRIES - 1:
                    raise
                await asyncio.sleep(PAUSE_S * (number + 1))
        raise AssertionError("unreachable")

    async def _tell(self, asked: Asked) -> None:
        try:
            receipt = await self.ask(asked)
        except HelmrError as error:
            self._world.counts.reached(f"refused:{error.code}")
            if asked.kind == "send" and isinstance(error, IdempotencyConflict):
                self._world.invariants.sends.conflicts(asked.target, asked.parts)
            return
        self._take(asked, receipt)

    def _take(self, asked: Asked, receipt: Any) -> None:
        self._world.counts.reached(f"told:{asked.kind}")
        recorded = self._world.invariants.operations.get(asked.operation_id)
        if recorded is not None:
            self.told.append((asked, receipt, recorded.hash))
        if _is_new(asked, receipt):
            self._world.invariants.acknowledged(asked.operation_id, asked.kind)
        match asked.kind:
            case "start":
                self._sessions.append((receipt.session.id, asked.parts["task"]))
            case "fork" | "run_schedule":
                self._sessions.append((receipt.session.id, receipt.session.task))
            case "answer" if getattr(receipt, "outcome", None) == "completed":
                self._world.invariants.answered(asked.target, asked.operation_id)
            case "make_token":
                self._tokens.append(receipt.id)
            case "share":
                self._shared.append((receipt.id, asked.parts["scope"]["session"]))
            case "send" | "public_send":
                self._world.invariants.sends.acknowledged(asked.target, asked.parts, receipt)
            case "disable":
                if recorded is not None and not asked.parts:
                    offset = recorded.feed_offset or 0
                    self._world.invariants.votes.given_back(asked.target, offset)
            case "link":
                self._links.append((receipt.id, asked.target))
                self._world.told_link(receipt.url, asked.target)
            case _:
                pass

    async def _repeat(self, random: Random) -> None:
        """What was answered once is answered the same again (S-61)."""
        if not self.told:
            return
        asked, first, recorded_hash = random.choice(self.told[-30:])
        known, is_of_today = self._world.invariants.operations, self._world.is_of_today
        recorded = known.get(asked.operation_id)
        if recorded is None or not is_of_today(recorded.recorded_at):
            return
        if recorded.hash != recorded_hash:
            return  # it was repeated a day later already, and done anew
        try:
            again = await self.ask(asked)
        except HelmrError as error:
            if (
                not isinstance(error, OutcomeUnknown | Unavailable | Overloaded)
                and _is_new(asked, first)
                and is_of_today(recorded.recorded_at)
            ):
                if asked.kind == "answer_link" and isinstance(error, NotFound):
                    # The secret is what lets somebody in, before any operation is looked up. Seed 147: the link died
                    # with its session, which was cancelled 0.4 s after the answer that is repeated here.
                    return
                self._world.invariants.repeated(asked.kind, _core(asked, first), error.code)
            return
        if _is_new(asked, first) and is_of_today(recorded.recorded_at):
            self._world.invariants.repeated(asked.kind, _core(asked, first), _core(asked, again))

    # --- at the end -----------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        """What is due by the clock begins, then nothing more does; every wait is answered until no run is left."""
        random = self._world.random("the end")
        schedules = self._world.invariants.schedules
        while self.under_way or schedules.behind(self._world.clock.now()) is not None:
            await asyncio.sleep(0.1)  # a command that is under way may go on with a schedule
        for name in PEOPLE:
            await self._tell(Asked("enable", ALICE, ids.new_id(ids.OPERATION), name, {}))
        for name in schedules.by_name:
            await self._tell(Asked("pause", ALICE, ids.new_id(ids.OPERATION), name, {}))
        while self.under_way or self._world.check_quiet() is not None:
            waits = await self._read("waits")
            for wait in waits:
                parts = {"data": _data(wait.stream, random), "override_claim": True}
                if wait.stream == "refunds":
                    parts["override_reason"] = "the day is over"
                await self._tell(Asked("answer", ALICE, ids.new_id(ids.OPERATION), wait.id, parts))
            await asyncio.sleep(1.0)


def _send(task: str, random: Random) -> dict[str, Any]:
    stream = "chat" if task in ("listens", "goes_on") or random.random() < 0.1 else "orders"
    if task == "take":
        stream = random.choice(("orders", "orders", "chat", "remarks"))
    request: dict[str, Any] = {"data": _data(stream, random)}
    if stream == "orders" and random.random() < 0.6:
        request["correlation_id"] = f"q{random.randrange(3)}"
    if random.random() < 0.2:
        request["idempotency_key"] = f"k{random.randrange(4)}"
    return {"stream": stream, "request": request}


def _at_desk(kind: str, random: Random) -> dict[str, Any]:
    match kind:
        case "claim":
            override = random.random() < 0.3
            return {"expires_in": random.choice((2, 10, 60)), "override_claim": override}
        case "assign":
            return {"assignee": random.choice(("alice", "bob", "lead", None))}
        case "link":
            return {"person": random.choice(("Ada", "Ben")), "expires_in": random.choice((2, 600))}
        case _:
            return {}


def _data(stream: str | None, random: Random) -> Any:
    if random.random() < 0.02:
        return {"fits": "nothing"}
    if stream == "refunds":
        return _refund(random)
    return random.choice(("a", "bc", "def")) if stream == "chat" else random.randrange(50)


def _refund(random: Random) -> dict[str, Any]:
    decision = "no" if random.random() < 0.1 else "yes"
    return {"decision": decision, "cents": random.choice((1, 1, 2)), "why": random.randrange(3)}


def _is_new(asked: Asked, receipt: Any) -> bool:
    """The receipt says that this very operation wrote something."""
    match asked.kind:
        case "start":
            return bool(receipt.created)
        case "send" | "public_send":
            return not receipt.duplicate
        case "answer" | "answer_batch" | "answer_link" | "complete":
            return getattr(receipt, "outcome", None) not in ("already_completed",)
        case (
            "note"
            | "make_token"
            | "share"
            | "start_run"
            | "vote"
            | "rewind"
            | "amend"
            | "fork"
            | "link"
        ):
            return True
        case "run_schedule":
            return bool(receipt.created)
        case _:
            return False


def _core(asked: Asked, receipt: Any) -> Any:
    """What of an answer is the receipt: the rest is how things stand now."""
    match asked.kind:
        case "start" | "fork" | "run_schedule":
            return receipt.session.id, receipt.run.id, receipt.created
        case "make_token" | "share" | "start_run" | "rewind" | "amend" | "link":
            return receipt.id
        case _:
            return receipt.model_dump()
