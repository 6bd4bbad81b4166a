"""Public tokens of a session are spent in the decision that accepts (S-44…S-46)."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from helmr.errors import (
    HelmrError,
    KeyNotFound,
    Overloaded,
    ScopeDenied,
    SessionTerminal,
    StreamNotFound,
    TokenExhausted,
    Unauthenticated,
)
from helmr.wire.roles import ScopeType
from helmr_runtime.core.commands import (
    CreatePublicToken,
    OperationKey,
    RevokePublicToken,
    receipt_of,
)
from helmr_runtime.core.decide.inputs import PUBLIC_TOKENS_MAX
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.public_tokens import Scope, ScopedToken
from tests.core.builder import ALICE, Story, of_kind, picture, seconds


def make(story: Story, token_id: str = "pat_1", **more: Any) -> None:
    scope = Scope(
        type=ScopeType.SESSION_INPUT_SEND,
        session_id=story.state.id,
        stream="approval",
        correlation_id=more.pop("correlation_id", None),
    )
    token = ScopedToken(
        id=token_id,
        scope=scope,
        secret_hash="hash",
        created_at=story.now,
        expires_at=more.pop("expires_at", story.now + timedelta(days=30)),
        **more,
    )
    story.do(CreatePublicToken(principal=ALICE, token=token.to_json()))


def story_with(**more: Any) -> Story:
    story = Story().execute()
    make(story, **more)
    return story


def uses(story: Story) -> int:
    return ScopedToken.from_json(story.state.public_tokens["pat_1"]).uses


def test_a_use_is_spent_in_the_commit_of_what_it_accepts():
    story = story_with(max_uses=3)
    story.open_wait(1)
    before = len(story.entries)
    assert story.send(public_token_id="pat_1")["outcome"] == "fulfilled"
    kinds = [e.kind for e in story.entries[before:]]
    assert kinds == [
        EntryKind.INPUT_ACCEPTED,
        EntryKind.WAIT_FULFILLED,
        EntryKind.PUBLIC_TOKEN_SPENT,
    ]
    assert uses(story) == 1


@pytest.mark.parametrize("seed", range(20))
def test_accepted_uses_never_exceed_the_maximum_also_over_crashes(seed: int):
    random = Random(seed)
    story = story_with(max_uses=3)
    accepted = 0
    for number in range(50):
        if random.random() < 0.3:
            story.state = random.choice([story.refold, story.reload])()
        try:
            story.send(number, public_token_id="pat_1")
        except TokenExhausted:
            continue
        accepted += 1
    assert accepted == 3
    assert len(of_kind(story, EntryKind.INPUT_ACCEPTED)) == 3
    assert picture(story.refold()) == picture(story.state)


def test_a_refused_send_and_an_idempotent_repeat_spend_nothing():
    story = story_with(max_uses=2)
    first = story.send(1, public_token_id="pat_1", idempotency_key="k")
    assert story.send(1, public_token_id="pat_1", idempotency_key="k") == {
        **first,
        "duplicate": True,
    }
    refused: list[tuple[dict[str, Any], type[HelmrError]]] = [
        ({"data": 2, "idempotency_key": "k"}, HelmrError),
        ({"data": "x" * 300_000}, HelmrError),
        ({"stream": "chat"}, ScopeDenied),
        ({"stream": "nowhere"}, (ScopeDenied, StreamNotFound)),  # type: ignore[list-item]
    ]
    for arguments, error in refused:
        with pytest.raises(error):
            story.send(**arguments, public_token_id="pat_1")
    assert uses(story) == 1


def test_an_idempotent_repeat_succeeds_when_all_uses_are_spent():
    story = story_with(max_uses=1)
    story.send(1, public_token_id="pat_1", idempotency_key="k")
    assert story.send(1, public_token_id="pat_1", idempotency_key="k")["duplicate"] is True
    with pytest.raises(TokenExhausted):
        story.send(2, public_token_id="pat_1")


@pytest.mark.parametrize(
    ("scoped", "asked", "accepted"),
    [
        (None, None, None),
        (None, "X", "X"),
        ("X", None, "X"),
        ("X", " X ", "X"),
        ("X", "  ", "X"),
        ("X", "x", "denied"),
        ("X", "Y", "denied"),
    ],
)
def test_a_send_takes_the_scopes_correlation_id(scoped: Any, asked: Any, accepted: Any):
    story = story_with(correlation_id=scoped)
    if accepted == "denied":
        with pytest.raises(ScopeDenied):
            story.send(correlation_id=asked, public_token_id="pat_1")
        return
    story.send(correlation_id=asked, public_token_id="pat_1")
    [record] = of_kind(story, EntryKind.INPUT_ACCEPTED)
    assert record.body.get("correlation_id") == accepted


def test_unknown_revoked_and_expired_ones_get_the_same_refusal():
    story = story_with()
    make(story, "pat_2", expires_at=story.now + seconds(60))
    story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1"))
    story.now += seconds(60)
    messages = set()
    for token_id in ("pat_1", "pat_2", "pat_unknown"):
        with pytest.raises(Unauthenticated) as caught:
            story.send(public_token_id=token_id)
        messages.add((caught.value.message, caught.value.hint))
    assert len(messages) == 1


def test_revoking_is_idempotent_and_survives_a_checkpoint():
    story = story_with()
    operation = OperationKey(id="op_1", request_hash="h")
    command = RevokePublicToken(principal=ALICE, public_token_id="pat_1", operation=operation)
    reply = story.do(command)
    assert receipt_of(story.entries[-1]) == dict(reply)
    before = story.state.seq
    story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1"))
    story.state = story.reload()
    story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1"))
    assert story.state.seq == before
    with pytest.raises(KeyNotFound):
        story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_unknown"))


def test_the_receipt_of_making_one_is_rebuilt_from_its_entry():
    story = Story().execute()
    scope = Scope(type=ScopeType.SESSION_OUTPUT_READ, session_id=story.state.id, stream="out")
    token = ScopedToken(
        id="pat_1",
        scope=scope,
        secret_hash="h",
        created_at=story.now,
        expires_at=story.now + seconds(60),
        key_id="k1",
    )
    operation = OperationKey(id="op_1", request_hash="h")
    reply = story.do(CreatePublicToken(principal=ALICE, token=token.to_json(), operation=operation))
    assert receipt_of(story.entries[-1]) == dict(reply)
    with pytest.raises(ScopeDenied):
        story.send(public_token_id="pat_1")


def test_a_cancelled_session_takes_nothing_by_public_token_either():
    story = story_with()
    story.cancel_session()
    with pytest.raises((SessionTerminal, Unauthenticated)):
        story.send(public_token_id="pat_1")


def test_live_public_tokens_of_a_session_are_bounded():
    story = Story().execute()
    for number in range(PUBLIC_TOKENS_MAX):
        make(story, f"pat_{number}", expires_at=story.now + seconds(60))
    with pytest.raises(Overloaded):
        make(story, "pat_more")
    story.now += seconds(60)
    make(story, "pat_more")


def test_a_cancelled_session_has_revoked_its_public_tokens():
    story = Story()
    make(story)
    story.cancel_session()
    with pytest.raises(Unauthenticated):
        story.send(public_token_id="pat_1")
    seq = story.state.seq
    reply = story.do(RevokePublicToken(principal=ALICE, public_token_id="pat_1"))
    assert reply == {"public_token_id": "pat_1", "status": "revoked"}
    assert story.state.seq == seq
    assert picture(story.reload()) == picture(story.refold()) == picture(story.state)
