"""What a store of the log of commits keeps, whichever it is: the specification of `LogStore` and of `Objects`."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import obstore.store
import pytest

from helmr.errors import (
    LedgerBehind,
    LedgerDamaged,
    LedgerSuperseded,
    MissingExtra,
    StoreUnavailable,
    UsageError,
)
from helmr_runtime.core.shared_log import SnapshotPlace, with_snapshot
from helmr_runtime.ledger.log import object_log
from helmr_runtime.ledger.log.bucket import Bucket, open_bucket
from helmr_runtime.ledger.log.commit_log import LogStore, RecordExists
from helmr_runtime.ledger.log.file_store import FileStore
from helmr_runtime.ledger.log.folder import open_folder
from helmr_runtime.ledger.log.object_log import ROOT, ObjectLog, record_key
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists, Objects
from helmr_runtime.ledger.log.postgres import open_postgres
from helmr_runtime.ledger.log.stores import open_objects
from tests.ledger.shared_objects import FakeObjects
from tests.ledger.store_servers import Seaweed, seaweed_program, seaweed_server
from tests.ordinary.stand_in import postgres_server

pytestmark = pytest.mark.allows_blocking

LOG_ID = 77
Opener = Callable[[], LogStore]
_prefixes = itertools.count()

STORES = ["fake", "memory", "folder", "postgres", pytest.param("seaweed", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str | None]:
    """The URL of a PostgreSQL of this module's own; None where there is none."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    """A SeaweedFS of this module's own."""
    with seaweed_server() as server:
        yield server


def empty_store(kind: str, request: pytest.FixtureRequest) -> Objects:
    """A store of that kind in which nothing is."""
    prefix = f"t{next(_prefixes)}"
    if kind == "fake":
        return FakeObjects()
    if kind == "memory":
        return Bucket(obstore.store.MemoryStore(), "memory://log")
    if kind == "folder":
        return open_folder(f"file://{request.getfixturevalue('tmp_path')}/{prefix}")
    if kind == "postgres":
        url = request.getfixturevalue("postgres")
        if url is None:
            pytest.skip("PostgreSQL is not installed")
        return open_postgres(f"{url}&ledger={prefix}")
    if seaweed_program() is None:
        pytest.skip("SeaweedFS is not installed")
    return open_bucket(request.getfixturevalue("seaweed").url(prefix))


@pytest.fixture(params=STORES)
def objects(request: pytest.FixtureRequest) -> Iterator[Objects]:
    """An empty store of objects."""
    made = empty_store(request.param, request)
    yield made
    made.close()


@pytest.fixture(params=["file", *STORES])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a store that was empty, each time as another process does."""
    with ExitStack() as stack:
        if request.param == "file":

            def open_again() -> LogStore:
                store = FileStore(tmp_path / "ledger.duckdb.commits")
                store.open(LOG_ID)
                stack.callback(store.close)
                return store

        else:
            objects = empty_store(request.param, request)
            stack.callback(objects.close)

            def open_again() -> LogStore:
                log = ObjectLog(objects)
                log.make(LOG_ID)
                log.open(LOG_ID)
                return log

        yield open_again


# --- the four calls ---------------------------------------------------------------------------------


def test_what_was_appended_is_read_in_order_by_the_next_process(opener: Opener) -> None:
    log = opener()
    assert list(log.read(0)) == []
    for number in range(1, 140):
        log.append(number, b'["%d"]' % number)
    assert log.newest() == 139
    again = opener()
    assert list(again.read(0)) == [(n, b'["%d"]' % n) for n in range(1, 140)]
    assert again.newest() == 139
    assert [number for number, _ in opener().read(137)] == [138, 139]
    assert list(opener().read(139)) == []


