"""Clients that do at random what people and programs do, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr import auth
from helmr.client import AsyncClient
from helmr.errors import HelmrError, TokenExhausted
from helmr.models import LIST_LIMIT_MAX, Activity, VoteReceipt
from helmr.wire import ids
from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.history_tasks import APPROVALS
from tests.programs.histories.transport import Connect

STREAM = "numbers"
STREAMS = (STREAM, "notes")
WAITS = 20
"""Of each session; then another is started."""
USES_MAX = 8
CALL_S = 10.0
"""Then a caller gives up and knows nothing."""
LEAVES_S = 1.5
"""Within so long a session that nobody calls has left memory, mostly."""
AFTER_UNKNOWN_S = 0.05
AFTER_UNKNOWN_MAX_S = 0.5
SOME = 16
"""Of so many clients one asks again after a pause that doubles up to this."""
PEOPLE = ("ada", "bo", "cy")
AGREEING = 3
"""Sessions in which they must agree."""
AGREES = 0.12
"""So much of what is done, people do."""
AGREED = 500
"""Waits of each; none comes to its end."""
OUT_S = 1.0
"""Within so long one who was disabled is enabled again."""
PATIENCE_S = 5.0
"""The others wait until somebody's write is acknowledged, but no longer: what is down would fill the history."""
LIST_TRIES = 3
REPEATED_MAX = 400
"""So many operations are remembered, to be repeated."""

MIX: Mapping[str, float] = {
    "deliver": 2.0,
    "send": 15.0,
    "answer": 25.0,
    "use": 10.0,
    "complete": 5.0,
    "repeat": 10.0,
    "read_log": 7.0,
    "read_session": 20.0,
    "read_wait": 3.0,
    "read_token": 2.5,
    "read_run": 0.5,
}
"""How often a client does what with a session, besides what people do."""

Do = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Place:
    """A session that the clients know.

    Args:
        session_id: Its id.
        run_id: Its only run.
        public_id: The id of its public token.
        secret: That token.
        token_id: A token to be completed.
        wait_id: The wait that was pending when it was last looked at.
    """

    session_id: str
    run_id: str
    public_id: str
    secret: str
    token_id: str
    wait_id: str | None = None

    @property
    def stream(self) -> str:
        """What the log of its waits is called in the history."""
        return self.log_of(STREAM)

    def log_of(self, stream: str) -> str:
        """What the log of a stream is called in the history."""
        return f"{self.session_id}/{stream}"


class Pace:
    """Has those who share it do so much and no more; what was missed is not made up for.

    Args:
        per_s: So many turns in a second.
    """

    def __init__(self, per_s: float) -> None:
        self._step_s = 1.0 / per_s
        self._next_s = 0.0

    async def turn(self) -> None:
        """Return when it is the caller's turn."""
        now_s = time.monotonic()
        self._next_s = max(self._next_s + self._step_s, now_s)
        await asyncio.sleep(self._next_s - now_s)


@dataclass(slots=True)
class World:
    """What all clients share.

    Args:
        seed: Of everything that is drawn.
        sessions: How many are live at once.
        mix: What is done with them how often.
    """

    seed: int
    sessions: int
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)
    calls: list[Call] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    left: list[Place] = field(default_factory=list)
    """Sessions that have ended, or were given up."""
    repeatable: list[tuple[Call, Do]] = field(default_factory=list)
    values: itertools.count[int] = field(default_factory=itertools.count)
    keys: dict[str, str] = field(default_factory=dict)
    """Of people; one who is disabled has none."""
    agreeing: dict[str, str | None] = field(default_factory=dict)
    """Sessions in which people must agree, each with the wait that was pending when it was last looked at."""
    is_disabling: bool = False
    accepted_ns: int = 0
    """When the newest of the writes began that were acknowledged."""
    pausing: list[asyncio.Future[None]] = field(default_factory=list)
    """Clients whose last call had an unknown outcome."""
    pace: Pace | None = None
    """Of all clients together; None: as fast as they can."""
    marked: int = 0
    """Reads that said that they may be stale."""

    def accepted(self, call: Call) -> None:
        """A write was acknowledged: whoever pauses goes on."""
        self.accepted_ns = max(self.accepted_ns, call.began_ns)
        for one in self.pausing:
            if not one.done():
                one.set_result(None)
        self.pausing.clear()

    async def until_accepted(self, *, within_s: float) -> None:
        """Return when the next write is acknowledged, or after so long."""
        one = asyncio.get_running_loop().create_future()
        self.pausing.append(one)
        await asyncio.wait([one], timeout=within_s)


