"""A bad record of the log of commits with a whole one behind it is damage and never the end (S-52, S-60)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from helmr.errors import LedgerDamaged
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log import file_store
from helmr_runtime.ledger.log.file_store import HEADER, MARK, read_unmerged
from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.repair import repair
from tests.ledger.sessions import SMALL, START_AT, running
from tests.ledger.test_commit_log import LOG_ID, commit, opened, texts
from tests.ledger.test_restart import killed

pytestmark = pytest.mark.allows_blocking


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """Where a log without a ledger is."""
    return tmp_path / "ledger.duckdb.commits"


def places_of(path: Path) -> list[int]:
    """Where each record begins, and where the last one ends."""
    data = path.read_bytes()
    places = [0]
    while (record := file_store._record(data, places[-1])) is not None:
        places.append(record[3])
    return places


def flip(path: Path, place: int, bit: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_one_flipped_bit_before_a_whole_record_is_refused_with_both_numbers(
    log_path: Path,
) -> None:
    log = opened(log_path)
    for number in range(1, 7):
        log.append(commit(number))
    whole, places = log_path.read_bytes(), places_of(log_path)
    chance = random.Random(3)
    for _ in range(80):
        bad = chance.randrange(5)
        flip(log_path, chance.randrange(places[bad], places[bad + 1]), chance.randrange(8))
        with pytest.raises(LedgerDamaged, match=f"commit {bad + 2} is whole") as caught:
            opened(log_path)
        assert (caught.value.facts["commit"], caught.value.facts["next_commit"]) == (bad, bad + 2)
        assert "helmr repair" in str(caught.value.hint)
        # What the database has may be bad.
        assert len(read_unmerged(log_path, LOG_ID, bad + 1).entries) == 5 - bad
        log_path.write_bytes(whole)


def test_records_of_an_earlier_round_behind_a_torn_one_are_no_damage(log_path: Path) -> None:
    log = opened(log_path)
    for number in range(1, 30):
        log.append(commit(number))
    log.merged(29)
    log.append(commit(30))
    log.append(commit(31, "x" * 400))
    whole, places = log_path.read_bytes(), places_of(log_path)
    assert whole.count(MARK) > 20
    for place in range(places[1], places[2]):
        log_path.write_bytes(whole[:place] + bytes(places[2] - place) + whole[places[2] :])
        assert texts(read_unmerged(log_path, LOG_ID, 29)) == texts(commit(30))
    # Torn is also the first one of a round.
    log_path.write_bytes(bytes(places[2]) + whole[places[2] :])
    assert read_unmerged(log_path, LOG_ID, 29).is_empty
    # The same, and the database lacks what they hold: that can't be.
    with pytest.raises(LedgerDamaged):
        read_unmerged(log_path, LOG_ID, 3)


def test_a_record_of_another_log_behind_the_end_is_nothing(log_path: Path) -> None:
    log = opened(log_path, log_id=LOG_ID + 1)
    for number in range(1, 9):
        log.append(commit(number))
    other = log_path.read_bytes()
    log_path.write_bytes(b"")
    log = opened(log_path)
    log.append(commit(1))
    end = places_of(log_path)[-1]
    log_path.write_bytes(log_path.read_bytes()[:end] + bytes(3) + other[end:])
    assert len(read_unmerged(log_path, LOG_ID, 0).entries) == 1


def test_looking_on_reads_each_byte_a_few_times_at_most(
    log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers with right numbers and lengths up to the file's end, thousands of them."""
    headers = [
        HEADER.pack(MARK, LOG_ID, n, 2**20 - 40 * n, 7) + b"[" * 16 for n in range(2, 20_000)
    ]
    log_path.write_bytes(bytes(40) + b"".join(headers))
    read: list[int] = []
    checksum = file_store._checksum

    def counted(log_id: int, number: int, text: bytes) -> int:
        read.append(len(text))
        return checksum(log_id, number, text)

    monkeypatch.setattr(file_store, "_checksum", counted)
    assert read_unmerged(log_path, LOG_ID, 0).is_empty
    assert sum(read) < 4 * log_path.stat().st_size


# --- with its ledger --------------------------------------------------------------------------------


async def test_after_a_loss_of_power_a_damaged_log_is_refused_by_all_and_repaired_when_told(
    path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    """The head mark is what a loss of power left of it: behind all that the log holds."""
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    first = hand.seq
    for _ in range(4):
        await hand.stored(hand.step(), hand.step_done())
    copy = killed(path, tmp_path / "lost")
    await ledger.close()
    copy.with_name(copy.name + MARK_SUFFIX).unlink()
    log = copy.with_name(copy.name + LOG_SUFFIX)
    places = places_of(log)
    flip(log, places[-4] + 40, 0)
    before = {file.name: file.read_bytes() for file in copy.parent.iterdir()}
    keys = LedgerKeys(None)
    with pytest.raises(LedgerDamaged, match="is damaged behind commit"):
        await open_ledger(copy, clock=clock, settings=SMALL)
    with (
        pytest.raises(LedgerDamaged, match="is damaged behind commit") as caught,
        stored_ledger(copy),
    ):
        pass
    assert "`helmr repair`" in str(caught.value.hint)
    assert log.read_bytes() == before[log.name]
    kept = first + 2  # of the four commits the first is before the damage
    with pytest.raises(LedgerDamaged) as caught:
        repair(copy, keys, START_AT)
    assert f"`--drop-from {kept + 1}`" in str(caught.value.hint)
    with pytest.raises(LedgerDamaged):
        repair(copy, keys, START_AT, drop_from=kept + 2)
    done = repair(copy, keys, START_AT, drop_from=kept + 1)
    assert done.checked.through == kept
    again = await open_ledger(copy, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == kept
    await again.close()
