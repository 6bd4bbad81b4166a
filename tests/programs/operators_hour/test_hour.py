"""The hour itself: its plan, its figures, and short hours whose every answer is the one that was planned."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from helmr_runtime.catalog import Registry
from tests.console.flow.terminal import Terminal
from tests.http.browsing import CHROMIUM
from tests.programs.operators_hour import hour as hours
from tests.programs.operators_hour import hour_tasks, hurried_tasks, operators, runtime
from tests.programs.operators_hour.hour import Hour, one_hour
from tests.programs.operators_hour.operators import (
    Handled,
    Hurried,
    HurriedNarrow,
    Lines,
    Now,
    NowNarrow,
    Operator,
    Tally,
)
from tests.programs.operators_hour.page import Page
from tests.programs.operators_hour.plan import (
    HURRIED_SHARES,
    SHARES,
    Asked,
    Fate,
    by_number,
    hundred,
)
from tests.programs.operators_hour.report import Measured, broken_bounds, covered, measured, table
from tests.programs.operators_hour.runtime import Calls
from tests.programs.operators_hour.stopwatch import Stage, Stopwatch
from tests.programs.operators_hour.whole_frames import WholeFrames
from tests.service.stack import Stack

ROOT = Path(__file__).parents[3]
REGISTRY = Registry(
    [
        hour_tasks.review,
        hour_tasks.talk,
        hour_tasks.refund,
        hour_tasks.order,
        hour_tasks.sign,
        hour_tasks.contract,
        hurried_tasks.correct,
        hurried_tasks.call,
    ],
    modules=[
        "tests.programs.operators_hour.hour_tasks",
        "tests.programs.operators_hour.hurried_tasks",
    ],
    code_hash="hour-1",
)
BEGAN = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)

# --- the plan


def test_the_hundred_are_the_same_each_time_and_of_every_kind() -> None:
    asked = hundred()
    assert asked == hundred()
    assert len(asked) == len(by_number(asked)) == sum(SHARES.values()) == 100
    assert Counter(one.kind for one in asked) == SHARES
    assert Counter(one.fate for one in asked) == {
        Fate.OPERATOR: 88,
        Fate.RIVAL: 5,
        Fate.RACED: 3,
        Fate.EXPIRES: 4,
    }
    assert hundred(seed=16) != asked
    hurried = hundred(shares=HURRIED_SHARES)
    assert Counter(one.kind for one in hurried) == HURRIED_SHARES
    assert len(hurried) == 100


def test_a_short_hour_has_every_kind_and_every_fate() -> None:
    asked = hundred(12)
    assert {one.kind for one in asked} == set(SHARES)
    assert {one.fate for one in asked} == set(Fate)


# --- the figures


def test_time_that_two_waits_share_counts_once() -> None:
    assert covered([(0, 5), (3, 8), (20, 21), (4, 6)]) == 9
    assert covered([]) == 0


def ended(one: Asked, by: str | None, result: str | None, **changes: Any) -> dict[str, Any]:
    """A wait as the gateway tells of it afterwards: a hundred seconds long, answered at the tenth."""
    return {
        "number": one.number,
        "id": f"wait_{one.number}",
        "status": "fulfilled" if by else "timed_out",
        "resolved_by": {"on_behalf_of": by} if by else None,
        "opened_at": BEGAN.isoformat(),
        "resolved_at": (BEGAN + timedelta(seconds=10)).isoformat(),
        "deadline_at": (BEGAN + timedelta(seconds=100)).isoformat(),
        "result": result,
        **changes,
    }


def one_of(fate: Fate) -> Asked:
    return next(one for one in hundred() if one.fate is fate)


def test_an_answer_counts_as_right_only_if_the_run_got_it_from_whom_it_was_planned() -> None:
    mine, raced, legal = one_of(Fate.OPERATOR), one_of(Fate.RACED), one_of(Fate.EXPIRES)
    plan = by_number([mine, raced, legal])
    tally = Tally(keys=7, handled={mine.number: Handled([tried(0, 1)], keys=2)})
    right = [
        ended(mine, "ana", mine.result),
        ended(raced, "bo", raced.result),
        ended(legal, None, "nothing"),
    ]
    found = measured(plan, tally, right, {}, outage=None)
    assert (found.answered, found.by_others, found.expired) == (1, 1, 1)
    assert found.wrong == []
    assert found.keys == 7
    assert found.receipt_s == 9
    assert measured(plan, tally, [ended(mine, "ana", "other")], {}, outage=None).wrong == [
        mine.number
    ]
    assert measured(plan, tally, [ended(raced, "ana", raced.result)], {}, outage=None).wrong
    assert measured(plan, tally, [ended(legal, "ana", "yes")], {}, outage=None).wrong


def tried(begun_s: float, confirmed_s: float) -> tuple[float, float]:
    return BEGAN.timestamp() + begun_s, BEGAN.timestamp() + confirmed_s


def test_a_wait_that_is_answered_twice_counts_both_times() -> None:
    mine = one_of(Fate.OPERATOR)
    tally = Tally(handled={mine.number: Handled([tried(-100, -98), tried(7, 8)], keys=4)})
    found = measured(by_number([mine]), tally, [ended(mine, "ana", mine.result)], {}, outage=None)
    assert found.by_kind[mine.kind] == (1, 4, 3)
    assert found.receipt_s == 2


def clocked(*stages: tuple[Stage, float]) -> Stopwatch:
    """A watch that an operator had in hand, each stage so long, for one wait."""
    now_s = 0.0
    watch = Stopwatch(lambda: now_s)
    for stage, took_s in stages:
        watch.goes_on(stage)
        now_s += took_s
    watch.is_for("chat")
    watch.goes_on(None)
    return watch


def test_each_second_belongs_to_one_stage_of_one_kind() -> None:
    now_s = 0.0
    watch = Stopwatch(lambda: now_s)
    watch.goes_on(Stage.FINDS)
    now_s = 2.0
    watch.goes_on(Stage.OPENS)
    now_s = 3.0
    with watch.aside(Stage.OTHERS):
        now_s = 7.0
    now_s = 7.5
    watch.is_for("chat")
    now_s = 9.0
    watch.goes_on(None)
    now_s = 50.0
    assert watch.by_kind() == {
        "chat": {Stage.FINDS: 2.0, Stage.OPENS: 1.5, Stage.OTHERS: 4.0},
        "": {Stage.OPENS: 1.5},
    }
    assert watch.handling_s() == 5.0


def test_time_without_anything_to_answer_is_not_the_operators() -> None:
    mine = one_of(Fate.OPERATOR)
    watch = clocked((Stage.FILLS, 7), (Stage.OTHERS, 23), (Stage.SENDS, 2), (Stage.IDLE, 5))
    tally = Tally(handled={mine.number: Handled([tried(0, 1)])}, watch=watch)
    waits = [ended(mine, "ana", mine.result)]
    began_s = BEGAN.timestamp()
    outage = (began_s + 7, began_s + 30)
    found = measured(by_number([mine]), tally, waits, {}, outage=outage)
    assert found.handling_s == 9
    assert found.outage_s == 23


def test_who_is_told_in_the_last_tenth_was_told_too_late() -> None:
    legal = one_of(Fate.EXPIRES)
    plan, waits = by_number([legal]), [ended(legal, None, "nothing")]
    began_s = BEGAN.timestamp()

    def after(told_s: float | None, *, shown: bool = False) -> Measured:
        tally = Tally(shown={legal.number} if shown else set())
        told = {} if told_s is None else {f"wait_{legal.number}": began_s + told_s}
        return measured(plan, tally, waits, told, outage=None)

    assert after(89).untold == []
    assert after(91).untold == after(None).untold == [legal.number]
    assert after(None, shown=True).unseen == []


def test_the_bounds_say_what_they_are_broken_by() -> None:
    mine = one_of(Fate.OPERATOR)
    waits = [ended(mine, "ana", mine.result)]
    handled = {mine.number: Handled([tried(0, 1)], keys=4)}
    tally = Tally(keys=100, handled=handled, watch=clocked((Stage.FILLS, 10)))
    old = measured(by_number([mine]), tally, waits, {}, outage=None)
    half = Tally(keys=60, handled=handled, watch=clocked((Stage.FILLS, 4), (Stage.SENDS, 2)))
    new = measured(by_number([mine]), half, waits, {}, outage=None)
    assert list(broken_bounds({"before": old, "now": new}, "before", "now")) == []
    assert list(broken_bounds({"before": old, "now": old}, "before", "now")) == [
        "keys: 100% of before, more than 60%",
        "handling time: 100% of before, more than 60%",
    ]
    assert "| **keys that are not text** | **100** | **60** |" in table({"before": old, "now": new})


# --- what a hand does when nothing comes of its key


class Played:
    """A terminal that shows one screen after the other, the next with each key."""

    is_running = True

    def __init__(self, *screens: str) -> None:
        self._screens = screens
        self.raw = bytearray(b"\n")

    def text(self) -> str:
        """The screen."""
        return self._screens[len(self.raw) - 1]

    async def press(self, keys: str) -> None:
        """On to the next."""
        self.raw += keys.encode()


class Alone:
    """A world in which nothing else goes on."""

    async def opened(self, number: int) -> None: ...
    async def confirmed(self, number: int) -> None: ...
    async def is_finished(self) -> bool:
        """It is."""
        return True


def form(number: int, below: str = operators.FORM_READY) -> str:
    """A question and what stands below it."""
    return f"╭─ One by one ─────╮\n│ Is refund #{number:03d} right?\n{below}"


REVIEW = f"This is sent, exactly\n{operators.REVIEWED}"


@pytest.mark.parametrize(
    ("screens", "keys"),
    [
        pytest.param([form(1), form(2)], 1, id="taken for a repeat"),
        pytest.param([f"{form(1)}\n{operators.REFUSED}typed", form(2)], 1, id="refused"),
        pytest.param([form(1, REVIEW), form(2)], 1, id="reviewed"),
        pytest.param(
            [form(1, REVIEW), f"{form(1, REVIEW)}\n{operators.REFUSED}typed", form(2)],
            2,
            id="reviewed, and refused there",
        ),
        pytest.param(
            [form(1), form(1, REVIEW), form(2)], 2, id="taken for a repeat, then reviewed"
        ),
        pytest.param([form(2)], 0, id="the next is there"),
    ],
)
async def test_a_hand_presses_again_until_the_question_that_it_answered_goes(
    monkeypatch: pytest.MonkeyPatch, screens: list[str], keys: int
) -> None:
    monkeypatch.setattr(operators, "READS_S", 0.0)
    monkeypatch.setattr(operators, "RESTS_S", 0.0)
    monkeypatch.setattr(operators, "AGAIN_S", 0.05)
    monkeypatch.setattr(operators, "SEES_WITHIN_S", 5.0)
    monkeypatch.setattr(operators, "KEY_EVERY_S", (0.0, 0.0))
    mine, other = one_of(Fate.OPERATOR), one_of(Fate.RACED)
    plan = {1: replace(mine, number=1), 2: replace(other, number=2)}
    played = Played(*screens)
    hand = Hurried(cast(Terminal, played), plan, Alone())
    assert await hand.asked(after=1) == 2
    assert played.raw.decode() == "\n" + operators.CTRL_S * keys
    assert hand.tally.keys == keys


async def test_a_hand_confirms_nothing_that_another_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "READS_S", 0.0)
    monkeypatch.setattr(operators, "RESTS_S", 0.0)
    monkeypatch.setattr(operators, "AGAIN_S", 0.0)
    monkeypatch.setattr(operators, "SEES_WITHIN_S", 0.2)
    played = Played(f"{form(1)}\n{operators.REFUSED}it is over")
    plan = {1: replace(one_of(Fate.RACED), number=1)}
    with pytest.raises(AssertionError, match="no question but #1"):
        await Hurried(cast(Terminal, played), plan, Alone()).asked(after=1)
    assert played.raw == b"\n"


# --- what hangs, and what is told to end


async def test_an_hour_that_hangs_ends_and_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = []

    class Hangs:
        """A runtime whose gateway never answers."""

        python = sys.executable

        async def start(self) -> None:
            """Never ready."""
            await asyncio.Event().wait()

        async def stop(self) -> None:
            """It is ended."""
            ended.append("runtime")

    monkeypatch.setattr(hours, "Runtime", lambda *_, **__: Hangs())
    monkeypatch.setattr(hours, "HOUR_S", 0.05)
    with pytest.raises(TimeoutError):
        await one_hour(Now, ROOT, tmp_path / "hour", hundred(9), has_desk=True)
    assert ended == ["runtime"]


async def test_a_call_to_a_gateway_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CALL_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = Calls(f"http://127.0.0.1:{server.getsockname()[1]}", "key", has_claims=True)
        with pytest.raises(httpx.ReadTimeout):
            await calls.ask(hundred(9)[0])


@pytest.mark.long
async def test_sigterm_ends_what_an_hour_has_started(tmp_path: Path) -> None:
    options = ("--waits", "9", "--only", "hurried", "--keep", str(tmp_path))
    hour = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.programs.operators_hour", *options, cwd=ROOT
    )
    try:
        of_hour = psutil.Process(hour.pid)
        async with asyncio.timeout(60):
            while len(of_hour.children()) < 2:  # the runtime, then the console
                await asyncio.sleep(0.1)
        children = of_hour.children(recursive=True)
        hour.terminate()
        async with asyncio.timeout(60):
            assert await hour.wait() == 128 + signal.SIGTERM
        assert not [one for one in children if one.is_running()]
    finally:
        if hour.returncode is None:
            hour.kill()
            await hour.wait()


# --- hours


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime in this process."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=REGISTRY)
    try:
        await found.start(sessions_per_host=20)
        yield found
    finally:
        await found.stop()


@pytest.mark.long  # a program for figures; its hands and its judge are tested above
@pytest.mark.pty
@pytest.mark.allows_blocking
@pytest.mark.parametrize("way", [Now, NowNarrow])
async def test_a_short_hour_at_the_console(stack: Stack, tmp_path: Path, way: type[Now]) -> None:
    """Of every kind but the one that takes its time to run out."""
    asked = [one for one in hundred(9) if one.fate is not Fate.EXPIRES]
    terminal = WholeFrames(*way.SIZE)
    hour = Hour(Calls(stack.url, stack.key, has_claims=True), asked)
    operator = way(terminal, hour.plan, hour)
    try:
        await hour.begins()
        await operator.begins(stack.url, stack.key, tmp_path / "operator")
        await operator.works()
        waits = await hour.ended()
    finally:
        await terminal.close()
    found = measured(hour.plan, operator.tally, waits, {}, outage=None)
    assert found.wrong == []
    assert found.answered + found.by_others == len(asked)
    assert found.by_others == 2
    mine = [one for one in asked if one.fate is Fate.OPERATOR]
    assert sum(operator.tally.handled[one.number].keys for one in mine) <= 3 * len(mine) + 1


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.allows_blocking
@pytest.mark.timeout(300)
async def test_a_short_hour_by_page_with_a_restart(tmp_path: Path) -> None:
    """The restart signs everyone out: what was typed is typed once more."""
    found = await one_hour(Page, ROOT, tmp_path / "hour", hundred(12), has_desk=True)
    assert found.wrong == []
    assert found.answered + found.by_others + found.expired == 12
    assert found.unseen == []


@pytest.mark.long
@pytest.mark.pty
@pytest.mark.allows_blocking
@pytest.mark.parametrize("way", [Hurried, HurriedNarrow])
async def test_a_hurried_hand_says_nothing_that_it_did_not_mean(
    stack: Stack, tmp_path: Path, way: type[Hurried]
) -> None:
    """Each kind once: typed key by key without a look, over what is filled, the confirming key held down."""
    asked = [one for one in hundred(9, shares=HURRIED_SHARES) if one.fate is Fate.OPERATOR]
    terminal = WholeFrames(*way.SIZE)
    hour = Hour(Calls(stack.url, stack.key, has_claims=True), asked)
    operator = way(terminal, hour.plan, hour)
    try:
        await hour.begins()
        await operator.begins(stack.url, stack.key, tmp_path / "operator")
        await operator.works()
        waits = await hour.ended()
    finally:
        await terminal.close()
    found = measured(hour.plan, operator.tally, waits, {}, outage=None)
    assert found.wrong == []
    assert found.answered == len(asked)


@pytest.mark.long
@pytest.mark.pty
@pytest.mark.allows_blocking
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", [Now, Lines, Hurried])
async def test_a_hundred_with_a_restart_rivals_and_what_runs_out(
    tmp_path: Path, way: type[Operator]
) -> None:
    shares = HURRIED_SHARES if way is Hurried else SHARES
    plan = hundred(shares=shares)
    found = await one_hour(way, ROOT, tmp_path / "hour", plan, has_desk=True)
    assert found.wrong == []
    assert found.answered + found.by_others + found.expired == 100
    assert found.unseen, "nobody looked at the contracts"
    assert found.untold == []
