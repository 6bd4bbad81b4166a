"""Today's runtime goes on with the ledger of 0.1.0: what waited is answered, what was stored is read (S-61, S-63)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from helmr.client import Client
from helmr.errors import (
    ExternalIdConflict,
    IdempotencyConflict,
    TokenCompleted,
    TokenExhausted,
    Unauthenticated,
)
from tests.fixtures.earlier import Earlier
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.timeout(240), pytest.mark.allows_blocking]

YES = {"decision": "approve"}


class Old:
    """What is stored under one prefix, in a runtime of today."""

    def __init__(self, live: LiveRuntime, earlier: Earlier, prefix: str) -> None:
        self.live, self.earlier, self.prefix = live, earlier, prefix
        made = earlier.made[prefix]
        self.sessions: dict[str, str] = made["sessions"]
        self.waits: dict[str, str] = made["waits"]
        self.tokens: dict[str, str] = made["tokens"]

    @property
    def client(self) -> Client:
        return self.live.client

    def secret(self, name: str) -> str:
        return self.earlier.secret(self.prefix, name)

    def handle(self, name: str) -> Any:
        return self.client.sessions.open(self.sessions[name])

    def ended(self, name: str) -> Any:
        run = self.live.ended(self.sessions[name])
        assert run.status == "succeeded", (name, run)
        return run.result

    def marked(self, step: str, name: str) -> int:
        return self.live.marked(f"{step}-{self.prefix}-{name}")


@pytest.fixture(scope="module")
def earlier() -> Earlier:
    """What 0.1.0 has left."""
    return Earlier("ledger_0_1_0")


@pytest.fixture(
    scope="module",
    params=["in-process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])],
)
def live(
    request: pytest.FixtureRequest, earlier: Earlier, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveRuntime]:
    """A runtime over a copy of it, started once."""
    runtime = LiveRuntime(
        tmp_path_factory.mktemp("earlier"),
        tasks=earlier.tasks,
        sessions_per_host=3,
        linger="300ms",
        in_process=request.param == "in-process",
    )
    earlier.unpack(runtime.data_dir)
    try:
        yield runtime.start()
    finally:
        runtime.stop()


@pytest.fixture(params=["plain", "sealed"])
def old(request: pytest.FixtureRequest, live: LiveRuntime, earlier: Earlier) -> Old:
    """What was stored before and after payloads were encrypted."""
    return Old(live, earlier, request.param)


def test_every_transcript_begins_with_what_0_1_0_read(old: Old) -> None:
    transcripts = old.earlier.transcripts()
    for name, session_id in old.sessions.items():
        was = transcripts[session_id]
        now = [entry.model_dump(mode="json") for entry in old.handle(name).transcript()]
        assert len(now) >= len(was)
        for before, after in zip(was, now, strict=False):
            assert _as_then(after, before) == before


def _as_then(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """An entry with the fields that it had, and its principal with those; what principals have since is null."""
    principal = after["principal"]
    since = principal.keys() - before["principal"].keys()
    assert {principal[key] for key in since} <= {None}
    return {key: after[key] for key in before} | {
        "principal": {key: value for key, value in principal.items() if key not in since}
    }


def test_a_run_goes_on_behind_its_steps(old: Old) -> None:
    (wait,) = [w for w in old.client.waits.list(task="old-review") if w.id == old.waits["review"]]
    assert wait.subject == f"Publish {old.prefix}-review?"
    assert wait.deadline_at is None
    assert old.client.waits.get(wait.id).body == f"# {old.prefix}-review"
    assert old.client.waits.answer(wait.id, YES).outcome == "fulfilled"
    result = old.ended("review")
    assert result["decision"] == "approve"
    assert result["parts"] == [
        f"prepared {old.prefix}-review",
        {"outline": f"{old.prefix}-review"},
    ]
    assert result["published"] == f"published {old.prefix}-review"
    assert [old.marked(step, "review") for step in ("prepare", "outline", "publish")] == [0, 0, 1]


def test_a_wait_of_ten_years_is_answered_and_a_short_one_has_timed_out(old: Old) -> None:
    assert old.client.waits.answer(old.waits["dated"], YES).outcome == "fulfilled"
    assert old.ended("dated") == "approve"
    assert old.ended("brief") == "timed out"
    assert old.client.waits.get(old.waits["brief"]).status == "timed_out"


def test_a_sleeper_wakes(old: Old) -> None:
    assert old.ended("sleeper") == f"published {old.prefix}-sleeper"
    assert (old.marked("prepare", "sleeper"), old.marked("publish", "sleeper")) == (0, 1)


def test_a_blocked_run_is_retried_and_goes_on(old: Old) -> None:
    handle = old.handle("steady")
    assert handle.get().activity == "blocked"
    (run,) = handle.runs()
    assert run.status == "blocked"
    old.client.runs.retry(run.id)
    until(lambda: handle.get().activity != "blocked", within_s=20, what="it goes on")
    assert old.ended("steady") == f"approve, published {old.prefix}-steady"
    assert [old.marked(step, "steady") for step in ("prepare", "outline", "publish")] == [0, 0, 1]


def test_a_failed_run_is_retried_from_its_failed_step(old: Old) -> None:
    (old.live.marks / "line-is-up").touch()
    (run,) = old.handle("failing").runs()
    assert (run.status, run.error.type) == ("failed", "StepFailed")
    old.client.runs.retry(run.id)
    until(lambda: next(iter(old.handle("failing").runs())).attempt == 2, within_s=20, what="again")
    name = f"{old.prefix}-failing"
    assert old.ended("failing") == f"prepared {name}, called {name}"
    assert (old.marked("prepare", "failing"), old.marked("call_out", "failing")) == (0, 1)


def test_buffered_records_are_taken_in_order_and_a_repeated_key_is_a_duplicate(old: Old) -> None:
    notes = old.handle("collector").input("notes")
    again = notes.send("first", idempotency_key=f"{old.prefix}-note")
    assert (again.duplicate, again.seq, again.outcome) == (True, 1, "buffered")
    with pytest.raises(IdempotencyConflict):
        notes.send("else", idempotency_key=f"{old.prefix}-note")
    old.client.waits.answer(old.waits["collector"], YES)
    assert old.ended("collector") == ["first", "second", "third"]


def test_an_external_id_and_a_start_key_find_their_session(old: Old) -> None:
    session_id = old.sessions["review"]
    order = f"{old.prefix}-order"
    assert old.client.sessions.find(order).id == session_id
    payload = f"{old.prefix}-review"
    start = old.client.sessions.start
    for again in (
        start("old-review", payload, external_id=order),
        start("old-review", payload, idempotency_key=f"{old.prefix}-start"),
    ):
        assert (again.id, again.created) == (session_id, False)
    with pytest.raises(ExternalIdConflict):
        old.client.sessions.start("old-review", "other", external_id=order)


def test_the_last_run_of_a_chain_goes_on(old: Old) -> None:
    runs = list(old.handle("countdown").runs())
    assert [run.status for run in runs] == ["waiting", "succeeded", "succeeded", "succeeded"]
    old.client.waits.answer(old.waits["countdown"], YES)
    assert old.ended("countdown") == "approve"


def test_a_pending_token_is_completed_by_its_secrets_and_all_that_wait_on_it_go_on(
    old: Old,
) -> None:
    complete = old.client.tokens.complete
    link = f"{old.live.credentials.url}/v1/callbacks/{old.secret('callback-pending')}"
    assert httpx.post(link, json={"data": {"by": "link"}}, timeout=20).status_code == 200
    assert old.ended("by-pending") == {"by": "link"}
    shared = old.tokens["shared"]
    receipt = complete(shared, 1, public_access_token=old.secret("token-shared"))
    assert receipt.outcome == "completed"
    assert (old.ended("shared-1"), old.ended("shared-2")) == (1, 1)


def test_tokens_that_had_ended_say_so(old: Old) -> None:
    complete = old.client.tokens.complete
    assert complete(old.tokens["completed"], {"by": old.prefix}).outcome == "already_completed"
    with pytest.raises(TokenCompleted):
        complete(old.tokens["completed"], {"by": "another"})
    assert old.client.tokens.get(old.tokens["cancelled"]).status == "cancelled"


def test_an_expired_token_times_its_wait_out(old: Old) -> None:
    assert old.ended("by-expiring") == "WaitTimeout"
    assert old.client.tokens.get(old.tokens["expiring"]).status == "expired"


def test_a_tasks_own_token_has_the_link_that_it_had(old: Old) -> None:
    """The replay derives the link from the master key; the ledger knows the hash of the one of then."""
    (token,) = old.client.tokens.list(tag=f"{old.prefix}-own-token")
    assert token.status == "pending"
    old.client.tokens.complete(token.id, YES)
    assert old.ended("own-token") == "approve"
    (link,) = old.live.lines(f"mail-{old.prefix}-own-token")
    again = httpx.post(link, json={"data": YES}, timeout=20)
    assert (again.status_code, again.json()["outcome"]) == (200, "already_completed")


def test_a_public_token_has_the_uses_that_were_left(old: Old) -> None:
    notes = old.handle("listener").input("notes")
    assert notes.send("two", public_access_token=old.secret("one-left")).outcome == "fulfilled"
    for name in ("one-left", "used-up"):
        with pytest.raises(TokenExhausted):
            notes.send("three", public_access_token=old.secret(name))
    with pytest.raises(Unauthenticated):
        notes.send("three", public_access_token=old.secret("revoked"))
    reader = old.secret("reader")
    read = old.handle("review").output("progress").read(public_access_token=reader)
    assert [record.data for record in read] == [f"{old.prefix}-review is prepared"]
    until(lambda: old.handle("listener").get().wait, within_s=20, what="it waits again")
    old.handle("listener").close(end_input=True)
    assert old.ended("listener") == ["by one-left", "by used-up", "two"]


def test_what_had_ended_is_as_it_was(old: Old) -> None:
    states = {name: old.handle(name).get() for name in ("finished", "cancelled", "answered")}
    assert [states[name].status for name in states] == ["closed", "cancelled", "open"]
    assert old.ended("finished") == f"published {old.prefix}-finished"
    assert old.marked("publish", "finished") == 0
    assert old.ended("by-completed") == {"by": old.prefix}
    assert old.ended("by-cancelled") == "WaitCancelled"


def test_keys_of_then_open_what_they_opened(live: LiveRuntime, earlier: Earlier) -> None:
    url = live.credentials.url
    assert live.credentials.key == earlier.admin_key
    with Client(url=url, key=earlier.secret("keys", "key-sender")) as sender:
        handle = sender.sessions.open(earlier.made["plain"]["sessions"]["answered"])
        assert handle.input("notes").send("kept").outcome == "buffered"
    with (
        Client(url=url, key=earlier.secret("keys", "key-viewer")) as viewer,
        pytest.raises(Unauthenticated),
    ):
        next(iter(viewer.sessions.list()))


def test_new_sessions_begin_beside_the_old_ones(live: LiveRuntime) -> None:
    session_id = live.begin("old-finished", "today")
    assert live.ended(session_id).result == "published today"
