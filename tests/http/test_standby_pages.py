"""Pages and callbacks are at the other runtime of a pair while this one stands by, if its address is known (S-99)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr.cli.config import log_peer_of, log_url_of
from helmr.errors import Standby, UsageError
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ports.ledger import ReadFreshness
from helmr_runtime.process.gateway import GatewayActor
from tests.service.stack import Stack

PEER = "https://two.example.com"
CALLBACK = "/v1/callbacks/hlmr_link_" + "0" * 49 + "?raw=1"
THERE = (CALLBACK, "/inbox?tag=a%2Fb", "/sign-in", "/inbox/wait_01m8bc7wc1ejdte581nx7revtq")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    made = Stack(tmp_path)
    made.gateway = GatewayActor(made.service, made.settings(peer=PEER))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def standing_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `LedgerActor` refuses every call then."""

    async def refused(self: LedgerActor) -> None:
        raise Standby("another runtime is at work")

    monkeypatch.setattr(LedgerActor, "_open", refused)


async def test_one_at_work_serves_its_pages(stack: Stack) -> None:
    for path in THERE:
        assert (await stack.http.get(path)).status_code != 307


async def test_a_standby_sends_pages_and_callbacks_to_its_peer(
    stack: Stack, standing_by: None
) -> None:
    answers = [await stack.http.get(path) for path in THERE]
    answers.append(await stack.http.post(CALLBACK, json={"ok": True}))
    for path, answer in zip((*THERE, CALLBACK), answers, strict=True):
        assert (answer.status_code, answer.headers["location"]) == (307, PEER + path)


async def test_no_key_is_sent_there(stack: Stack, standing_by: None) -> None:
    answer = await stack.http.get("/v1/sessions")
    assert (answer.status_code, "location" in answer.headers) == (503, False)
    assert answer.json()["code"] == "standby"


async def test_the_ledger_hears_of_a_client_that_comes_to_a_standby_and_of_no_monitor(
    stack: Stack, standing_by: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks more often whether the other runtime is gone."""
    asked: list[str] = []

    async def freshness(self: LedgerActor) -> ReadFreshness:
        asked.append("freshness")
        raise Standby("another runtime is at work")

    monkeypatch.setattr(LedgerActor, "freshness", freshness)
    for probe in ("/healthz", "/readyz"):
        await stack.http.get(probe)
    assert not asked
    assert (await stack.http.get("/v1/sessions")).status_code == 503
    assert asked


def test_a_peer_is_an_address_without_a_path(tmp_path: Path) -> None:
    config = tmp_path / "helmr.toml"
    config.write_text(f'[log]\nurl = "s3://b/p"\npeer = "{PEER}"\n')
    assert log_url_of(config, tmp_path) == "s3://b/p"
    assert log_peer_of(config, tmp_path) == PEER
    for wrong in (f'"{PEER}/a"', '"two.example.com"', '"javascript:x"', "7"):
        config.write_text(f"[log]\npeer = {wrong}\n")
        with pytest.raises(UsageError):
            log_peer_of(config, tmp_path)
    config.write_text("[log]\nurls = 1\n")
    with pytest.raises(UsageError, match="takes `url` and `peer`"):
        log_peer_of(config, tmp_path)