def test_a_number_is_given_once(opener: Opener) -> None:
    log = opener()
    assert list(log.read(0)) == []
    log.append(1, b"[1]")
    other = opener()
    assert [number for number, _ in other.read(0)] == [1]
    with pytest.raises((RecordExists, LedgerSuperseded)):
        other.append(1, b"[2]")
    assert list(opener().read(0)) == [(1, b"[1]")]
    other.append(2, b"[2]")
    assert [text for _, text in opener().read(0)] == [b"[1]", b"[2]"]


def test_what_was_trimmed_is_not_read_and_its_numbers_are_not_given_again(opener: Opener) -> None:
    log = opener()
    assert list(log.read(0)) == []
    for number in (1, 2, 3):
        log.append(number, b"[%d]" % number)
    log.trim(3)
    log.append(4, b"[4]")
    assert list(opener().read(3)) == [(4, b"[4]")]
    with pytest.raises(LedgerBehind):
        list(opener().read(2))


def test_a_log_is_one_ledgers(opener: Opener) -> None:
    log = opener()
    assert list(log.read(0)) == []
    log.append(1, b"[1]")
    other = opener()

    def read() -> None:
        other.open(LOG_ID + 1)
        list(other.read(0))

    with pytest.raises(LedgerBehind, match=r"is not the log of|of another ledger"):
        read()


# --- stores of objects ------------------------------------------------------------------------------


def test_an_object_is_created_once_and_replaced_only_as_it_was_read(objects: Objects) -> None:
    assert objects.get("a") is None
    objects.create("a", b"1")
    with pytest.raises(ObjectExists):
        objects.create("a", b"2")
    found = objects.get("a")
    assert found is not None
    assert found[0] == b"1"
    tag = objects.replace("a", b"3", found[1])
    assert objects.get("a") == (b"3", tag)
    with pytest.raises(ObjectChanged):
        objects.replace("a", b"4", found[1])
    with pytest.raises(ObjectChanged):
        objects.replace("b", b"4", found[1])
    tag = objects.replace("a", b"5", None)
    objects.replace("a", b"6", tag)
    objects.replace("c", b"", None)
    assert objects.get_many(["a", "b", "c"]) == [b"6", None, b""]


def test_names_below_a_prefix_are_listed_and_deleted(objects: Objects) -> None:
    for number in range(20):
        objects.create(record_key(number), b"x" * number)
    objects.create("root", b"")
    assert sorted(objects.keys("log/")) == [record_key(number) for number in range(20)]
    objects.delete([record_key(3), record_key(4), "log/none"])
    objects.delete([])
    assert len(list(objects.keys("log/"))) == 18
    assert objects.get("root") is not None


