"""What the spans of a session are, and that an answer and what it sets off are one picture."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from helmr.wire.ids import new_id
from helmr_runtime import tracing
from helmr_runtime.ports import SessionReleased
from helmr_runtime.tracing.derived import Derived
from helmr_runtime.tracing.otel import place_of
from tests.service.stack import Stack, until
from tests.tracing import tasks
from tests.tracing.conftest import Seen, _context

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = {"traceparent": f"00-{CALLER}-00f067aa0ba902b7-01"}


async def asked(stack: Stack) -> dict[str, Any]:
    return await stack.started("publish", {"title": "News"})


async def answered(stack: Stack, started: dict[str, Any]) -> None:
    wait_id = started["session"]["wait"]["id"]
    response = await stack.http.post(
        f"/v1/waits/{wait_id}/answer", json={"data": "yes"}, headers=SENT
    )
    assert response.status_code == 200, response.text
    await stack.run_until(started["run"]["id"], "succeeded")


async def until_seen(seen: Seen, *names: str) -> None:
    await until(lambda: all(seen.named(name) for name in names))


async def parked(stack: Stack, session_id: str) -> None:
    (host,) = stack.hosts.values()

    async def is_released() -> bool:
        if session_id not in host.slots:
            return True
        return isinstance(await host.release(session_id, "evict"), SessionReleased)

    await until(is_released)


def links(span: ReadableSpan) -> dict[str, int]:
    """What it names by links: the ids of the spans."""
    return {str((link.attributes or {})["helmr.link"]): link.context.span_id for link in span.links}


@pytest.mark.parametrize("is_parked", [False, True])
async def test_an_answer_and_the_step_that_it_sets_off_are_one_picture(
    stack: Stack, seen: Seen, is_parked: bool
) -> None:
    started = await asked(stack)
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    wait_id = started["session"]["wait"]["id"]
    if is_parked:
        await parked(stack, session_id)
    await answered(stack, started)
    await until_seen(seen, "run publish", "wait approval", "step release")
    await until(lambda: len(seen.named("turn publish")) == 2)
    picture = seen.picture(int(CALLER, 16))
    assert picture == (
        "POST /v1/waits/{wait_id}/answer\n"
        "  turn publish\n"
        "    step release"
    )  # fmt: skip
    of_session = place_of(session_id, Derived("session", session_id)).trace_id
    assert seen.picture(of_session) == (
        "run publish\n"
        "  wait approval"
    )  # fmt: skip
    (run,) = seen.named("run publish")
    asking, resuming = seen.named("turn publish")
    (wait,) = seen.named("wait approval")
    place = place_of(session_id, Derived("wait", wait_id))
    assert (_context(wait).trace_id, _context(wait).span_id) == (place.trace_id, place.span_id)
    assert links(asking) == {"waits_for": _context(wait).span_id, "run": _context(run).span_id}
    of_run = place_of(session_id, Derived("run", run_id)).span_id
    assert links(resuming) == {"goes_on_from": _context(wait).span_id, "run": of_run}
    assert (wait.start_time or 0) < (resuming.start_time or 0)
    assert (run.attributes or {})["helmr.run.id"] == run_id
    (request,) = seen.named("POST /v1/sessions")
    assert seen.picture(_context(request).trace_id) == (
        "POST /v1/sessions\n"
        "  turn publish\n"
        "    step prepare"
    )  # fmt: skip
    assert links(request) == {
        "session": place_of(session_id, Derived("session", session_id)).span_id
    }


async def test_spans_of_task_code_are_below_its_step(stack: Stack, seen: Seen) -> None:
    tasks.current.clear()
    await answered(stack, await asked(stack))
    await until_seen(seen, "step prepare", "step release")
    ids = [_context(seen.named(name)[0]).span_id for name in ("step prepare", "step release")]
    assert tasks.current == ids


async def test_a_step_that_fails_and_its_run_are_errors(stack: Stack, seen: Seen) -> None:
    await stack.started("broken", 1)
    await until_seen(seen, "step fails", "turn broken", "run broken")
    described = {span.name: span.status.description for span in seen.all if not span.status.is_ok}
    assert described == {
        "step fails": "ValueError",
        "turn broken": "run.failed",
        "run broken": "run.failed",
    }


async def test_a_session_has_its_span_when_it_is_over(stack: Stack, seen: Seen) -> None:
    started = await asked(stack)
    session_id = started["session"]["id"]
    await stack.http.post(f"/v1/sessions/{session_id}/cancel", json={})
    await until_seen(seen, "session publish", "run publish", "wait approval")
    trace_id = place_of(session_id, Derived("session", session_id)).trace_id
    assert seen.picture(trace_id).startswith("session publish\n  run publish\n")
    (wait,) = seen.named("wait approval")
    assert (wait.attributes or {})["helmr.outcome"] == "cancelled"


async def test_of_a_trace_a_wait_stores_the_id_and_nothing_else_is_stored(
    stack: Stack, seen: Seen
) -> None:
    started = await asked(stack)
    await answered(stack, started)
    session_id, wait_id = started["session"]["id"], started["session"]["wait"]["id"]
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    (request,) = seen.named("POST /v1/sessions")
    assert wait["trace_id"] == f"{_context(request).trace_id:032x}", "which has the asking turn"
    text = (await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")).text
    assert "input.accepted" in text
    assert CALLER not in text
    assert text.count(wait["trace_id"]) == 1
    assert text.replace("traceback", "").count("trace") == 1


def test_a_trace_that_is_not_sampled_has_no_id_to_look_it_up_by() -> None:
    assert tracing.trace_id_of(SENT["traceparent"]) == CALLER
    assert tracing.trace_id_of(SENT["traceparent"].removesuffix("1") + "0") is None
    assert tracing.trace_id_of(None) is None


@pytest.mark.parametrize(
    "sent", ["", "00-0-0-01", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
async def test_a_header_that_is_no_context_begins_a_trace(
    stack: Stack, seen: Seen, sent: str
) -> None:
    response = await stack.http.get("/healthz", headers={"traceparent": sent})
    assert response.status_code == 200
    (span,) = seen.named("GET /healthz")
    assert span.parent is None


async def test_a_repeated_answer_under_another_trace_is_the_same_operation(stack: Stack) -> None:
    started = await asked(stack)
    wait_id = started["session"]["wait"]["id"]
    operation = new_id("op")
    receipts = [
        (
            await stack.http.post(
                f"/v1/waits/{wait_id}/answer",
                json={"data": "yes"},
                headers={"Operation-Id": operation, "traceparent": sent},
            )
        ).json()
        for sent in (SENT["traceparent"], SENT["traceparent"].replace("4bf9", "5bf9"))
    ]
    assert receipts[0] == receipts[1]


def test_ids_are_the_same_in_every_process() -> None:
    place = place_of("ses_1", Derived("wait", "wait_1"))
    assert f"{place.trace_id:032x}" == "c81aa353db5efc5f27124cadb102e634"
    assert f"{place.span_id:016x}" == "aab88119d782247b"
    assert place.is_valid
    assert tracing.spans is None
