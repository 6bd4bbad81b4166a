"""What a wait says of itself, its own schema, and answer links (S-70…S-74)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from helmr.errors import BadRequest, ScopeDenied, Unauthenticated, WaitResolved
from helmr.wait_details import WaitDetails
from helmr.wire.roles import ScopeType
from helmr_runtime.core.checkpoint import restore, save
from helmr_runtime.core.commands import AnswerWait, CreatePublicToken, RevokePublicToken
from helmr_runtime.core.drafts import DecisionContext
from helmr_runtime.core.entries import EntryKind, Principal
from helmr_runtime.core.public_tokens import Scope, ScopedToken, scope_of_request
from helmr_runtime.core.run import mode_of
from tests.core.builder import ALICE, Story, of_kind, seconds


class Checked(Story):
    """A session whose decisions know one schema: `{"type": "integer"}`."""

    @property
    def context(self) -> DecisionContext:
        base = super().context
        return DecisionContext(
            now=base.now,
            policy=base.policy,
            is_hot=base.is_hot,
            fits=lambda schema, data: schema != {"type": "integer"} or isinstance(data, int),
        )


INTEGER = WaitDetails(schema={"type": "integer"})


def running() -> Checked:
    story = Checked()
    story.execute()
    return story


def opened(story: Story) -> Any:
    return of_kind(story, EntryKind.WAIT_OPENED)[-1].body


def test_the_opening_holds_what_the_wait_says_and_leaves_out_what_it_does_not():
    story = running()
    said = WaitDetails(
        subject="Pay?",
        initial={"n": 1},
        on_decline=None,
        priority="high",
        tags=("money",),
        assignee="ada",
        escalation=({"do": "remind", "after_s": 60.0, "from": "opened"},),
    )
    story.open_wait(1, details=said)
    body = opened(story)
    assert (body["subject"], body["initial"], body["on_decline"]) == ("Pay?", {"n": 1}, None)
    assert (body["priority"], body["tags"], body["assignee"]) == ("high", ["money"], "ada")
    assert body["session_tags"] == ["a"]
    assert body["escalation"][0]["do"] == "remind"
    story.send("x")
    story.open_wait(2)
    assert opened(story).keys() == {
        "wait_id",
        "kind",
        "stream",
        "session_tags",
        "question_hash",
    }


def test_the_question_hash_names_what_was_shown_and_nothing_else():
    def asked(
        op: int, stream: str = "approval", correlation: str | None = None, **said: Any
    ) -> str:
        story = running()
        story.open_wait(
            op, stream, correlation_id=correlation, details=WaitDetails(**said), timeout_s=5.0
        )
        return str(opened(story)["question_hash"])

    first = asked(1, subject="A", body="B", shown_digest="d")
    assert asked(7, subject="A", body="B", shown_digest="d", priority="high", assignee="x") == first
    others = [
        asked(1, subject="A2", body="B", shown_digest="d"),
        asked(1, subject="A", body="B2", shown_digest="d"),
        asked(1, subject="A", body="B", shown_digest="d2"),
        asked(1, "messages", subject="A", body="B", shown_digest="d"),
        asked(1, correlation="c", subject="A", body="B", shown_digest="d"),
    ]
    assert len({first, *others}) == 6


def test_a_timer_says_nothing_to_people():
    story = running()
    story.open_wait(1, kind="timer", timeout_s=5.0)
    assert "question_hash" not in opened(story)


def test_a_send_that_does_not_fit_the_waits_schema_is_kept_as_unmatched():
    story = running()
    story.open_wait(1, details=INTEGER)
    assert story.send("text")["outcome"] == "unmatched"
    assert story.state.wait is not None
    assert story.send(5)["outcome"] == "fulfilled"
    assert [record.data for record in story.state.unconsumed["approval"]] == ["text"]


def test_a_wait_passes_kept_records_that_do_not_fit_its_schema():
    story = running()
    for data in ("one", 2, 3):
        story.send(data)
    story.open_wait(1, details=INTEGER)
    fulfilled = of_kind(story, EntryKind.WAIT_FULFILLED)[-1]
    assert fulfilled.body["record_seq"] == 2
    story.open_wait(2)
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["record_seq"] == 1


def test_a_send_after_the_deadline_is_late_only_if_the_wait_would_have_taken_it():
    for data, outcome in ((5, "late"), ("text", "buffered")):
        story = running()
        story.open_wait(1, details=INTEGER, timeout_s=10.0)
        story.now += seconds(20)
        before = story.send(data)["outcome"]
        assert before == "late" or outcome == "buffered"


def test_the_own_schema_survives_a_checkpoint():
    story = running()
    story.open_wait(1, details=INTEGER)
    again = restore(story.state.id, save(story.state, {}), {})
    assert again.run is not None
    assert again.run.wait_schema == {"type": "integer"}


@pytest.mark.parametrize(
    ("principal", "mode"),
    [
        (Principal("api_key", "key_1", "ops"), "program"),
        (Principal("api_key", "key_1", "ops", "ada"), "person"),
        (Principal("ray_job", "j", None, "ada"), "person"),
        (Principal("link", "pat_1", None, "ada"), "link"),
        (Principal("public_token", "pat_1"), "program"),
        (Principal("callback", "tok_1"), "program"),
        (Principal("task", "run_1"), "program"),
    ],
)
def test_the_mode_of_an_answer_is_how_it_came(principal: Principal, mode: str):
    assert mode_of(principal) == mode
    assert mode_of(principal, is_page=True) == "link"


def test_the_mode_stands_with_the_answer_also_when_the_record_came_before():
    story = running()
    by = Principal("api_key", "k", None, "ada")
    story.do(replace(story.send_command("early"), principal=by))
    story.open_wait(1)
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["mode"] == "person"
    story.open_wait(2)
    story.send("x")
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["mode"] == mode_of(ALICE)


# --- answer links -------------------------------------------------------------------------------


def link(story: Story, wait_id: str, *, days: int = 1, link_id: str = "pat_1") -> None:
    token = ScopedToken(
        id=link_id,
        scope=Scope(
            type=ScopeType.WAIT_ANSWER, session_id=story.state.id, wait_id=wait_id, person="ada"
        ),
        secret_hash="h" * 64,
        created_at=story.now,
        expires_at=story.now + timedelta(days=days),
        key_id="mk_1",
    )
    story.do(CreatePublicToken(principal=ALICE, token=token.to_json()))


def answer(story: Story, wait_id: str, link_id: str | None = "pat_1") -> Any:
    by = Principal("link", link_id, None, "ada")
    return story.do(
        AnswerWait(
            principal=by, wait_id=wait_id, record_id=story.new("rec"), data="yes", link_id=link_id
        )
    )


def test_a_link_answers_its_wait_once_and_dies_with_it():
    story = running()
    story.open_wait(1)
    wait_id = story.wait.id
    link(story, wait_id)
    assert answer(story, wait_id)["outcome"] == "fulfilled"
    fulfilled = of_kind(story, EntryKind.WAIT_FULFILLED)[-1]
    assert (fulfilled.body["mode"], fulfilled.principal.on_behalf_of) == ("link", "ada")
    assert story.state.public_tokens == {}
    with pytest.raises(WaitResolved):
        answer(story, wait_id)


def test_a_link_is_for_its_own_wait_only():
    story = running()
    story.open_wait(1)
    first = story.wait.id
    link(story, first)
    story.state.public_tokens["pat_2"] = {
        **story.state.public_tokens["pat_1"],
        "public_token_id": "pat_2",
        "scope": {**story.state.public_tokens["pat_1"]["scope"], "wait_id": "wait_other"},
    }
    with pytest.raises(ScopeDenied):
        answer(story, first, "pat_2")
    with pytest.raises(Unauthenticated):
        answer(story, first, "pat_9")
    assert answer(story, first)["outcome"] == "fulfilled"


def test_a_revoked_and_an_expired_link_answer_nothing():
    story = running()
    story.open_wait(1)
    link(story, story.wait.id)
    story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1", is_link=True))
    with pytest.raises(Unauthenticated):
        answer(story, story.wait.id)
    link(story, story.wait.id, link_id="pat_2")
    story.now += timedelta(days=2)
    with pytest.raises(Unauthenticated):
        answer(story, story.wait.id, "pat_2")
    assert story.state.wait is not None


def test_a_link_is_made_for_a_pending_wait_that_people_answer():
    story = running()
    with pytest.raises(WaitResolved):
        link(story, "wait_none")
    story.open_wait(1, kind="timer", timeout_s=5.0)
    with pytest.raises(BadRequest, match="no one answers"):
        link(story, story.wait.id)


def test_revoking_a_link_that_died_with_its_wait_changes_nothing():
    story = running()
    story.open_wait(1)
    link(story, story.wait.id)
    answer(story, story.wait.id)
    before = len(story.entries)
    reply = story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1", is_link=True))
    assert (reply["status"], len(story.entries)) == ("revoked", before)


def test_a_link_is_not_made_like_another_public_token():
    with pytest.raises(BadRequest, match="unknown scope type"):
        scope_of_request({"type": "wait.answer", "session": "ses_1"})
