"""The store of the log and the way to it: every fault of the store's contract, and every one of a network.

The store is the fake that `tests/ledger/test_log_stores.py` holds to the contract of stores: it says 409 and 412 of
nothing, is silent before and after it has done something, does it later, lists late and in any order. Requests and
answers take their time besides, are lost, or wait until a connection is back; the store may be away for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any

from helmr.errors import StoreUnavailable
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists
from tests.ledger.shared_objects import FakeObjects
from tests.programs.simulated_pair.threads import Pause
from tests.programs.simulated_pair.truth import Truth
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.scheduler import Lane

TIMEOUT_S = 5.0
"""After which a client of a bucket gives up, as `helmr_runtime.ledger.log.bucket`."""

SHARES = (0.0, 0.01, 0.03, 0.1)
"""Of the store's calls that go wrong, by seed."""


class StoreServer(FakeObjects):
    """The fake, which tells the truth of what it has done.

    Args:
        truth: Told.
        random: Decides what goes wrong.
    """

    def __init__(self, truth: Truth, random: Random) -> None:
        super().__init__(random, share=random.choice(SHARES))
        self.away_until_s = 0.0
        """No request is answered before."""
        self._truth = truth

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in self.stored:
                self._truth.deletes(key, self.stored[key][0])
        super().delete(keys)

    def _put(self, key: str, data: bytes) -> None:
        super()._put(key, data)
        self._truth.put(key, data)


class Wire:
    """What a machine has to the store.

    Args:
        lane: Outside of all that can die.
        server: The store.
        random: Decides how long requests take, and what is lost.
    """

    def __init__(self, lane: Lane, server: StoreServer, random: Random, counts: Counts) -> None:
        self.cut_until_s = 0.0
        """Until then nothing comes through in a direction that is cut."""
        self.cuts = frozenset[str]()
        """`requests`, `answers`."""
        self.slow_until_s = 0.0
        """Until then requests and answers take up to seconds."""
        self._lane = lane
        self._server = server
        self._random = random
        self._counts = counts

    def ask(self, call: Callable[[], Any], tell: Callable[[Any], None]) -> None:
        """Have the store do something; what comes of it is told, if anything does."""
        self._send("requests", self._arrive, call, tell)

    def _arrive(self, call: Callable[[], Any], tell: Callable[[Any], None]) -> None:
        if self._lane.time() < self._server.away_until_s:
            self._counts.reached("store away")
            return
        outcome: Any
        try:
            outcome = call()
        except (ObjectExists, ObjectChanged, StoreUnavailable) as error:
            outcome = error
        self._send("answers", tell, outcome)

    def _send(self, direction: str, call: Callable[..., None], *args: Any) -> None:
        now_s = self._lane.time()
        at_s = now_s + self._delay_s(now_s)
        if now_s < self.cut_until_s and direction in self.cuts:
            if self._random.random() < 0.7:
                self._counts.reached(f"lost: {direction}")
                return
            self._counts.reached(f"late: {direction}")
            at_s += self.cut_until_s - now_s
        self._lane.call_at(at_s, call, *args)

    def _delay_s(self, now_s: float) -> float:
        draw = self._random.random()
        if now_s < self.slow_until_s:
            return draw * draw * 4.0
        return draw * 0.004 if draw < 0.98 else draw * 0.2


class StoreClient:
    """As `helmr_runtime.ledger.log.objects.Objects`, called in the threads of one process.

    Args:
        before: Called with what is asked, before each request: the process may stop or end there.
        after: The same before what an answer says is taken in.
    """

    name = "simulated://log"

    def __init__(
        self,
        wire: Wire,
        server: StoreServer,
        random: Random,
        before: Callable[[str], None],
        after: Callable[[str], None],
    ) -> None:
        self._wire = wire
        self._server = server
        self._random = random
        self._before = before
        self._after = after

    def create(self, key: str, data: bytes) -> None:
        self._ask(f"create {key}", lambda: self._server.create(key, data))

    def get(self, key: str) -> tuple[bytes, str] | None:
        found: tuple[bytes, str] | None = self._ask(f"get {key}", lambda: self._server.get(key))
        return found

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """In parts, each at another time."""
        found: dict[str, bytes | None] = {}
        left = self._random.sample(list(keys), len(keys))
        while left:
            some = left[: 1 + self._random.randrange(16)]
            del left[: len(some)]
            answers: list[bytes | None] = self._ask(
                "get many", partial(self._server.get_many, some)
            )
            found |= zip(some, answers, strict=True)
        return [found[key] for key in keys]

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        return str(self._ask(f"replace {key}", lambda: self._server.replace(key, data, tag)))

    def keys(self, prefix: str) -> Iterable[str]:
        found: list[str] = self._ask("list", lambda: list(self._server.keys(prefix)))
        return found

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._ask("delete", partial(self._server.delete, [key]))

    def durability(self) -> str | None:
        return None

    def close(self) -> None:
        pass

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        self._before(what)
        answers: list[Any] = []
        pause = Pause()

        def tell(outcome: Any) -> None:
            answers.append(outcome)
            pause.tell()

        self._wire.ask(call, tell)
        is_answered = pause.until_told(TIMEOUT_S)
        self._after(what)
        if not is_answered:
            raise StoreUnavailable("the store has not answered")
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]
