"""Whatever a loss of power leaves of a ledger's files: it opens with all that was acknowledged, or says what helps.

Here some images of a short recording; `make powerloss` builds a thousand of a longer one, as `make test-all` does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from helmr_runtime.core.entries import Draft, Entry, EntryKind, stamp
from tests.ledger.sessions import ALICE, START_AT
from tests.programs.powerloss import images
from tests.programs.powerloss.campaign import (
    ALL_WAYS,
    MADE,
    Planned,
    built,
    by_recipe,
    run,
    shares,
    table,
)
from tests.programs.powerloss.disk import Disk
from tests.programs.powerloss.events import Event, Kind, lives
from tests.programs.powerloss.judge import (
    BACKUP,
    GAP,
    INVENTED,
    LOST,
    REPAIRED,
    WHOLE,
    Truth,
    judged,
)
from tests.programs.powerloss.recording import (
    LIVES,
    ROOT,
    End,
    NoCompiler,
    Recording,
    kept,
    record,
)
from tests.programs.powerloss.workload import LEDGER

pytestmark = pytest.mark.allows_blocking

IMAGES, SPOILT, CACHES = 50, 8, 120
LONG_IMAGES, LONG_COMMITS = 1_000, 40
KEPT = ROOT / ".bench" / "powerloss"
FOLDER = Path("/f")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Of two lives, with a kill, a pruning and a clean stop."""
    return recorded(tmp_path_factory.mktemp("recorded"), 5, ("kill", "stop"))


def recorded(
    folder: Path, commits: int, lives: Sequence[End], *, is_cache: bool = False
) -> Recording:
    try:
        return record(folder, commits, lives, is_cache=is_cache)
    except NoCompiler:
        pytest.skip("no C compiler here")


@pytest.mark.timeout(300)
def test_no_image_lacks_what_was_acknowledged_or_is_refused_without_a_way_out(
    recording: Recording, tmp_path: Path
) -> None:
    found = run(recording, shares(IMAGES), tmp_path)
    assert found.broken == [], table(found)
    assert found.verdicts.total() == IMAGES
    assert found.verdicts.total(WHOLE) > 0.8 * IMAGES, table(found)
    assert found.verdicts.by_way["flipped bit"].total() == shares(IMAGES)["flipped bit"]


@pytest.mark.timeout(300)
def test_the_judge_sees_a_loss_where_there_is_one(recording: Recording, tmp_path: Path) -> None:
    found = run(recording, shares(SPOILT), tmp_path, sabotages=True)
    # How many had something in the log alone depends on when the database took it.
    assert found.verdicts.total(LOST), table(found)
    assert found.verdicts.total(LOST, WHOLE) == SPOILT, table(found)


@pytest.mark.timeout(300)
def test_what_a_killed_process_has_left_is_on_disk_before_the_next_one_builds_on_it(
    tmp_path: Path,
) -> None:
    """It ended between a checkpoint's header and the sync of it. The engine goes on from that header: it removes its
    log and writes over blocks that the header before names."""
    cut = recorded(tmp_path, 10, (11, "kill"))
    beginning = cut.beginning(1, 150)
    [(_, disk)] = cut.disks([beginning.moments[0].number - 1])
    unsynced = disk.names[cut.data / LEDGER].pending
    assert [one.place for one in unsynced if one.data is not None] in ([4_096], [8_192])
    found = run(beginning, {"nothing": 5, "some files": 5, "sectors": 5}, tmp_path)
    assert found.verdicts.total(WHOLE, REPAIRED) == found.verdicts.total(), table(found)


@pytest.mark.long
def test_an_image_is_built_again_by_its_recipe(recording: Recording, tmp_path: Path) -> None:
    recording.keep(tmp_path)
    again = kept(tmp_path)
    planned = [Planned(recording.moments[-40], way, 0, 11) for way in ("sectors", MADE)]
    images = [image for _, image in built(recording, planned)]
    assert images == [
        image for one in planned for _, image in built(again, [by_recipe(again, one.recipe)])
    ]
    assert (again.moments, again.truth, again.now) == (
        *(recording.moments, recording.truth),
        recording.now,
    )


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_no_image_of_a_thousand_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = recorded(tmp_path, LONG_COMMITS, LIVES)
    found = run(long, shares(LONG_IMAGES), tmp_path, seed=7)
    with capsys.disabled():
        sys.stdout.write(f"\n{table(found)}")
    # Where a disk writes zeros or garbage over a block, nothing in the file makes up for it.
    spoil = ("zeros", "garbage", MADE)
    counts = found.verdicts.by_way.items()
    bad = [way for way, of in counts if of[BACKUP] and way not in spoil]
    if bad or found.broken:
        long.keep(KEPT)  # for `make powerloss POWERLOSS_ARGS="--kept … --image …"`
    assert (bad, found.broken) == ([], []), f"{table(found)}the recording is in {KEPT}"


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_cache_is_whole_again_from_the_log_elsewhere_whatever_a_loss_of_power_left_of_it(
    tmp_path: Path,
) -> None:
    cache = recorded(tmp_path, 15, ("kill", "stop", 9, "kill"), is_cache=True)
    ways = [one for one in ALL_WAYS if one not in ("torn mark", "flipped bit")]  # it has neither
    found = run(cache, shares(CACHES, ways), tmp_path, seed=5)
    assert found.verdicts.total(WHOLE) == found.verdicts.total() == CACHES, table(found)
    copies = {one.process for one in cache.events} - {
        cache.events[number].process for number in lives(cache.events)
    }
    assert copies, "no snapshot was made, so that no image has a part of its copy"


# --- the disk ---------------------------------------------------------------------------------------


