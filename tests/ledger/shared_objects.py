"""A store of objects that breaks every promise that a real one may break, and runs its callers one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from greenlet import greenlet

from helmr.errors import StoreUnavailable
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists

FAULTS = (
    *("silent before", "silent after", "comes later"),
    *("says that it exists", "says that it changed", "late list"),
)
"""A write that was not done and not answered; one that was done; one that is done at some time after; a 409 and a 412
that say nothing of what is stored; a list as it was."""


RARE = 4
"""Lists and replacements are few: as many times more of them go wrong."""


class FakeObjects:
    """As `Objects`, in memory. Without `chance` nothing goes wrong.

    Args:
        chance: Decides what goes wrong.
        share: Of the calls.
        pause: Called before each call: another may go on meanwhile.
    """

    name = "fake://log"

    def __init__(
        self,
        chance: Random | None = None,
        *,
        share: float = 0.0,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.stored: dict[str, tuple[bytes, int]] = {}
        self.pause = pause
        self.reached: set[str] = set()
        self.share = share
        self.calls = 0
        self.replaces = True
        """Or else is silent to who would."""
        self.on_create: Callable[[str, bytes], None] = lambda key, data: None
        self._chance = chance or Random(0)
        self._tag = 0
        self._lists: list[list[str]] = [[]]
        self._later: list[Callable[[], None]] = []

    # --- the port ---------------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> None:
        self._write(lambda: self._create(key, data), ObjectExists(key), "says that it exists")

    def get(self, key: str) -> tuple[bytes, str] | None:
        self._step()
        self._maybe_silent()
        found = self.stored.get(key)
        return (found[0], str(found[1])) if found is not None else None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes | None] = {}
        for key in self._chance.sample(list(keys), len(keys)):
            one = self.get(key)
            found[key] = one[0] if one is not None else None
        return [found[key] for key in keys]

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        if not self.replaces:
            raise StoreUnavailable("timed out")
        lie = "says that it changed" if tag is not None else None
        self._write(lambda: self._replace(key, data, tag), ObjectChanged(key), lie)
        return str(self.stored[key][1])

    def keys(self, prefix: str) -> Iterable[str]:
        self._step()
        self._maybe_silent()
        seen = [*self.stored]
        if self._fails("late list", RARE):
            seen = self._chance.choice(self._lists)
        self._lists = [*self._lists[-20:], [*self.stored]]
        found = [key for key in seen if key.startswith(prefix)]
        return self._chance.sample(found, len(found))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._step()
            self._maybe_silent()
            self.stored.pop(key, None)

    def durability(self) -> str | None:
        return None

    def close(self) -> None:
        pass

    # --- what goes wrong --------------------------------------------------------------------------

    def _create(self, key: str, data: bytes) -> None:
        if key in self.stored:
            raise ObjectExists(key)
        self._put(key, data)
        self.on_create(key, data)

    def _replace(self, key: str, data: bytes, tag: str | None) -> None:
        found = self.stored.get(key)
        if tag is not None and (found is None or str(found[1]) != tag):
            raise ObjectChanged(key)
        self._put(key, data)

    def _put(self, key: str, data: bytes) -> None:
        self._tag += 1
        self.stored[key] = data, self._tag

    def _write(self, write: Callable[[], None], refusal: Exception, lie: str | None) -> None:
        self._step()
        if self._fails("silent before"):
            raise StoreUnavailable("timed out")
        if self._fails("comes later"):
            self._later.append(write)
            raise StoreUnavailable("timed out")
        if lie is not None and self._fails(lie, RARE if lie == "says that it changed" else 1):
            raise refusal
        write()
        if self._fails("silent after"):
            raise StoreUnavailable("timed out")

    def _maybe_silent(self) -> None:
        if self._fails("silent before"):
            raise StoreUnavailable("timed out")

    def _step(self) -> None:
        self.calls += 1
        self.pause()
        while self._later and self._chance.random() < 0.1:
            write = self._later.pop(self._chance.randrange(len(self._later)))
            try:
                write()
            except (ObjectExists, ObjectChanged):
                continue

    def _fails(self, fault: str, times: int = 1) -> bool:
        if self._chance.random() >= self.share * times:
            return False
        self.reached.add(fault)
        return True


class Race:
    """Callers that go on one at a time, each up to its next call of a store, in an order that a seed decides.

    Args:
        chance: Decides who goes on.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._runners: list[greenlet] = []
        self._sleeps: dict[greenlet, int] = {}
        self._judge = greenlet.getcurrent()

    def begin(self, main: Callable[[], None]) -> None:
        """Let one more take part."""
        self._runners.append(greenlet(main))

    def pause(self) -> None:
        """Called by those who take part: another may go on."""
        if greenlet.getcurrent() is not self._judge:
            self._judge.switch()

    def run(self, steps: int) -> None:
        """So many turns at most; one that is paused for a while is passed by. Raises what one of them raises."""
        for _ in range(steps):
            runner = self._chance.choice(self._runners)
            if self._sleeps.get(runner, 0):
                self._sleeps[runner] -= 1
                continue
            runner.switch()
            if self._chance.random() < 0.005:
                self._sleeps[runner] = self._chance.randrange(1_500)

    def end(self) -> None:
        """Kill those that are left."""
        for runner in self._runners:
            runner.throw()


def unreached(found: Sequence[FakeObjects]) -> set[str]:
    """The faults that none of them has met."""
    met: set[Any] = set().union(*(one.reached for one in found))
    return set(FAULTS) - met
