"""Two runtimes and a store that breaks what it may, in every order: nothing acknowledged is lost, nobody is second."""

from __future__ import annotations

import json
from random import Random

import pytest

from helmr.errors import LedgerBehind, LedgerSuperseded, StoreUnavailable
from helmr_runtime.core.shared_log import (
    LogRecord,
    LogRoot,
    SnapshotPlace,
    record_of,
    with_snapshot,
)
from helmr_runtime.ledger.log.object_log import LOG, ROOT, ObjectLog, record_key
from tests.budget import examples
from tests.ledger.shared_objects import FakeObjects, Race, unreached

pytestmark = pytest.mark.allows_blocking

LOG_ID = 7
STEPS = 4_000


class Truth:
    """What the log is, whoever asks: the first record of each number, stored while the number was above the floor."""

    def __init__(self, objects: FakeObjects) -> None:
        self.records: dict[int, LogRecord] = {}
        self.acknowledged: dict[int, str] = {}
        self.takeovers = 0
        self.floors = 0
        self._objects = objects
        objects.on_create = self.created

    def created(self, key: str, data: bytes) -> None:
        if not key.startswith(LOG):
            return
        number = int(key.removeprefix(LOG))
        floor = json.loads(self._objects.stored[ROOT][0])["floor"]
        if number <= floor:
            return
        assert number == len(self.records) + 1, "a record follows the last"
        self.records[number] = record_of(number, data)

    def acknowledge(self, number: int, writer: str, text: bytes) -> None:
        stored = self.records[number]
        assert (stored.writer, stored.text) == (writer, text), "acknowledged and lost"
        assert self.acknowledged.setdefault(number, writer) == writer, "two acknowledge"

    def opened(self, number: int, writer: str, found: list[str]) -> None:
        assert self.records[number].writer == writer, "two are primary"
        wanted = [self.records[one].text.decode() for one in range(1, number)]
        assert found == wanted, "it begins with what was acknowledged"
        self.takeovers += 1


class Racer:
    """One runtime: reads what is there, takes over, appends, makes snapshots; ended by another, it begins again."""

    def __init__(self, name: str, objects: FakeObjects, truth: Truth, chance: Random) -> None:
        self._name = name
        self._objects = objects
        self._truth = truth
        self._chance = chance
        self._lives = 0

    def main(self) -> None:
        while True:
            self._lives += 1
            try:
                self._live(f"{self._name}{self._lives}")
            except (LedgerBehind, LedgerSuperseded, StoreUnavailable):
                continue

    def _live(self, writer: str) -> None:
        log = ObjectLog(
            self._objects,
            writer=writer,
            nonce=lambda: "n",
            wait=lambda _: False,
        )
        log.make(LOG_ID)
        texts = self._read(log)
        number = len(texts) + 1
        self._sleep()
        log.append(number, f"opened by {writer}".encode(), opens=True)
        self._truth.opened(number, writer, texts)
        texts.append(f"opened by {writer}")
        for _ in range(self._chance.randrange(60)):
            text = f"{writer}: {number}"
            number += 1
            log.append(number, text.encode())
            self._truth.acknowledge(number, writer, text.encode())
            texts.append(text)
            if self._chance.random() < 0.2:
                self._snapshot(log, writer, texts)

    def _sleep(self) -> None:
        """Now and then it is stopped where it hurts: between what it has read and its own record."""
        if self._chance.random() < 0.1:
            for _ in range(self._chance.randrange(400)):
                self._objects.pause()

    def _read(self, log: ObjectLog) -> list[str]:
        root = log.root()
        assert root is not None
        texts: list[str] = []
        if root.newest is not None:
            found = self._objects.get(f"snapshots/{root.newest.name}")
            if found is None:
                raise StoreUnavailable("another has deleted it")
            texts = json.loads(found[0])
        return texts + [one.text.decode() for one in log.records(len(texts))]

    def _snapshot(self, log: ObjectLog, writer: str, texts: list[str]) -> None:
        number = len(texts)
        name = f"{number}-{writer}"
        self._objects.replace(f"snapshots/{name}", json.dumps(texts).encode(), None)
        place = SnapshotPlace(number, name, 1, 1, "")
        kept: list[tuple[SnapshotPlace, ...]] = []

        def change(root: LogRoot) -> LogRoot:
            kept.append(root.snapshots)
            return with_snapshot(root, place)

        root = log.change_root(change)
        self._truth.floors += root.floor > 0
        assert log.newest() >= number, "a late list hides the end"
        log.sweep()
        names = {f"snapshots/{one.name}" for one in root.snapshots}
        gone = [one for one in (f"snapshots/{old.name}" for old in kept[-1]) if one not in names]
        self._objects.delete(gone)


def race(seed: int, runtimes: int = 3) -> tuple[FakeObjects, Truth]:
    chance = Random(seed)
    order = Race(chance)
    objects = FakeObjects(chance, share=chance.choice((0.0, 0.02, 0.1)), pause=order.pause)
    truth = Truth(objects)
    for one in range(runtimes):
        order.begin(Racer("abc"[one], objects, truth, chance).main)
    order.run(STEPS)
    order.end()
    return objects, truth


def test_whatever_the_store_does_one_log_is_acknowledged() -> None:
    met: list[FakeObjects] = []
    takeovers = acknowledged = floors = garbage = 0
    seeds = examples(400)
    for seed in range(seeds):
        objects, truth = race(seed)
        met.append(objects)
        takeovers += truth.takeovers
        acknowledged += len(truth.acknowledged)
        floors += truth.floors
        floor = json.loads(objects.stored[ROOT][0])["floor"]
        garbage += sum(
            truth.records[number].writer
            != record_of(number, objects.stored[record_key(number)][0]).writer
            for number in range(1, floor + 1)
            if record_key(number) in objects.stored
        )
    assert unreached(met) == set()
    assert takeovers > 5 * seeds
    assert acknowledged > 40 * seeds
    assert floors > 5 * seeds
    assert garbage, "no paused writer took a number that was trimmed"
