"""A ledger of another edition: an older one is verified as it stands, a newer one names its Helmr (S-67)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from helmr.errors import DataError, LedgerDamaged, UsageError
from helmr.version import version
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ledger.tools.audit import Audit, audit
from helmr_runtime.security.keys import read_key_ring
from tests.cli.conftest import process
from tests.fixtures.editions import OF_0_1_0, SCHEMAS, bring_to
from tests.ledger.sessions import SMALL
from tests.toolbox.conftest import EARLIER, RING
from tests.toolbox.test_verify import digests

pytestmark = pytest.mark.allows_blocking

NEWEST = SCHEMA


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The ledger of 0.1.0 as it was left."""
    return EARLIER.unpack(tmp_path / "older")


@pytest.fixture
def older_keys(older: Path) -> LedgerKeys:
    return LedgerKeys(read_key_ring(older.parent / RING, {}))


def verified(path: Path, keys: LedgerKeys, now: datetime) -> Audit:
    with stored_ledger(path) as ledger:
        return audit(ledger, keys, now)


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMAS[0],
        *(pytest.param(schema, marks=pytest.mark.long) for schema in SCHEMAS[1:-1]),
        SCHEMAS[-1],
    ],
)
def test_an_older_ledger_is_verified_as_it_stands(
    older: Path, older_keys: LedgerKeys, now: datetime, schema: int
) -> None:
    bring_to(older, schema)
    before = digests(older.parent)
    found = verified(older, older_keys, now)
    assert (found.schema, found.tables) == (schema, False)
    assert found.entries == found.through > 100
    assert found.checkpoints > 10
    assert digests(older.parent) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE entries SET principal = '{}' WHERE feed_offset = 50", "feed offset 50"),
        ("DELETE FROM entries WHERE feed_offset = 50", "is missing"),
        ("UPDATE entries SET seq = seq + 1 WHERE feed_offset = 50", "is missing"),
        (
            "DELETE FROM entries WHERE feed_offset = (SELECT max(feed_offset) FROM entries)",
            "head mark",
        ),
        ("UPDATE checkpoints SET seq = seq - 1", "checkpoint at feed offset"),
    ],
)
def test_damage_of_an_older_ledger_is_named(
    older: Path, older_keys: LedgerKeys, now: datetime, change: str, says: str
) -> None:
    with duckdb.connect(str(older)) as connection:
        connection.execute(change)
    with pytest.raises(LedgerDamaged, match=says):
        verified(older, older_keys, now)


def test_the_command_checks_an_older_ledger_and_says_what_it_did_not(older: Path) -> None:
    before = digests(older.parent)
    said = process("verify", "--data-dir", str(older.parent))
    assert said.code == 0, said.err
    assert "is whole" in said.err
    assert f"older schema {OF_0_1_0}" in said.err
    assert {k: v for k, v in digests(older.parent).items() if k in before} == before


async def test_a_newer_ledger_names_the_helmr_that_wrote_it(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    with duckdb.connect(str(path)) as connection:
        found = connection.execute("SELECT text FROM meta_texts WHERE name = 'helmr'").fetchall()
        assert found == [(version(),)]
        connection.execute("UPDATE meta_texts SET text = '9.8.7' WHERE name = 'helmr'")
        connection.execute("UPDATE meta SET number = $1 WHERE name = 'schema'", [NEWEST + 1])
    says = f"has schema {NEWEST + 1}, written by Helmr 9.8.7; this Helmr {version()} knows {NEWEST}"
    with pytest.raises(DataError, match=says) as refused:
        await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    assert refused.value.hint == "Use Helmr 9.8.7 or later."
    with pytest.raises(UsageError, match=says):
        verified(path, keys, now)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM meta_texts WHERE name = 'helmr'")
    with pytest.raises(DataError, match=f"has schema {NEWEST + 1}; this Helmr"):
        await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
