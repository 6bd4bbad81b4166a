"""Today's runtime goes on with each release's ledger: it reads all of it, and what waited is answered (S-61, S-63)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from helmr.version import version
from tests.fixtures.released import PREFIXES, TASKS, VERSIONS, ReleaseLedger
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.timeout(240), pytest.mark.allows_blocking]


@pytest.fixture(
    scope="module",
    params=[*(pytest.param(one, marks=pytest.mark.long) for one in VERSIONS[:-1]), VERSIONS[-1]],
)
def release(request: pytest.FixtureRequest) -> ReleaseLedger:
    """What a release has left. Those before the last in the long run only."""
    return ReleaseLedger(request.param)


@pytest.fixture(scope="module")
def live(release: ReleaseLedger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    """A runtime over a copy of it."""
    folder = tmp_path_factory.mktemp("release")
    runtime = LiveRuntime(folder, tasks=TASKS, linger="300ms", in_process=True)
    release.unpack(runtime.data_dir)
    try:
        yield runtime.start()
    finally:
        runtime.stop()


def test_it_reads_what_the_release_read_and_goes_on(
    live: LiveRuntime, release: ReleaseLedger
) -> None:
    assert release.made["version"] == release.version
    for name, before in release.made["transcripts"].items():
        session = live.client.sessions.open(release.sessions[name])
        now = [one.model_dump(mode="json") for one in session.transcript()]
        assert [facts(one) for one in now[: len(before)]] == [facts(one) for one in before], name
    for prefix in PREFIXES:
        goes_on(live, {name: release.sessions[f"{prefix}-{name}"] for name in NAMES}, prefix)


NAMES = ("ask", "token", "sleep", "fail", "done")


def facts(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry has said in each release."""
    return {name: entry[name] for name in ("seq", "kind", "run_id", "op", "body", "recorded_at")}


def goes_on(live: LiveRuntime, sessions: dict[str, str], prefix: str) -> None:
    """What was acknowledged is there; what waits is answered, and its run ends as its code says."""
    client = live.client
    assert live.ended(sessions["done"]).result == f"prepared {prefix}-done True"
    wait = live.waiting(sessions["ask"])
    assert (wait.subject, wait.body) == (f"Publish {prefix}-ask?", f"prepared {prefix}-ask")
    client.waits.answer(wait.id, True)
    assert live.ended(sessions["ask"]).result == f"prepared {prefix}-ask True"
    wait = live.waiting(sessions["token"])
    assert wait.token_id is not None
    client.tokens.complete(wait.token_id, "yes")
    assert live.ended(sessions["token"]).result == f"{prefix}-token yes"
    assert client.sessions.open(sessions["sleep"]).get().activity == "waiting"
    (run,) = client.sessions.open(sessions["fail"]).runs()
    assert run.status == "failed"
    client.runs.retry(run.id)
    until(lambda: client.runs.get(run.id).attempt == 2, within_s=60, what="it is tried again")


def test_each_release_has_left_a_ledger(project_root: Path) -> None:
    """Those of 0.1.0 and 0.2.0 have folders of their own; the version at hand leaves its one at its release."""
    changelog = (project_root / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, flags=re.M)
    before = {one for one in released if Version(one) < Version(version())} - {"0.1.0", "0.2.0"}
    assert len(before) >= 6
    assert {*VERSIONS} - {version()} == before
