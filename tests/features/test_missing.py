"""A ledger names the features whose entries it holds, and is opened by nothing that lacks one (S-148)."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import FeatureMissing
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.feature import Feature
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.index.features import FeatureMemories
from helmr_runtime.ledger.index.ledger_index import FEATURE_MARK, LedgerIndex
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.rebuild import LedgerKeys, set_numbers
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.recovery import FEATURES_EDITION, NAMES_FEATURES
from helmr_runtime.ledger.tools.audit import audit
from tests.ledger.sessions import SMALL, START_AT

WITH_FACTS = [one for one in FEATURES if one.ledger]

pytestmark = [
    pytest.mark.parametrize("feature", WITH_FACTS, ids=lambda one: one.name),
    pytest.mark.allows_blocking,
]


def others(feature: Feature) -> tuple[Feature, ...]:
    return tuple(one for one in FEATURES if one is not feature)


def fact_of(feature: Feature) -> Any:
    """What it writes first."""
    return import_module(f"tests.features.{feature.name}.doors").FACT


async def opened(path: Path, *features: Feature) -> DuckLedger:
    return await open_ledger(path, clock=FakeClock(START_AT), settings=SMALL, features=features)


def copied(path: Path, to: Path) -> Path:
    """The files as a kill leaves them."""
    to.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, to / file.name)
    return to / path.name


@pytest.fixture
async def written(feature: Feature, tmp_path: Path) -> Path:
    """A closed ledger with an entry of the feature."""
    path = tmp_path / "ledger.duckdb"
    ledger = await opened(path, *FEATURES)
    await ledger.fact(fact_of(feature))
    await ledger.close()
    return path


async def test_it_is_refused_and_unchanged(feature: Feature, written: Path) -> None:
    with pytest.raises(FeatureMissing, match=feature.name) as caught:
        await opened(written, *others(feature))
    assert (caught.value.code, caught.value.facts["features"]) == (
        "feature_missing",
        [feature.name],
    )
    ledger = await opened(written, *FEATURES)
    assert ledger.index.features[feature.name].things
    await ledger.close()


async def test_what_stands_in_the_log_alone_is_refused_too(
    feature: Feature, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.duckdb"
    ledger = await opened(path, *FEATURES)
    await ledger.fact(fact_of(feature))
    killed = copied(path, tmp_path / "killed")
    await ledger.close()
    with pytest.raises(FeatureMissing):
        await opened(killed, *others(feature))
    again = await opened(killed, *FEATURES)
    assert again.index.features[feature.name].things
    await again.close()


@pytest.mark.parametrize("edition", [None, FEATURES_EDITION - 1])
async def test_a_file_of_a_helmr_that_named_none_is_looked_through(
    feature: Feature, written: Path, edition: int | None
) -> None:
    """It knew no features, or had these kinds in its kernel."""
    ledger = await opened(written, *FEATURES)
    await ledger.read_tables(lambda reader: None)
    names = [NAMES_FEATURES, FEATURE_MARK + feature.name]
    forget = "DELETE FROM meta WHERE name IN (SELECT unnest($1::VARCHAR[]))"
    with ledger._database.transaction() as connection:
        connection.execute(forget, [names])
        if edition is not None:
            set_numbers(connection, {NAMES_FEATURES: edition})
    await ledger.close()
    with pytest.raises(FeatureMissing, match="the kind"):
        await opened(written, *others(feature))
    again = await opened(written, *FEATURES)
    assert feature.name in again.index.features.since
    await again.close()


async def test_a_tool_refuses_it(feature: Feature, written: Path) -> None:
    with stored_ledger(written) as stored, pytest.raises(FeatureMissing):
        audit(stored, LedgerKeys(None, others(feature)), START_AT)
    with stored_ledger(written) as stored:
        assert audit(stored, LedgerKeys(None, FEATURES), START_AT).entries


async def test_a_runtime_says_so_to_every_caller(feature: Feature, written: Path) -> None:
    actor = LedgerActor(
        LedgerPlace(written, features=others(feature)), clock=FakeClock(START_AT), settings=SMALL
    )
    with pytest.raises(FeatureMissing):
        await actor.open()
    with pytest.raises(FeatureMissing):
        await actor.catalog()
    assert (await actor.stats())["code"] == "feature_missing"
    await actor.close()


async def test_folding_ends_before_it(feature: Feature, written: Path) -> None:
    """As a standby does, which folds the log while it follows."""
    ledger = await opened(written, *FEATURES)
    entries = await ledger.entries_after(0, 100)
    await ledger.close()
    index = LedgerIndex(others(feature))
    own = next(entry for entry in entries if entry.kind.is_of_feature)
    with pytest.raises(FeatureMissing):
        index.apply(own, START_AT)
    assert index.head_offset == 0
    assert index.system.next_seq == 1


async def test_it_refuses_facts_and_questions_of_a_feature_that_it_lacks(feature: Feature) -> None:
    ledger = MemoryLedger(FakeClock(START_AT), features=others(feature))
    with pytest.raises(FeatureMissing, match=feature.name):
        await ledger.fact(fact_of(feature))
    assert not [one for one in ledger.stored.entries if one.kind.is_of_feature]


def test_kinds_are_the_features_own(feature: Feature) -> None:
    kinds = FeatureMemories([feature]).parts[feature.name].kinds
    assert kinds
    assert not set(kinds) & set(EntryKind)
