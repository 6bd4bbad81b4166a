"""Steps that await Ray object refs, on a real Ray: what they hand over, what fails there, what happens twice."""

from __future__ import annotations

import pytest

from tests.stack.live import LiveRuntime, kill, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.allows_blocking]


def _only_lingers(live: LiveRuntime) -> bool:
    """No code of any session executes."""
    sessions = live.client.health().pool["sessions"]
    return bool(sessions["live"] == sessions["lingering"])


def test_a_step_awaits_functions_and_actors_of_its_own_modules(shared: LiveRuntime) -> None:
    run = shared.ended(shared.begin("ray-work"))
    assert run.error is None
    assert run.result == {
        "trained": {"config": {"rate": 0.5, "rounds": 4}, "score": 8},
        "in_a_thread": 8,
        "tripled": [0, 3, 6, 9],
        "added": 112,
        "caught": "caught 5",
    }


def test_the_task_of_the_page_trains_and_asks(shared: LiveRuntime) -> None:
    session_id = shared.begin("train-and-ask", {"rate": 0.5, "rounds": 4})
    wait = shared.waiting(session_id)
    assert wait.subject == "Publish a model with loss 0.50?"
    shared.client.waits.answer(wait.id, True)
    assert shared.ended(session_id).result.startswith("models/")


def test_a_program_finds_the_ray_actor_that_has_a_session(shared: LiveRuntime) -> None:
    """With what the page has for it."""
    session_id = shared.begin("where-am-i")
    name = shared.ended(session_id).result
    assert name.startswith("helmr-host-")


@pytest.mark.long  # test_environment.py
def test_a_remote_function_may_want_an_environment(shared: LiveRuntime) -> None:
    run = shared.ended(shared.begin("ray-step", {"step": "environed"}))
    assert (run.error, run.result) == (None, "green")
    assert shared.ended(shared.begin("ray-step", {"step": "environed"})).result == "green"


def test_what_a_remote_function_raises_is_the_steps_failure(shared: LiveRuntime) -> None:
    session_id = shared.begin("ray-step", {"step": "raises"})
    run = shared.ended(session_id)
    assert run.status == "failed"
    [failed] = [one for one in shared.transcript(session_id) if one.kind == "step.failed"]
    error = failed.body["error"]
    assert (error["type"], error["message"]) == ("TwoParts", "left 3")
    assert "in raised" in error["traceback"]  # where it was awaited
    assert "in raises" in error["traceback"]  # where it was raised


def test_a_steps_retries_look_at_what_was_raised_remotely(shared: LiveRuntime) -> None:
    run = shared.ended(shared.begin("ray-step", {"step": "raises-again", "name": "again"}))
    assert run.status == "failed"
    assert shared.marked("again") == 3


def test_a_killed_worker_fails_the_step_which_may_try_again(shared: LiveRuntime) -> None:
    session_id = shared.begin("ray-step", {"step": "dies", "name": "died"})
    assert shared.ended(session_id).status == "failed"
    [failed] = [one for one in shared.transcript(session_id) if one.kind == "step.failed"]
    assert failed.body["error"]["type"] == "WorkerCrashedError"
    run = shared.ended(
        shared.begin("ray-step", {"step": "dies-then-runs", "name": "died-then-ran"})
    )
    assert (run.status, run.result) == ("succeeded", 7)
    assert shared.marked("died-then-ran") == 2


def test_a_recorded_outcome_is_not_asked_of_ray_again(shared: LiveRuntime) -> None:
    session_id = shared.begin("ray-then-wait", "recorded")
    shared.allow("recorded")
    shared.waiting(session_id)
    holder = shared.holder(session_id)
    assert holder is not None
    kill(holder["pid"])
    shared.client.sessions.open(session_id).input("go-on").send("on")
    run = shared.ended(session_id)
    assert run.status == "succeeded"
    assert shared.marked("recorded-ended") == 1


def test_a_lost_step_asks_ray_again_with_the_same_key(shared: LiveRuntime) -> None:
    session_id = shared.begin("ray-step", {"step": "long", "name": "lost"})
    until(lambda: shared.lines("lost-began"), within_s=30, what="it runs")
    holder = shared.holder(session_id)
    assert holder is not None
    kill(holder["pid"])
    until(lambda: len(shared.lines("lost-began")) == 2, within_s=60, what="it runs again")
    shared.allow("lost")
    run = shared.ended(session_id)
    assert run.status == "succeeded"
    assert shared.lines("lost-began") == [run.result, run.result]


@pytest.mark.parametrize(("step", "is_interrupted"), [("long", 0), ("long-cleans-up", 1)])
def test_cancelling_a_run_gives_up_the_ref_and_frees_its_room(
    shared: LiveRuntime, step: str, is_interrupted: int
) -> None:
    name = f"cancelled-{step}"
    session_id = shared.begin("ray-step", {"step": step, "name": name})
    until(lambda: shared.lines(f"{name}-began"), within_s=30, what="it runs")
    run = shared.newest_run(session_id)
    assert shared.client.runs.cancel(run.id).status == "cancelled"
    until(lambda: _only_lingers(shared), within_s=30, what="its room is free")
    if is_interrupted:
        until(lambda: shared.marked(f"{name}-interrupted"), within_s=30, what="interrupted")
    shared.allow(name)
    if not is_interrupted:  # Ray goes on with what nobody told it to end
        until(lambda: shared.marked(f"{name}-ended"), within_s=30, what="the remote end")
    assert shared.marked(f"{name}-interrupted") == is_interrupted
    kinds = [entry.kind for entry in shared.transcript(session_id)]
    assert kinds.count("run.cancelled") == 1
    assert "step.succeeded" not in kinds


@pytest.mark.long  # what a step asks of Ray: tests/replay
def test_nothing_waits_idle_for_remote_functions(shared: LiveRuntime) -> None:
    """The node has the machine's processors; no worker is started for them before one is asked for."""
    assert shared.idle_at_start == []
