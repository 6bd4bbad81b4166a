"""A campaign adds up, goes on where it was, ends at the first broken promise, and takes its processes with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.programs.figures import record
from tests.programs.histories import campaign, history
from tests.programs.histories.__main__ import main
from tests.programs.histories.history import Call, Kind
from tests.programs.histories.taking import Plan, Taken
from tests.programs.histories.test_checker import BAD, GOOD, call

SHORT = "pass"
LONG = "import signal; signal.sigwait([signal.SIGINT])"
ENDS_US = f"import os, signal; os.kill(os.getppid(), signal.SIGTERM); {LONG}"


def taken(calls: Iterable[Call]) -> Taken:
    """A history with three faults, of which two hit a process."""
    what = ("kill host", "pause long ledger", "wrong bytes")
    faults = [call(Kind.FAULT, one, 0, 1, client=-1) for one in what]
    return Taken([*calls, *faults], unfinished=0)


def python(does: str) -> subprocess.Popen[bytes]:
    """A process in the place of one that takes a history."""
    return subprocess.Popen([sys.executable, "-c", does])


class Histories:
    """What a campaign starts: each history is judged at once, by `campaign.take_one`."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, histories: list[Taken]
    ) -> None:
        self._folder = folder
        self._left = list(histories)
        self.seeds: list[int] = []
        monkeypatch.setattr(campaign, "take", lambda _, plan: self._left.pop(0))

    def start(self, seed: int) -> subprocess.Popen[bytes]:
        """Take the next of them."""
        self.seeds.append(seed)
        plan = Plan(seed=seed, in_process=campaign.is_in_process(seed))
        campaign.take_one(plan, self._folder / f"history-{seed:04}.parquet")
        return python(SHORT)

    def reached(self, *, calls: int, hits: int, at_once: int = 1) -> bool:
        """Run a campaign that wants so much."""
        return campaign.Campaign(
            folder=self._folder, calls=calls, hits=hits, at_once=at_once, start=self.start
        ).run()


def test_it_ends_when_there_are_enough_calls_and_kills_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Histories(tmp_path, monkeypatch, [taken(GOOD["uses"])] * 4)
    assert some.reached(calls=8, hits=3)
    assert some.seeds == [1, 2]
    assert some.reached(calls=8, hits=3)
    assert some.seeds == [1, 2]
    assert some.reached(calls=8, hits=8)
    assert some.seeds == [1, 2, 3, 4]
    rows = campaign.read_rows(tmp_path)
    assert [row.in_process for row in rows] == [False, True, False, True]
    found = campaign.sums(rows)
    assert (found["histories"], found["calls"], found["hits"]) == (4, 16, 8)
    assert found["by_call"] == {
        "read_uses ok": 4, "use ok": 4, "use refused": 4, "use unknown": 4,
    }  # fmt: skip
    assert found["faults"] == {"kill host": 4, "pause long ledger": 4, "wrong bytes": 4}
    assert not any(found["broken"].values())
    kept = tmp_path / "history-0003.parquet"
    assert len(history.read(kept)) == 7
    assert main(["check", str(kept)]) == 0


@pytest.mark.parametrize("where", [("--folder", "{}"), ("--folder={}",)], ids=" ".join)
def test_what_is_put_on_record_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...]
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(record, "put", lambda *what, **_: kept.extend(what))
    folder = [one.format(tmp_path) for one in where]
    assert main(["campaign", "--calls", "0", "--kills=0", *folder, "--record"]) == 0
    assert kept[:2] == [
        "histories",
        'make histories HISTORY_ARGS="campaign --calls 0 --kills=0 --record"',
    ]


def test_both_forms_of_a_runtime_have_a_third_of_the_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Histories(tmp_path, monkeypatch, [taken(GOOD["uses"])] * 3)
    campaign.write_row(
        campaign.Row(
            seed=1, in_process=False, took_s=1, commit="", calls={"send": {"ok": 99}},
            faults={"kill host": 9}, repeated=0,
        ),
        tmp_path / "history-0001.parquet",
    )  # fmt: skip
    assert some.reached(calls=9, hits=9)
    assert some.seeds == [2, 3, 4]


@pytest.mark.parametrize(
    ("begun", "running", "seed"),
    [
        ((), (), 1), ((1,), (), 2), ((1, 2), (), 3), ((), (1,), 2), ((), (2,), 1),
        ((1, 3), (2,), 5), ((1, 2), (5,), 4), ((2,), (1, 4), 3),
    ],
)  # fmt: skip
def test_histories_that_are_taken_at_once_are_of_both_forms(
    begun: tuple[int, ...], running: tuple[int, ...], seed: int
) -> None:
    assert campaign.next_seed(set(begun), set(running)) == seed


def test_a_broken_promise_ends_it_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    histories = [taken(GOOD["uses"]), taken(BAD["used too often"][1])]
    some = Histories(tmp_path, monkeypatch, histories)
    assert not some.reached(calls=1_000, hits=0)
    assert some.seeds == [1, 2]
    assert not some.reached(calls=1_000, hits=0), "it does not go on after that"
    assert some.seeds == [1, 2]
    assert campaign.sums(campaign.read_rows(tmp_path))["broken"]["uses"] == 2
    assert "BROKEN uses: pub: 3 uses were accepted" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "history-0002.parquet")]) == 1


def test_runs_that_stand_still_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Histories(tmp_path, monkeypatch, [Taken([], unfinished=2)])
    assert not some.reached(calls=1, hits=0)
    assert campaign.sums(campaign.read_rows(tmp_path))["unfinished"] == 2


@pytest.mark.parametrize(
    ("does", "raised"),
    [("raise SystemExit(3)", AssertionError), (ENDS_US, SystemExit)],
    ids=["one is not taken", "SIGTERM"],
)
def test_whatever_ends_it_ends_the_histories_that_are_being_taken(
    tmp_path: Path, does: str, raised: type[BaseException]
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(seed: int) -> subprocess.Popen[bytes]:
        started.append(python(does if seed == 2 else LONG))
        return started[-1]

    wanted = campaign.Campaign(folder=tmp_path, calls=1, hits=1, at_once=2, start=start)
    with pytest.raises(raised):
        wanted.run()
    assert len(started) == 2
    assert all(one.returncode is not None for one in started)
    assert campaign.read_rows(tmp_path) == []
