"""Child sessions in a real runtime: many of them, killed in every order of start, end and wait (S-91)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import HelmrError
from helmr_runtime.faults import Point, arm
from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.allows_blocking

TASKS = Path(__file__).parents[1] / "children" / "tasks.py"
ASKING = 10


@pytest.fixture(
    params=["in-process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])]
)
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveRuntime]:
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=request.param == "in-process")
    yield one.start()
    one.stop()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LiveRuntime]:
    """In one process, of which each kill is one of everything."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True)
    yield one.start()
    one.stop()


def children(live: LiveRuntime, parent: str) -> list[Any]:
    """The children of a session, oldest first."""
    return list(live.client.sessions.list(parent=parent, limit=200))[::-1]


def answer(live: LiveRuntime, session_id: str, data: Any = True) -> None:
    live.client.waits.answer(live.waiting(session_id).id, data)


def died(live: LiveRuntime) -> None:
    """Return when an armed fault has killed the one process; then start it again."""
    assert live._process is not None
    live._process.wait(20)
    live._process = None
    live._forget_client()
    live.start()


@pytest.mark.long  # tests/children/test_children.py
@pytest.mark.timeout(300)
@pytest.mark.parametrize("many", [20, pytest.param(200, marks=pytest.mark.long)])
def test_many_children_are_collected_as_they_end(live: LiveRuntime, many: int) -> None:
    jobs = [{"name": f"job {n}", "asks": n < ASKING} for n in range(many)]
    parent = live.begin("fan_out", jobs)

    def collected() -> int:
        return len(list(live.client.sessions.open(parent).output("collected").read()))

    until(lambda: collected() == many - ASKING, within_s=200, what="who asks nobody has ended")
    inbox = list(live.client.waits.list())
    assert len(inbox) == ASKING
    assert {wait.kind for wait in inbox} == {"input"}
    waiting = live.waiting(parent)
    assert (waiting.kind, len(waiting.session_ids)) == ("session", ASKING)
    until(lambda: live.live_sessions() <= ASKING + 1, within_s=60, what="those that ended left")
    for wait in inbox[:5]:
        live.client.waits.answer(wait.id, True)
    until(lambda: collected() == many - ASKING + 5, within_s=30, what="five answers")
    live.client.sessions.open(parent).cancel()
    until(lambda: not list(live.client.waits.list()), within_s=30, what="no child asks any more")
    states = {one.status for one in children(live, parent)}
    assert states == {"open", "cancelled"}
    assert len([one for one in children(live, parent) if one.status == "cancelled"]) == 5


def test_a_kill_between_a_child_and_its_parents_entry_leaves_one(alone: LiveRuntime) -> None:
    arm(alone.faults, Point.SESSION_CHILD_STARTED)
    parent = alone.begin("one", {"name": "otters", "asks": True})
    died(alone)
    alone.waiting(parent)
    (child,) = children(alone, parent)
    assert child.parent.session_id == parent
    answer(alone, child.id)
    assert alone.ended(parent).result == "otters: yes"


@pytest.mark.long
def test_a_child_that_ended_before_a_kill_is_had_by_a_later_wait(alone: LiveRuntime) -> None:
    parent = alone.begin("late", {"name": "otters"})
    alone.waiting(parent)
    (child,) = children(alone, parent)
    assert alone.ended(child.id).result == "otters"
    alone.kill_all()
    alone.start()
    answer(alone, parent)
    assert alone.ended(parent).result == "otters"


def test_a_child_that_ends_after_a_kill_wakes_its_parent(alone: LiveRuntime) -> None:
    parent = alone.begin("one", {"name": "otters", "asks": True})
    assert alone.waiting(parent).kind == "session"
    (child,) = children(alone, parent)
    alone.waiting(child.id)
    alone.kill_all()
    alone.start()
    answer(alone, child.id)
    assert alone.ended(parent).result == "otters: yes"


@pytest.mark.long  # tests/children/test_children.py
def test_a_kill_between_a_childs_end_and_its_delivery_loses_nothing(alone: LiveRuntime) -> None:
    parent = alone.begin("one", {"name": "otters", "sleeps_s": 2})
    assert alone.waiting(parent).kind == "session"
    (child,) = children(alone, parent)
    alone.waiting(child.id)
    arm(alone.faults, Point.LEDGER_WRITTEN)  # the commit of the child's timer, or of its end
    died(alone)
    assert alone.ended(child.id).result == "otters"
    assert alone.ended(parent).result == "otters"


@pytest.mark.long  # tests/children/test_children.py
def test_a_kill_between_a_parents_cancel_and_its_childrens_ends_them(alone: LiveRuntime) -> None:
    parent = alone.begin("grandparent", {"name": "otters", "asks": True})
    alone.waiting(parent)
    (child,) = children(alone, parent)
    alone.waiting(child.id)
    (grandchild,) = children(alone, child.id)
    alone.waiting(grandchild.id)
    arm(alone.faults, Point.LEDGER_WRITTEN)
    with suppress(HelmrError):  # whoever cancels is not told: it died behind the commit
        alone.client.sessions.open(parent).cancel()
    died(alone)
    for one in (child.id, grandchild.id):
        until(
            partial(_is_cancelled, alone, one),
            within_s=30,
            what=f"{one} is cancelled",
        )


def _is_cancelled(live: LiveRuntime, session_id: str) -> bool:
    return live.client.sessions.open(session_id).get().status == "cancelled"