class HistoryClient:
    """One client: makes one call at a time.

    Args:
        number: Its number in the history.
        connect: Makes what it calls with.
        key: An admin's.
        world: What it shares.
        ran: When the body of the step with this key began, on this process's monotonic clock; each time that it did.
        wall_ns: What that clock shows when the runtime's wall clock shows 1970; None if that is set meanwhile.
    """

    def __init__(
        self,
        number: int,
        connect: Connect,
        key: str,
        world: World,
        ran: Callable[[str], list[int]],
        wall_ns: int | None,
    ) -> None:
        self.number = number
        self._ages: list[str] = []
        self._connect = connect
        self._client = connect(key, self._ages)
        self._world = world
        self._ran = ran
        self._wall_ns = wall_ns
        self._pause_s = AFTER_UNKNOWN_S
        self._random = random.Random(f"{world.seed}-{number}")
        self._people: dict[str, AsyncClient] = {}
        """By key, of which a person gets another now and then."""

    async def close(self) -> None:
        """Close its connections."""
        for client in self._people.values():
            await client.close()
        await self._client.close()

    async def live(self, is_over: Callable[[], bool]) -> None:
        """Do one thing after the other."""
        while not is_over():
            if self._world.pace is not None:
                await self._world.pace.turn()
            if len(self._world.places) < self._world.sessions:
                await self._begin()
                continue
            if self._random.random() < (AGREES if self._can_agree else 0.5):
                await self._agree()
                continue
            await self._act(self._random.choice(self._world.places))

    async def _act(self, place: Place) -> None:
        mix = self._world.mix
        (name,) = self._random.choices(list(mix), list(mix.values()))
        match name:
            case "repeat":
                if self._world.repeatable:
                    await self.repeat()
            case "read_log":
                await self.read_log(place, self._random.choice(STREAMS))
            case _:
                await getattr(self, name)(place)

    # --- what is written ------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Start a session; one that is not known to be there is not used."""
        begun = ids.new_id(ids.OPERATION)
        started: list[Any] = []

        async def start() -> Any:
            started.append(await self._client.sessions.start("takes", WAITS, operation_id=begun))
            return {"id": started[-1].id}

        await self._write(start, Kind.CREATE, "session", begun)
        if not started:
            return
        session, public, token = started[0], list[Any](), list[Any]()
        published, made = ids.new_id(ids.OPERATION), ids.new_id(ids.OPERATION)

        async def publish() -> Any:
            scope = auth.send_to(STREAM, session=session.id)
            public.append(
                await self._client.auth.create_public_token(
                    scope=scope, max_uses=USES_MAX, operation_id=published
                )
            )
            return {"id": public[-1].id}

        async def make() -> Any:
            token.append(
                await self._client.tokens.create(schema={"type": "integer"}, operation_id=made)
            )
            return {"id": token[-1].id}

        await self._write(publish, Kind.CREATE, "public token", published)
        await self._write(make, Kind.CREATE, "token", made)
        if public and token:
            self._world.places.append(
                Place(
                    session_id=session.id,
                    run_id=session.started_run.id,
                    public_id=public[0].id,
                    secret=public[0].public_access_token,
                    token_id=token[0].id,
                )
            )

    async def send(self, place: Place) -> None:
        """Append a number."""
        value, operation = next(self._world.values), ids.new_id(ids.OPERATION)
        log = self._client.sessions.open(place.session_id).input(STREAM)

        async def do() -> Any:
            receipt = await log.send(value, operation_id=operation)
            return {"seq": receipt.seq}

        await self._write(do, Kind.SEND, place.stream, operation, value)

    async def deliver(self, place: Place) -> None:
        """Append a number to both streams under one idempotency key; to the first of them once more in between."""
        value = next(self._world.values)
        first, second = self._random.sample(STREAMS, 2)
        for stream in (first, first, second):
            await self._deliver(place, stream, value)
            if self._random.random() < 0.5:
                await asyncio.sleep(self._random.random() * LEAVES_S)

    async def _deliver(self, place: Place, stream: str, value: int) -> None:
        """One operation is one key on one stream: each try has an operation id of its own."""
        log, target = self._client.sessions.open(place.session_id), place.log_of(stream)

        async def do() -> Any:
            receipt = await log.input(stream).send(value, idempotency_key=f"delivery {value}")
            return {"seq": receipt.seq, "stream": place.log_of(receipt.stream)}

        await self._write(do, Kind.SEND, target, f"delivery {value} to {target}", value)

    async def use(self, place: Place) -> None:
        """Append a number with the public token."""
        value, operation = next(self._world.values), ids.new_id(ids.OPERATION)
        log = self._client.sessions.open(place.session_id).input(STREAM)

        async def do() -> Any:
            receipt = await log.send(
                value, public_access_token=place.secret, operation_id=operation
            )
            return {"seq": receipt.seq}

        await self._write(do, Kind.USE, place.stream, operation, value, beside=place.public_id)

    async def answer(self, place: Place) -> None:
        """Answer the wait that was pending when it was last looked at."""
        wait_id = place.wait_id
        if wait_id is None:
            await self.read_session(place)
            return
        value, operation = next(self._world.values), ids.new_id(ids.OPERATION)

        async def do() -> Any:
            receipt = await self._client.waits.answer(wait_id, value, operation_id=operation)
            return {"seq": receipt.seq}  # type: ignore[union-attr]

        await self._write(do, Kind.ANSWER, wait_id, operation, value, beside=place.stream)

    async def complete(self, place: Place) -> None:
        """Complete the session's token."""
        value, operation = next(self._world.values), ids.new_id(ids.OPERATION)

        async def do() -> Any:
            receipt = await self._client.tokens.complete(
                place.token_id, value, operation_id=operation
            )
            return {"outcome": receipt.outcome}

        await self._write(do, Kind.COMPLETE, place.token_id, operation, value)

    async def repeat(self) -> None:
        """Make an earlier call again, with its operation id."""
        before, do = self._random.choice(self._world.repeatable)
        await self._write(
            do, before.kind, before.target, before.operation, before.value, beside=before.beside
        )

    async def _write(
        self, do: Do, kind: Kind, target: str, operation: str, value: int = -1, *, beside: str = ""
    ) -> None:
        call = await self._called(do, kind, target, operation=operation, value=value, beside=beside)
        if call.outcome is Outcome.OK:
            self._world.accepted(call)
        known = self._world.repeatable
        if len(known) < REPEATED_MAX:
            known.append((call, do))
        else:
            known[self._random.randrange(REPEATED_MAX)] = (call, do)

    # --- what people do -------------------------------------------------------------------------

    @property
    def _can_agree(self) -> bool:
        world = self._world
        has_keys = len(world.keys) == len(PEOPLE) or world.is_disabling
        return has_keys and len(world.agreeing) == AGREEING

    async def _agree(self) -> None:
        """A person votes, or takes their vote back; seldom one of them is disabled for a moment."""
        world, draw = self._world, self._random.random()
        if len(world.agreeing) < AGREEING:
            with contextlib.suppress(HelmrError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    world.agreeing[(await self._client.sessions.start("agrees", AGREED)).id] = None
            return
        missing = [one for one in PEOPLE if one not in world.keys]
        if (missing or draw < 0.03) and not world.is_disabling:
            world.is_disabling = True
            try:
                if missing:
                    await self._give_key(missing[0])
                else:
                    await self._disable(self._random.choice(PEOPLE))
            finally:
                world.is_disabling = False
            return
        if not world.keys:
            return
        session_id, wait_id = self._random.choice(list(world.agreeing.items()))
        if wait_id is None:
            with contextlib.suppress(HelmrError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    info = await self._client.sessions.open(session_id).get()
                    world.agreeing[session_id] = info.wait.id if info.wait is not None else None
            return
        person = self._random.choice(sorted(world.keys))
        if draw < 0.12:
            await self._withdraw(wait_id, person)
        else:
            await self._vote(session_id, wait_id, person)

    def _as(self, person: str) -> AsyncClient:
        """A client with their newest key."""
        key = self._world.keys[person]
        if key not in self._people:
            self._people[key] = self._connect(key, self._ages)
        return self._people[key]

    async def _vote(self, session_id: str, wait_id: str, person: str) -> None:
        client, operation = self._as(person), ids.new_id(ids.OPERATION)
        amount = 1 if self._random.random() < 0.8 else 2

        async def do() -> Any:
            receipt = await client.waits.answer(wait_id, amount, operation_id=operation)
            have = receipt.have if isinstance(receipt, VoteReceipt) else APPROVALS
            return {"outcome": receipt.outcome, "have": have, "need": APPROVALS}

        told = await self._called(
            do, Kind.VOTE, wait_id, operation=operation, value=amount, beside=person
        )
        if told.outcome is not Outcome.OK or told.told["outcome"] != "voted":
            self._world.agreeing[session_id] = None

    async def _withdraw(self, wait_id: str, person: str) -> None:
        client = self._as(person)

        async def do() -> Any:
            receipt = await client.waits.withdraw(wait_id)
            return {"have": receipt.have, "need": receipt.need}

        operation = ids.new_id(ids.OPERATION)
        await self._called(do, Kind.WITHDRAW, wait_id, operation=operation, beside=person)

    async def _disable(self, person: str) -> None:
        """They act no more, until they are enabled and given another key."""
        for kind in (Kind.DISABLE, Kind.ENABLE):
            operation = ids.new_id(ids.OPERATION)

            async def do(kind: Kind = kind, operation: str = operation) -> Any:
                people = self._client.people
                changes = people.disable if kind is Kind.DISABLE else people.enable
                return {"person": (await changes(person, operation_id=operation)).id}

            told = await self._called(do, kind, person, operation=operation)
            if kind is Kind.DISABLE and told.outcome is not Outcome.REFUSED:
                await asyncio.sleep(self._random.random() * OUT_S)  # their key is tried meanwhile
        self._world.keys.pop(person, None)

    async def _give_key(self, person: str) -> None:
        with contextlib.suppress(HelmrError, TimeoutError):
            async with asyncio.timeout(CALL_S):
                made = await self._client.keys.create(person=person)
                self._world.keys[person] = made.secret

    # --- what is read ---------------------------------------------------------------------------

    async def read_log(self, place: Place, stream: str = STREAM) -> None:
        """Read all of a stream, in one page."""
        log = self._client.sessions.open(place.session_id).input(stream)

        async def do() -> Any:
            page = await log.page(limit=LIST_LIMIT_MAX)
            assert page.next_cursor is None
            return [[one.seq, one.data, one.consumed_by] for one in page.items]

        await self._called(do, Kind.READ_LOG, place.log_of(stream))

    async def read_session(self, place: Place) -> None:
        """Look which wait is pending, and whether the run is over."""

        async def do() -> Any:
            info = await self._client.sessions.open(place.session_id).get()
            place.wait_id = info.wait.id if info.wait is not None else None
            return {"wait": place.wait_id, "is_over": info.activity is Activity.IDLE}

        call = await self._called(do, Kind.READ_SESSION, place.session_id)
        is_over = call.outcome is Outcome.OK and call.told["is_over"]
        if is_over and place in self._world.places:
            self._world.places.remove(place)
            self._world.left.append(place)

    async def read_wait(self, place: Place) -> None:
        """Look at the wait that was pending."""
        wait_id = place.wait_id
        if wait_id is None:
            await self.read_session(place)
            return

        async def do() -> Any:
            return {"status": (await self._client.waits.get(wait_id)).status.value}

        await self._called(do, Kind.READ_WAIT, wait_id)

    async def read_token(self, place: Place) -> None:
        """Look at the session's token."""

        async def do() -> Any:
            token = await self._client.tokens.get(place.token_id)
            return {"status": token.status.value, "value": token.data}

        await self._called(do, Kind.READ_TOKEN, place.token_id)

    async def read_uses(self, known: set[str]) -> None:
        """How much of each public token is used.

        Raises:
            AssertionError: Nobody says, though nothing is done to the runtime any more.
        """
        for _ in range(LIST_TRIES):
            began_ns, shown = time.monotonic_ns(), []
            with contextlib.suppress(HelmrError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    shown = [one async for one in self._client.auth.list() if one.id in known]
                break
        else:
            raise AssertionError("the public tokens are not listed, and the faults are over")
        ended_ns = time.monotonic_ns()
        for one in shown:
            told = json.dumps({"uses": one.uses, "max": one.max_uses})
            self._world.calls.append(
                Call(
                    client=self.number, kind=Kind.READ_USES, target=one.id, began_ns=began_ns,
                    ended_ns=ended_ns, outcome=Outcome.OK, reply=told,
                )
            )  # fmt: skip

    async def unsettled(self, places: Sequence[Place]) -> list[Place]:
        """Those whose run could go on: it neither has ended nor waits with every record of its stream taken."""
        are_settled = await asyncio.gather(*(self._is_settled(place) for place in places))
        return [
            place for place, is_settled in zip(places, are_settled, strict=True) if not is_settled
        ]

    async def _is_settled(self, place: Place) -> bool:
        session = self._client.sessions.open(place.session_id)
        try:
            async with asyncio.timeout(CALL_S):
                info = await session.get()
                page = await session.input(STREAM).page(limit=LIST_LIMIT_MAX)
        except (HelmrError, TimeoutError):
            return False
        has_none = info.wait is not None and all(one.consumed_by for one in page.items)
        return info.activity is Activity.IDLE or has_none

    async def read_run(self, place: Place) -> None:
        """What a run's journal says, and what its code did."""

        async def do() -> Any:
            waits, took, keys, steps = [], [], {}, []
            async for entry in self._client.sessions.open(place.session_id).transcript():
                if entry.kind == "wait.opened":
                    waits.append(entry.body["wait_id"])
                elif entry.kind == "step.started":
                    keys[entry.op] = entry.body["step_key"]
                elif entry.kind == "step.succeeded":
                    took.append(entry.body["value"])
                    recorded_ns = None
                    if self._wall_ns is not None:
                        recorded_ns = int(entry.recorded_at.timestamp() * 1e9) + self._wall_ns
                    steps.append([keys[entry.op], recorded_ns, self._ran(keys[entry.op])])
            return {"stream": place.stream, "waits": waits, "took": took, "steps": steps}

        await self._called(do, Kind.READ_RUN, place.run_id)

    def _shows_from_ns(self, began_ns: int) -> int:
        """From when on a read shows what had been acknowledged: its begin, or what it says if it may be stale."""
        if not self._ages or self._wall_ns is None:
            return began_ns
        self._world.marked += 1
        oldest = min(datetime.fromisoformat(one) for one in self._ages)
        return min(began_ns, int(oldest.timestamp() * 1e9) + self._wall_ns)

    async def _called(
        self, do: Do, kind: Kind, target: str, *, operation: str = "", value: int = -1,
        beside: str = "",
    ) -> Call:  # fmt: skip
        began_ns, reply = time.monotonic_ns(), None
        self._ages.clear()
        try:
            async with asyncio.timeout(CALL_S):
                reply = await do()
            outcome = Outcome.OK
            if not operation:
                began_ns = self._shows_from_ns(began_ns)
        except TokenExhausted:
            outcome, reply = Outcome.REFUSED, {"spent": True}
        except HelmrError as error:
            is_refusal = 400 <= error.status < 500
            outcome = Outcome.REFUSED if is_refusal else Outcome.UNKNOWN
            reply = {"code": error.code}
        except TimeoutError:
            outcome = Outcome.UNKNOWN
        call = Call(
            client=self.number, kind=kind, target=target, beside=beside, operation=operation,
            value=value, began_ns=began_ns, ended_ns=time.monotonic_ns(), outcome=outcome,
            reply=json.dumps(reply),
        )  # fmt: skip
        self._world.calls.append(call)
        if outcome is Outcome.UNKNOWN:
            await asyncio.sleep(AFTER_UNKNOWN_S)
            longest_s = PATIENCE_S if self.number % SOME else self._pause_s
            await self._world.until_accepted(within_s=longest_s * self._random.uniform(0.5, 1.0))
            self._pause_s = min(AFTER_UNKNOWN_MAX_S, 2 * self._pause_s)
        else:
            self._pause_s = AFTER_UNKNOWN_S
        return call