def test_of_eight_writers_on_one_key_one_wins(objects: Objects) -> None:
    won: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        for number in range(40):
            try:
                objects.create(f"key/{number}", b"%d" % writer)
            except ObjectExists:
                continue
            won.append((number, writer))

    threads = [threading.Thread(target=write, args=[one]) for one in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert sorted(number for number, _ in won) == list(range(40))
    for number, writer in won:
        found = objects.get(f"key/{number}")
        assert found is not None
        assert found[0] == b"%d" % writer


def test_of_eight_writers_who_replace_one_object_each_change_is_kept(objects: Objects) -> None:
    objects.create("count", b"0")

    def count() -> None:
        done = 0
        while done < 5:
            found = objects.get("count")
            assert found is not None
            try:
                objects.replace("count", b"%d" % (int(found[0]) + 1), found[1])
            except ObjectChanged:
                continue
            done += 1

    threads = [threading.Thread(target=count) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    found = objects.get("count")
    assert found is not None
    assert found[0] == b"40"


def test_a_record_that_opens_the_log_is_never_deleted(objects: Objects) -> None:
    first = ObjectLog(objects)
    first.make(LOG_ID)
    first.append(1, b"[]", opens=True)
    for number in (2, 3):
        first.append(number, b"[]")
    second = ObjectLog(objects)
    second.append(4, b"[]", opens=True)
    for number in (5, 6):
        second.append(number, b"[]")
    second.trim(5)
    assert sorted(objects.keys("log/")) == [record_key(number) for number in (1, 4, 6)]
    # So the number that the first would have taken next is still another's.
    with pytest.raises(LedgerSuperseded):
        first.append(4, b"[]")


def test_an_object_whose_writer_was_killed_beside_it_is_read(tmp_path: Path) -> None:
    """Between the link that gives it its name and the end of the part that it was written as."""
    objects = open_folder(f"file://{tmp_path}/store")
    objects.create("log/1", b"1")
    os.link(tmp_path / "store" / "log" / "1", tmp_path / "store" / "log" / ".part-dead")
    assert objects.get("log/1") is not None
    assert list(objects.keys("log/")) == ["log/1"]
    with pytest.raises(ObjectExists):
        objects.create("log/1", b"2")


# --- a log in a store of objects --------------------------------------------------------------------


def test_a_store_that_lets_an_object_be_created_twice_is_refused() -> None:
    class Forgetful(FakeObjects):
        def _create(self, key: str, data: bytes) -> None:
            self._put(key, data)

    with pytest.raises(StoreUnavailable, match="created that is there already"):
        ObjectLog(Forgetful()).make(LOG_ID)


@pytest.mark.parametrize("key", [ROOT, "probe/one"])
def test_a_store_that_says_of_nothing_that_it_exists_is_asked_again(key: str) -> None:
    class Hasty(FakeObjects):
        is_hasty = True

        def _create(self, of: str, data: bytes) -> None:
            if of == key and self.is_hasty:
                self.is_hasty = False
                raise ObjectExists(of)
            super()._create(of, data)

    objects = Hasty()
    with pytest.raises(StoreUnavailable, match="has not said whether"):
        ObjectLog(objects, writer="one").make(LOG_ID)
    assert ObjectLog(objects, writer="two").make(LOG_ID).log_id == LOG_ID


def test_garbage_under_a_number_that_was_trimmed_is_not_read() -> None:
    """A writer that was paused has taken it; for a reader that stands before it there is a hole."""
    objects = FakeObjects()
    log, paused = ObjectLog(objects), ObjectLog(objects)
    log.make(LOG_ID)
    for number in range(1, 6):
        log.append(number, b"[]")
    log.trim(4)
    paused.append(3, b"[]")
    with pytest.raises(LedgerBehind, match="begins behind commit 4"):
        log.records(2)
    assert [one.number for one in log.records(4)] == [5]


def test_an_empty_store_holds_no_log() -> None:
    with pytest.raises(LedgerBehind, match="holds no log"):
        ObjectLog(FakeObjects()).open(LOG_ID)


def test_an_append_waits_for_the_store_and_ends_with_its_log() -> None:
    objects = FakeObjects()
    log = ObjectLog(objects)
    log.make(LOG_ID)
    objects.share = 1.0
    ended: list[StoreUnavailable] = []

    def append() -> None:
        try:
            log.append(1, b"[]")
        except StoreUnavailable as error:
            ended.append(error)

    thread = threading.Thread(target=append)
    thread.start()
    log.close()
    thread.join(10)
    assert "has not said" in str(ended)


def failed_over(objects: FakeObjects, log: ObjectLog, *, lost: int) -> None:
    """The store has lost the newest records, as by asynchronous replication; the next call finds its connection cut."""
    for number in range(log.newest() - lost + 1, log.newest() + 1):
        del objects.stored[record_key(number)]

    def cut() -> None:
        objects.pause = lambda: None
        raise StoreUnavailable("the connection was closed")

    objects.pause = cut


@pytest.mark.parametrize("floor", [0, 2, 5])
def test_what_a_failover_has_lost_is_stored_again(floor: int) -> None:
    objects = FakeObjects()
    log = ObjectLog(objects, wait=lambda _: False)
    log.make(LOG_ID)
    for number in range(1, 6):
        log.append(number, b"[%d]" % number, opens=number == 1)
    log.trim(floor)
    failed_over(objects, log, lost=min(3, 5 - floor))
    log.append(6, b"[6]")
    texts = [b"[%d]" % number for number in range(floor + 1, 7)]
    assert [text for _, text in log.read(floor)] == texts


def test_a_writer_stores_nothing_behind_what_was_lost_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_log, "KEPT_BYTES_MAX", 150)
    objects = FakeObjects()
    log = ObjectLog(objects, wait=lambda _: False)
    log.make(LOG_ID)
    for number in range(1, 6):
        log.append(number, b"[]")
    failed_over(objects, log, lost=4)
    with pytest.raises(LedgerSuperseded, match="has lost commit"):
        log.append(6, b"[]")
    assert log.newest() == 1


def test_a_writer_whose_lost_commit_is_anothers_now_is_superseded() -> None:
    objects = FakeObjects()
    log, other = (ObjectLog(objects, writer=name, wait=lambda _: False) for name in ("one", "two"))
    log.make(LOG_ID)
    for number in range(1, 4):
        log.append(number, b"[]")
    failed_over(objects, log, lost=2)
    cut, objects.pause = objects.pause, lambda: None
    other.append(2, b"[]", opens=True)
    objects.pause = cut
    with pytest.raises(LedgerSuperseded):
        log.append(4, b"[]")
    assert [one.writer for one in other.records(0)] == ["one", "two"]


def test_a_record_that_lacks_is_damage_and_a_late_one_is_not() -> None:
    objects = FakeObjects()
    log = ObjectLog(objects)
    log.make(LOG_ID)
    for number in range(1, 9):
        log.append(number, b"[]")
    assert len(log.records(0)) == 8
    objects.delete([record_key(5)])
    with pytest.raises(LedgerDamaged, match="commit 5 lacks"):
        log.records(0)


def test_a_changed_record_is_damage() -> None:
    objects = FakeObjects()
    log = ObjectLog(objects)
    log.make(LOG_ID)
    log.append(1, b"[1]")
    objects.stored[record_key(1)] = (objects.stored[record_key(1)][0].replace(b"[1]", b"[2]"), 9)
    with pytest.raises(LedgerDamaged, match="commit 1"):
        log.records(0)


def test_a_paused_writer_can_not_lower_the_floor() -> None:
    objects = FakeObjects()
    slow, fast = ObjectLog(objects), ObjectLog(objects)
    slow.make(LOG_ID)
    digest = "00" * 32
    seen = objects.get(ROOT)
    for number in (10, 20, 30):
        place = SnapshotPlace(number, "f", 1, 1, digest)
        fast.change_root(partial(with_snapshot, made=place))
    assert seen is not None
    with pytest.raises(ObjectChanged):
        objects.replace(ROOT, seen[0], seen[1])
    root = slow.change_root(lambda root: with_snapshot(root, SnapshotPlace(15, "s", 1, 1, digest)))
    assert (root.floor, [one.number for one in root.snapshots]) == (20, [20, 30])


@pytest.mark.parametrize(
    "url",
    [
        "/a/path",
        "ftp://host/x",
        "s3://",
        "s3://bucket?no_such_setting=1",
        "s3://bucket?allow_http=true",
        "az://bucket?TIMEOUT=1s",
        "s3://bucket?aws_proxy_url=x",
        "postgresql://x?nothing=1",
    ],
)
def test_what_can_not_be_a_store_is_said_at_once(url: str) -> None:
    with pytest.raises(UsageError):
        open_objects(url)


def test_a_store_whose_extra_is_missing_is_said_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "helmr_runtime.ledger.log.postgres", raising=False)
    with pytest.raises(MissingExtra) as raised:
        open_objects("postgresql://helmr@/helmr")
    assert raised.value.hint == "pip install 'helmr[postgres]'"
