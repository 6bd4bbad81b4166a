"""A campaign adds up, goes on where it was, and ends at the first broken promise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.histories import campaign, history
from tests.histories.__main__ import main
from tests.histories.history import Call, Kind
from tests.histories.taking import Plan, Taken
from tests.histories.test_checker import BAD, GOOD, call


def taken(calls: Iterable[Call]) -> Taken:
    """A history with three faults, of which two hit a process."""
    what = ("kill host", "pause long ledger", "wrong bytes")
    faults = [call(Kind.FAULT, one, 0, 1, client=-1) for one in what]
    return Taken([*calls, *faults], unfinished=0)


def reached(folder: Path, *, calls: int, hits: int) -> campaign.Campaign:
    """One that wants so much."""
    return campaign.Campaign(
        folder=folder, calls=calls, hits=hits, seconds=1, clients=1, sessions=1
    )


def gives(monkeypatch: pytest.MonkeyPatch, histories: list[Taken]) -> list[Plan]:
    """The next histories come from here instead of a runtime; the plans they were taken by."""
    plans: list[Plan] = []

    async def take(_: Path, plan: Plan) -> Taken:
        plans.append(plan)
        return histories[len(plans) - 1]

    monkeypatch.setattr(campaign, "take", take)
    return plans


def test_it_ends_when_there_are_enough_calls_and_kills_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = gives(monkeypatch, [taken(GOOD["uses"])] * 4)
    assert reached(tmp_path, calls=8, hits=3).run()
    assert [(plan.seed, plan.in_process) for plan in plans] == [(1, False), (2, True)]
    assert reached(tmp_path, calls=8, hits=3).run()
    assert len(plans) == 2
    assert reached(tmp_path, calls=8, hits=8).run()
    assert [plan.seed for plan in plans] == [1, 2, 3, 4]
    found = campaign.sums(campaign.read_rows(tmp_path))
    assert (found["histories"], found["calls"], found["hits"]) == (4, 16, 8)
    assert found["by_call"] == {
        "read_uses ok": 4, "use ok": 4, "use refused": 4, "use unknown": 4,
    }  # fmt: skip
    assert found["faults"] == {"kill host": 4, "pause long ledger": 4, "wrong bytes": 4}
    assert not any(found["broken"].values())
    kept = tmp_path / "history-0003.parquet"
    assert len(history.read(kept)) == 7
    assert main(["check", str(kept)]) == 0


def test_a_broken_promise_ends_it_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = gives(monkeypatch, [taken(GOOD["uses"]), taken(BAD["used too often"][1])])
    assert not reached(tmp_path, calls=1_000, hits=0).run()
    assert len(plans) == 2
    assert not reached(tmp_path, calls=1_000, hits=0).run(), "it does not go on after that"
    assert len(plans) == 2
    assert campaign.sums(campaign.read_rows(tmp_path))["broken"]["uses"] == 2
    assert "BROKEN uses: pub: 3 uses were accepted" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "history-0002.parquet")]) == 1


def test_runs_that_stand_still_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gives(monkeypatch, [Taken([], unfinished=2)])
    assert not reached(tmp_path, calls=1, hits=0).run()
    assert campaign.sums(campaign.read_rows(tmp_path))["unfinished"] == 2
