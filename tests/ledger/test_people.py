"""What the ledger keeps of people: one subject each, nothing of a disabled one, over a restart too (S-111, S-117)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import Conflict, KeyNotFound, Overloaded, PersonBound, PersonDisabled
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.api_keys import CreateApiKey
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.people import (
    SIGNING_KEYS_MAX,
    AddSigningKey,
    BindPerson,
    DisablePerson,
    EnablePerson,
    RevokeSigningKey,
    UnbindPerson,
    person_principal,
)
from helmr_runtime.ledger.actor import LedgerActor
from tests.ledger.sessions import ALICE

ADA = person_principal("ada", "key_1")


def ledger_at(folder: Path, clock: FakeClock) -> LedgerActor:
    return LedgerActor(folder / "helmr.duckdb", clock=clock)


async def is_revoked(ledger: LedgerActor, hashed: str) -> bool:
    found = await ledger.find_api_key(hashed)
    assert found is not None
    return found["revoked_at"] is not None


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[LedgerActor]:
    found = ledger_at(tmp_path, clock)
    yield found
    await found.close()


def operation() -> OperationKey:
    return OperationKey(id=ids.new_id(ids.OPERATION), request_hash="r")


def bind(person: str, subject: str) -> BindPerson:
    return BindPerson(principal=ALICE, person=person, issuer="https://id.test", subject=subject)


def key_of(person: str | None, hashed: str, **parts: Any) -> CreateApiKey:
    return CreateApiKey(
        principal=ALICE,
        operation=operation(),
        key_id=ids.new_id(ids.API_KEY),
        role="operator",
        name="k",
        secret_hash=hashed,
        person=person,
        **parts,
    )


async def test_a_person_is_bound_to_one_subject_and_a_subject_to_one_person(
    ledger: LedgerActor,
) -> None:
    await ledger.fact(bind("ada", "1"))
    before = await ledger.feed_head()
    await ledger.fact(bind("ada", "1"))
    assert await ledger.feed_head() == before
    with pytest.raises(PersonBound, match="ada is bound to another account"):
        await ledger.fact(bind("ada", "2"))
    with pytest.raises(PersonBound, match="signs in as ada, not as eve"):
        await ledger.fact(bind("eve", "1"))
    await ledger.fact(UnbindPerson(principal=ALICE, person="ada"))
    await ledger.fact(bind("eve", "1"))
    await ledger.fact(bind("ada", "2"))
    [ada, eve] = await ledger.people()
    assert (ada["subject"], eve["subject"]) == ("2", "1")


async def test_disabling_ends_a_persons_keys_in_one_commit_and_no_others(
    ledger: LedgerActor,
) -> None:
    for person, hashed in (("ada", "a"), ("ada", "b"), ("bob", "c"), (None, "d")):
        await ledger.fact(key_of(person, hashed))
    disable = DisablePerson(
        principal=ALICE, operation=operation(), person="ada", names=("ada",), reason="left"
    )
    before = await ledger.feed_head()
    assert await ledger.fact(disable) == {"person": "ada"}
    kinds = [one["kind"] for one in await ledger.feed(before, 10, 0)]
    assert kinds == ["person.disabled", "api_key.revoked", "api_key.revoked"]
    found = {h: await is_revoked(ledger, h) for h in "abcd"}
    assert found == {"a": True, "b": True, "c": False, "d": False}
    await ledger.fact(disable)
    await ledger.fact(DisablePerson(principal=ALICE, person="ada", names=("ada",)))
    assert await ledger.feed_head() == before + 3
    with pytest.raises(Conflict, match="ada is disabled"):
        await ledger.fact(key_of("ada", "e"))
    await ledger.fact(EnablePerson(principal=ALICE, person="ada"))
    await ledger.fact(key_of("ada", "e"))
    assert await is_revoked(ledger, "a")


async def test_a_disabled_person_writes_no_fact_also_after_a_restart(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock)
    await ledger.fact(bind("ada", "1"))
    await ledger.fact(DisablePerson(principal=ALICE, person="ada", names=("ada", "ada@x.y")))
    await ledger.close()
    again = ledger_at(tmp_path, clock)
    [ada] = await again.people()
    assert (ada["subject"], ada["disabled_at"] is not None) == ("1", True)
    with pytest.raises(PersonDisabled):
        await again.fact(UnbindPerson(principal=ADA, person="ada"))
    await again.fact(EnablePerson(principal=ALICE, person="ada"))
    await again.fact(UnbindPerson(principal=ADA, person="ada"))
    await again.close()
    last = ledger_at(tmp_path, clock)
    [ada] = await last.people()
    assert (ada["subject"], ada["disabled_at"]) == (None, None)
    await last.close()


def add(person: str, key: str) -> AddSigningKey:
    return AddSigningKey(
        principal=ALICE,
        operation=operation(),
        person=person,
        fingerprint=f"SHA256:{key}",
        key=f"ssh-ed25519 {key}",
        comment="desk",
    )


def revoke(person: str, key: str) -> RevokeSigningKey:
    return RevokeSigningKey(
        principal=ALICE, operation=operation(), person=person, fingerprint=f"SHA256:{key}"
    )


async def test_a_signing_key_is_one_persons_and_once_revoked_no_ones(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock)
    for key in ("one", "two", "one"):  # the same again changes nothing
        assert await ledger.fact(add("ada", key)) == {"person": "ada"}
    with pytest.raises(Conflict, match="is a key of ada"):
        await ledger.fact(add("bob", "one"))
    for person, key in (("ada", "three"), ("bob", "one")):
        with pytest.raises(KeyNotFound):
            await ledger.fact(revoke(person, key))
    before = await ledger.feed_head()
    for _ in range(2):
        await ledger.fact(revoke("ada", "one"))
    assert await ledger.feed_head() == before + 1
    await ledger.close()
    again = ledger_at(tmp_path, clock)
    [ada] = await again.people()
    found = [(key["fingerprint"], key["revoked_at"] is not None) for key in ada["signing_keys"]]
    assert found == [("SHA256:one", True), ("SHA256:two", False)]
    for person in ("ada", "bob"):
        with pytest.raises(Conflict):
            await again.fact(add(person, "one"))
    await again.fact(DisablePerson(principal=ALICE, person="ada", names=("ada",)))
    with pytest.raises(Conflict, match="ada is disabled"):
        await again.fact(add("ada", "new"))
    await again.close()


async def test_a_person_has_at_most_so_many_signing_keys(ledger: LedgerActor) -> None:
    for number in range(SIGNING_KEYS_MAX):
        await ledger.fact(add("ada", f"k{number}"))
    with pytest.raises(Overloaded):
        await ledger.fact(add("ada", "one more"))
