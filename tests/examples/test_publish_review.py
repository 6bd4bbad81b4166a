"""The review: approved, rejected, sent back, not answered; on real payloads, interrupted at each wait."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from pydantic import TypeAdapter

from helmr.errors import SchemaMismatch
from helmr.examples.publish_review import PullRequest

KEY = "github:Codertocat/Hello-World#2"


@pytest.mark.parametrize("action", ["opened", "ready_for_review", "synchronize"])
def test_a_real_payload_reads_and_survives_being_written_again(action):
    path = files("helmr") / "examples" / "data" / f"pull_request.{action}.json"
    event = PullRequest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert (event.owner, event.repo, event.number) == ("Codertocat", "Hello-World", 2)
    written = TypeAdapter(PullRequest).dump_json(event)
    assert PullRequest.model_validate_json(written) == event


async def test_approved_review_is_posted(harness, interrupt, payload):
    session = await harness.start("publish-review", payload)
    await interrupt(session)
    receipt = await session.send("approval", {"decision": "approve"}, correlation_id=KEY)
    assert receipt["outcome"] == "fulfilled"
    result = await session.result()
    assert result["status"] == "posted"
    assert result["url"].startswith("https://github.com/Codertocat/Hello-World/pull/2#")
    entries = await session.transcript()
    done = [e.body["name"] for e in entries if e.kind == "step.started"]
    assert done == ["draft_review", "send_slack_approval", "post_review"]


async def test_the_wait_says_what_is_asked(harness, payload):
    session = await harness.start("publish-review", payload)
    opened = [e for e in await session.transcript() if e.kind == "wait.opened"]
    assert opened[0].body["subject"] == f"Publish the review of {KEY}?"
    assert "Update the README" in opened[0].body["body"]


async def test_rejected_review_is_not_posted(harness, interrupt, payload):
    session = await harness.start("publish-review", payload)
    await interrupt(session)
    await session.send("approval", {"decision": "reject", "note": "Not now"}, correlation_id=KEY)
    assert await session.result() == {"status": "skipped"}
    assert (await session.outputs("progress"))[-1] == "Rejected: Not now"


async def test_a_draft_sent_back_is_written_anew_and_asked_again(harness, interrupt, payload):
    session = await harness.start("publish-review", payload)
    for note in ("Shorter", "Friendlier"):
        await interrupt(session)
        await session.send("approval", {"decision": "edit", "note": note}, correlation_id=KEY)
    await interrupt(session)
    await session.send("approval", {"decision": "approve"}, correlation_id=KEY)
    assert (await session.result())["status"] == "posted"
    bodies = [e.body["body"] for e in await session.transcript() if e.kind == "wait.opened"]
    assert ["- Shorter" in body for body in bodies] == [False, True, True]
    assert ["- Friendlier" in body for body in bodies] == [False, False, True]


async def test_nobody_answers(harness, interrupt, payload):
    session = await harness.start("publish-review", payload)
    await interrupt(session)
    await harness.advance("31m")
    assert await session.result() == {"status": "skipped"}


async def test_an_answer_for_another_pull_request_does_not_count(harness, payload):
    session = await harness.start("publish-review", payload)
    receipt = await session.send(
        "approval", {"decision": "approve"}, correlation_id="github:Codertocat/Hello-World#3"
    )
    assert receipt["outcome"] == "unmatched"
    assert (await session.state()).wait is not None


async def test_a_payload_that_is_no_pull_request_is_refused(harness):
    with pytest.raises(SchemaMismatch, match="action"):
        await harness.start("publish-review", {"number": 2})


async def test_a_page_is_handed_a_public_token_for_this_question_only(
    harness, interrupt, payload, tmp_path
):
    page_dir = tmp_path / "pages"
    metadata = {"page_origin": "https://reviews.example.com", "page_dir": str(page_dir)}
    session = await harness.start("publish-review", payload, metadata=metadata)
    await interrupt(session)
    (path,) = page_dir.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    handed = json.loads(path.read_text())
    secret = handed.pop("public_access_token")
    assert secret.startswith("hlmr_pat_")
    assert handed == {"session": session.id, "stream": "approval", "correlation_id": KEY}
    entries = await session.transcript()
    (made,) = [e.body for e in entries if e.kind == "public_token.created"]
    assert made["scope"]["correlation_id"] == KEY
    assert made["allowed_origins"] == ["https://reviews.example.com"]
    assert all(secret not in e.body_json for e in entries)
    await session.send("approval", {"decision": "approve"}, correlation_id=KEY)
    assert (await session.result())["status"] == "posted"
    assert json.loads(path.read_text())["public_access_token"] == secret  # the same after a replay


async def test_without_a_page_no_public_token_is_made(harness, payload):
    session = await harness.start("publish-review", payload)
    kinds = [e.kind for e in await session.transcript()]
    assert "public_token.created" not in kinds
