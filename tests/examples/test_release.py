"""The release: every way it can end, interrupted at each wait and at the timer."""

from __future__ import annotations

import pytest

from helmr.testing import RunFailed

RELEASE = {"service": "web", "version": "1.4.0"}
CANARY, EVERYONE = "release:web:1.4.0:canary", "release:web:1.4.0:everyone"


async def test_signed_twice_it_reaches_everyone(harness, interrupt):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")  # the store's backoff
    await interrupt(session)
    await session.send("signoff", {"approve": True}, correlation_id=CANARY)
    await interrupt(session)
    await harness.advance("10m")
    await interrupt(session)
    await session.send("signoff", {"approve": True, "comment": "go"}, correlation_id=EVERYONE)
    assert await session.result() == {
        "status": "released",
        "stage": "everyone",
        "comment": "go",
    }
    assert (await session.outputs("stages"))[2].startswith("The canary is healthy 10 minutes")


async def test_the_busy_store_is_asked_again_and_no_step_is_done_twice(harness, interrupt):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")
    await interrupt(session)
    await session.send("signoff", {"approve": False}, correlation_id=CANARY)
    await session.result()
    entries = await session.transcript()
    assert [e.body["try"] for e in entries if e.kind == "step.try_failed"] == [1]
    assert [e.body["name"] for e in entries if e.kind == "step.started"] == [
        "run_check",
        "run_check",
        "run_check",
        "upload",
    ]


async def test_declined_before_the_canary(harness, interrupt):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")
    await interrupt(session)
    await session.send("signoff", {"approve": False, "comment": "freeze"}, correlation_id=CANARY)
    assert await session.result() == {"status": "declined", "stage": "checks", "comment": "freeze"}


async def test_an_early_second_signoff_waits_for_its_turn(harness, interrupt):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")
    early = await session.send("signoff", {"approve": True}, correlation_id=EVERYONE)
    assert early["outcome"] == "unmatched"
    await interrupt(session)
    await session.send("signoff", {"approve": True}, correlation_id=CANARY)
    assert (await session.result())["status"] == "released"


@pytest.mark.parametrize("answered", [True, False])
async def test_without_the_second_signoff_the_canary_is_taken_back(harness, interrupt, answered):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")
    await session.send("signoff", {"approve": True}, correlation_id=CANARY)
    await harness.advance("10m")
    await interrupt(session)
    if answered:
        await session.send(
            "signoff", {"approve": False, "comment": "slow"}, correlation_id=EVERYONE
        )
    else:
        await harness.advance("1d")
    result = await session.result()
    assert result["status"] == "rolled_back"
    assert result["comment"] == ("slow" if answered else "no one signed in time")


async def test_nobody_signs(harness, interrupt):
    session = await harness.start("release", RELEASE)
    await harness.advance("1s")
    await interrupt(session)
    await harness.advance("1d")
    assert (await session.result())["status"] == "not_signed"


async def test_failed_checks_ask_nobody(harness):
    session = await harness.start("release", {"service": "web", "version": "1.4.0-broken"})
    assert await session.result() == {
        "status": "checks_failed",
        "stage": "checks",
        "comment": "unit",
    }


async def test_a_bad_artifact_fails_the_run_at_its_step(harness):
    session = await harness.start("release", {**RELEASE, "artifact": "web.zip"})
    with pytest.raises(RunFailed, match=r"web\.zip is no \.tar\.gz"):
        await session.result()


async def test_the_second_signoff_comes_by_an_emailed_link(harness, interrupt, tmp_path):
    session = await harness.start("release", {**RELEASE, "mail_dir": str(tmp_path / "mail")})
    await harness.advance("1s")
    await session.send("signoff", {"approve": True}, correlation_id=CANARY)
    await harness.advance("10m")
    await interrupt(session)
    (mail,) = (tmp_path / "mail").iterdir()
    link = mail.read_text().split()[-1]
    await harness.complete_token(link, {"approve": True, "comment": "go"})
    assert (await session.result())["status"] == "released"
    await_by = [e.principal.type for e in await session.transcript() if e.kind == "wait.fulfilled"]
    assert await_by[-1] == "callback"