def disk_of(*events: Event) -> Disk:
    disk = Disk()
    for event in events:
        disk.take(event)
    return disk


def on(kind: Kind, descriptor: int, first: int = 0, data: bytes = b"", second: int = 0) -> Event:
    return Event(kind, descriptor, first, second, data)


BEGUN = (on(Kind.MAKE, 3, data=b"/f/a"), on(Kind.OPEN, 4, data=b"/f"))
A = FOLDER / "a"


def test_what_was_synced_stays_and_of_the_rest_any_part() -> None:
    disk = disk_of(
        *BEGUN, on(Kind.WRITE, 3, 0, b"synced"), on(Kind.SYNC, 3), on(Kind.WRITE, 3, 2, b"later")
    )
    chance = Random(1)
    assert images.nothing(disk, chance) == {A: b"synced"}
    assert images.everything(disk, chance) == {A: b"sylater"}
    assert images.size_without_data(disk, chance) == {A: b"synced\0"}
    kept = {images.prefix(disk, chance)[A] for _ in range(200)}
    assert kept == {b"synced", b"sylced", b"sylaed", b"sylatd", b"sylate", b"sylater"}


def test_sizes_holes_and_growth_are_changes_like_any() -> None:
    disk = disk_of(
        *BEGUN,
        on(Kind.WRITE, 3, 0, b"123456"),
        on(Kind.SYNC, 3),
        on(Kind.TRUNCATE, 3, 4),
        on(Kind.ALLOCATE, 3, 6, second=6),
        on(Kind.ALLOCATE, 3, -2, second=3),
    )
    assert images.everything(disk, Random(1)) == {A: b"1\0\0004\0\0"}
    assert images.nothing(disk, Random(1)) == {A: b"123456"}


def test_blocks_are_kept_as_wholes() -> None:
    old, new = b"o" * 2_048, b"n" * 1_024
    disk = disk_of(*BEGUN, on(Kind.WRITE, 3, 0, old), on(Kind.SYNC, 3), on(Kind.WRITE, 3, 300, new))
    chance, seen = Random(1), set()
    for _ in range(100):
        data = images.sectors(disk, chance)[A]
        seen.add(tuple(data[at] == data[at + 211] == ord("n") for at in (300, 512, 1_024)))
        assert data[1_536:] == old[1_536:]
    assert len(seen) == 8
    spoilt = images.zeros(disk, chance)[A]
    assert spoilt[:300] == old[:300], "what was on disk before shares a sector with it"
    assert set(spoilt[300:1_324]) <= {0, ord("n")}


def test_a_program_that_a_process_starts_has_files_of_its_own_and_is_no_other_life() -> None:
    recorded = [
        Event(Kind.BEGIN, -1, 0, 0, b"", 7, 1),
        Event(Kind.MAKE, 3, 0, 0, b"/f/a", 7),
        Event(Kind.BEGIN, -1, 0, 0, b"", 8, 7),
        Event(Kind.MAKE, 3, 0, 0, b"/f/b", 8),
        Event(Kind.WRITE, 3, 0, 0, b"copied", 8),
        Event(Kind.WRITE, 3, 0, 0, b"its own", 7),
        Event(Kind.BEGIN, -1, 0, 0, b"", 9, 1),
    ]
    assert lives(recorded) == [0, 6]
    found = images.everything(disk_of(*recorded), Random(1))
    assert found == {A: b"its own", FOLDER / "b": b"copied"}


def test_a_strict_disk_has_the_names_that_were_synced() -> None:
    disk = disk_of(
        *BEGUN,
        on(Kind.WRITE, 3, 0, b"first"),
        on(Kind.SYNC, 3),
        on(Kind.SYNC, 4),
        on(Kind.REMOVE, -1, data=b"/f/a"),
        on(Kind.MAKE, 5, data=b"/f/a"),
        on(Kind.WRITE, 5, 0, b"second"),
        on(Kind.SYNC, 5),
        on(Kind.RENAME, -1, data=b"/f/a\n/f/b"),
    )
    assert images.strict_names(disk, Random(1)) == {A: b"first"}
    assert images.nothing(disk, Random(1)) == {FOLDER / "b": b"second"}
    disk.take(on(Kind.SYNC, 4))
    assert images.strict_names(disk, Random(1)) == {FOLDER / "b": b"second"}


# --- the judge --------------------------------------------------------------------------------------


def entries_of(count: int) -> list[Entry]:
    made: list[Entry] = []
    for number in range(1, count + 1):
        entry = stamp(
            Draft(EntryKind.NOTE_ADDED, {"note_id": str(number)}, None, None, ALICE),
            session_id="ses_01m8bc7wc1ejdte581nx7revtp",
            seq=number,
            recorded_at=START_AT,
            previous=made[-1].hash if made else bytes(32),
            key=None,
        )
        made.append(entry)
    return made


def test_what_is_lost_invented_or_lacks_in_the_middle_is_told() -> None:
    every = [replace(one, feed_offset=n) for n, one in enumerate(entries_of(5), 1)]
    truth = Truth({one.feed_offset or 0: (one.session_id, one.hash.hex()) for one in every})
    assert judged(every, truth, 5).result == WHOLE
    assert judged(every[:4], truth, 3).result == WHOLE
    assert judged(every[:4], truth, 5).result == LOST
    assert judged([*every[:2], *every[3:]], truth, 5).result == LOST
    assert judged([*every[:3], every[4]], truth, 3).result == GAP
    changed = [*every[:4], replace(every[4], hash=bytes(32))]
    assert judged(changed, truth, 5).result == INVENTED
    assert judged([*every, replace(every[4], feed_offset=6)], truth, 5).result == INVENTED
