"""A ledger's file takes the keys that it was written with and no others, also one of an earlier edition (S-52)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from helmr.errors import MasterKeyMissing
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import look_before_start, open_ledger
from helmr_runtime.ledger.tables.schema import known_keys
from helmr_runtime.security.keys import KEY_BYTES, KeyRing, MasterKey, fingerprint, read_key_ring
from tests.fixtures.earlier import Earlier
from tests.ledger.sessions import SMALL, START_AT, start_of

pytestmark = pytest.mark.allows_blocking  # a start looks at the file before there is a loop

EARLIER = Earlier("ledger_0_1_0")
ONE, TWO = MasterKey("k1", b"1" * KEY_BYTES), MasterKey("k2", b"2" * KEY_BYTES)
OTHER = MasterKey("k1", b"9" * KEY_BYTES)


async def opened(path: Path, *keys: MasterKey) -> DuckLedger:
    ring = KeyRing(keys) if keys else None
    return await open_ledger(path, clock=FakeClock(START_AT), settings=SMALL, ring=ring)


async def written(path: Path, *keys: MasterKey) -> None:
    ledger = await opened(path, *keys)
    await ledger.start_session(start_of())
    await ledger.close()


def known(path: Path) -> dict[str, str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return known_keys(connection)


def schema(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        return int(
            connection.execute("SELECT number FROM meta WHERE name = 'schema'").fetchall()[0][0]
        )


async def test_a_file_knows_the_keys_that_have_opened_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    await written(path, ONE)
    assert known(path) == {"k1": fingerprint(ONE)}
    await written(path, ONE, TWO)
    assert known(path) == {"k1": fingerprint(ONE), "k2": fingerprint(TWO)}
    for keys in ((OTHER,), (OTHER, TWO), (ONE, MasterKey("k2", OTHER.key)), ()):
        with pytest.raises(MasterKeyMissing):
            await opened(path, *keys)
    await (await opened(path, TWO)).close()  # the first was retired
    assert known(path).keys() == {"k1", "k2"}


async def test_a_file_without_entries_takes_any_ring(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    await (await opened(path, ONE)).close()
    await (await opened(path, OTHER)).close()
    await written(path, OTHER)
    with pytest.raises(MasterKeyMissing):
        await opened(path, ONE)


async def test_what_only_the_log_of_commits_has_is_proof_too(tmp_path: Path) -> None:
    path, killed = tmp_path / "ledger.duckdb", tmp_path / "killed" / "ledger.duckdb"
    ledger = await opened(path, ONE)
    await ledger.start_session(start_of())
    killed.parent.mkdir()
    for file in path.parent.glob("ledger.duckdb*"):
        (killed.parent / file.name).write_bytes(file.read_bytes())
    await ledger.close()
    for ring in (None, KeyRing((OTHER,))):
        with pytest.raises(MasterKeyMissing):
            look_before_start(killed, ring)
    look_before_start(killed, KeyRing((ONE,)))
    with pytest.raises(MasterKeyMissing):
        await opened(killed, OTHER)


async def test_a_ledger_of_0_1_0_is_proven_by_its_chains_and_then_knows_its_keys(
    tmp_path: Path,
) -> None:
    path = EARLIER.unpack(tmp_path / "data")
    ring = read_key_ring(path.parent / "master-keys.json", {})
    assert ring is not None
    others = [KeyRing((MasterKey(key.id, OTHER.key),)) for key in ring.keys]
    before = schema(path)
    for wrong in (None, KeyRing((MasterKey("kff", OTHER.key),)), *others):
        with pytest.raises(MasterKeyMissing):
            look_before_start(path, wrong)
        with pytest.raises(MasterKeyMissing):
            await open_ledger(path, clock=FakeClock(START_AT), settings=SMALL, ring=wrong)
    assert schema(path) == before, "what is refused is not brought to the new schema either"
    look_before_start(path, ring)
    clock = FakeClock(EARLIER.made_at + timedelta(minutes=1))
    await (await open_ledger(path, clock=clock, settings=SMALL, ring=ring)).close()
    assert known(path) == {key.id: fingerprint(key) for key in ring.keys}


async def test_a_changed_first_entry_of_one_chain_does_not_make_the_keys_wrong(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.duckdb"
    ledger = await opened(path, ONE)
    for _ in range(3):
        await ledger.start_session(start_of())
    await ledger.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM meta_texts")  # as of an edition that knew no fingerprints
        connection.execute("UPDATE entries SET principal = '{}' WHERE feed_offset = 1")
    look_before_start(path, KeyRing((ONE,)))
    with pytest.raises(MasterKeyMissing):
        look_before_start(path, KeyRing((OTHER,)))
