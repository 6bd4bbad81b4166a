"""Today's code opens the ledger of 0.1.0: chains, tables, states, known operations (S-52, S-53, S-61)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Entry, entry_json
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports.ledger import restore
from helmr_runtime.security.keys import KeyRing, read_key_ring
from tests.core.builder import picture
from tests.fixtures.earlier import Earlier
from tests.ledger.sessions import SMALL
from tests.ledger.test_restart import folded, tables_of

ALL = 10_000
"""More entries than there are."""
PREFIXES = ("plain", "sealed")
"""Names of what was stored before and after payloads were encrypted."""


@pytest.fixture(scope="module")
def earlier() -> Earlier:
    """What 0.1.0 has left."""
    return Earlier("ledger_0_1_0")


@pytest.fixture
def clock(earlier: Earlier) -> FakeClock:
    """A minute after it was made: nothing is due yet, and operation ids are remembered for a day."""
    return FakeClock(earlier.made_at + timedelta(minutes=1))


@pytest.fixture
def path(earlier: Earlier, tmp_path: Path) -> Path:
    """A copy of it."""
    return earlier.unpack(tmp_path / "data")


@pytest.fixture
def ring(path: Path) -> KeyRing | None:
    """Its master keys."""
    return read_key_ring(path.parent / "master-keys.json", {})


@pytest.fixture
async def ledger(path: Path, ring: KeyRing | None, clock: FakeClock) -> AsyncIterator[DuckLedger]:
    """The copy, open."""
    opened = await open_ledger(path, clock=clock, settings=SMALL, ring=ring)
    yield opened
    await opened.close()


async def test_every_chain_verifies_and_reads_as_it_did(
    earlier: Earlier, ledger: DuckLedger
) -> None:
    transcripts = earlier.transcripts()
    assert len(transcripts) == sum(len(earlier.made[prefix]["sessions"]) for prefix in PREFIXES)
    now: dict[str, list[Entry]] = {}
    for entry in await ledger.entries_after(0, ALL):
        now.setdefault(entry.session_id, []).append(entry)
    for session_id, entries in transcripts.items():
        assert await ledger.verify_chain(session_id) == len(now[session_id])
        assert [facts_of(entry_json(one)) for one in now[session_id][: len(entries)]] == [
            facts_of(was) for was in entries
        ]


def facts_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says, in whatever form a release shows it."""
    facts = {name: entry[name] for name in ("seq", "kind", "run_id", "op", "body")}
    principal = {name: part for name, part in entry["principal"].items() if part is not None}
    return facts | {"principal": principal}


async def test_tables_are_the_fold_of_its_entries(ledger: DuckLedger, clock: FakeClock) -> None:
    assert await tables_of(ledger) == await folded(ledger, clock)


async def test_states_from_checkpoints_are_the_fold_of_its_entries(
    earlier: Earlier, ledger: DuckLedger
) -> None:
    states: dict[str, SessionState] = {}
    for entry in await ledger.entries_after(0, ALL):
        if entry.session_id == ids.SYSTEM_STREAM:
            continue
        states.setdefault(entry.session_id, SessionState(entry.session_id)).apply(entry)
    compared = from_checkpoint = 0
    for prefix in PREFIXES:
        for session_id in earlier.made[prefix]["sessions"].values():
            loaded = await ledger.load(session_id, "slot-1")
            from_checkpoint += loaded.checkpoint is not None
            assert said_by(restore(session_id, loaded)) == said_by(states[session_id])
            compared += 1
    assert compared >= 30
    assert from_checkpoint >= 20


def said_by(state: SessionState) -> dict[str, Any]:
    """A state in comparable values, but for the stored texts: a sealed body stands in a checkpoint in the clear."""
    found = picture(state)
    # The checkpoints of 0.1.0 did not say whose end closed a session: it counts as closed by somebody then.
    found.pop("closed_by")
    if state.run is not None:
        found["run"]["journal"] = [
            (entry.seq, entry.kind, entry.op, entry.principal, entry.body, entry.recorded_at)
            for entry in state.run.journal
        ]
    return found


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_its_operations_are_known_for_a_day(
    earlier: Earlier, ledger: DuckLedger, prefix: str
) -> None:
    for operation_id in earlier.made[prefix]["operations"].values():
        assert ledger.index.operations.offset_of(operation_id) is not None


async def test_payloads_stand_encrypted_from_where_they_were(
    earlier: Earlier, ledger: DuckLedger
) -> None:
    def stored(session_id: str) -> bool:
        return all('"enc":1' in body for body in bodies[session_id])

    bodies: dict[str, list[str]] = {}
    for entry in await ledger.entries_after(0, ALL):
        bodies.setdefault(entry.session_id, []).append(entry.body_json)
    assert all(map(stored, earlier.made["sealed"]["sessions"].values()))
    assert not any(map(stored, earlier.made["plain"]["sessions"].values()))
