"""A release in stages: checks side by side, a sign-off, a canary that soaks, a second sign-off, everyone.

Shows concurrent steps, a step that fails and is tried again, a timer, and two approvals that share one stream and
differ by correlation id. With `mail_dir` the second is asked for by an emailed link.

```
helmr session start release --payload '{"service": "web", "version": "1.4.0"}'
```
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from helmr import TaskContext, WaitResult, step, step_key, streams, task, timers, tokens

CHECKS = ("unit", "integration", "security")


class Release(BaseModel):
    """What to release. `soak` is how long the canary is watched: a duration text."""

    service: str
    version: str
    artifact: str | None = None
    soak: str = "10m"
    signoff_timeout: str = "1d"
    mail_dir: str | None = None
    """Where e-mails go, as files. With it the second sign-off is asked for by a link."""


class Signoff(BaseModel):
    """A person's word on one stage."""

    approve: bool
    comment: str | None = None


class Check(BaseModel):
    """The outcome of one check."""

    name: str
    passed: bool


class Released(BaseModel):
    """How the release ended, and the last stage it reached."""

    status: Literal["released", "checks_failed", "declined", "not_signed", "rolled_back"]
    stage: Literal["checks", "canary", "everyone"]
    comment: str | None = None


class StoreBusy(Exception):
    """The artifact store asks to come again."""


signoff = streams.input("signoff", schema=Signoff)
stages = streams.output("stages", schema=str)

# The pretended artifact store turns the first upload of each key away. It lives in this process: such globals are
# shared by the sessions that pass through an actor and may vanish at any time, so no task may rely on them.
_asked_before: deque[str] = deque(maxlen=1000)


@step(timeout="10m")
async def run_check(release: Release, name: str) -> Check:
    """Run one check. A version that says it is broken fails its unit tests."""
    return Check(name=name, passed=not (name == "unit" and "broken" in release.version))


@step(retries=3, backoff="1s", retry_on=StoreBusy)
async def upload(release: Release) -> str:
    """Upload the artifact and return its digest; a busy store is asked again, anything else fails the run."""
    artifact = release.artifact or f"{release.service}-{release.version}.tar.gz"
    if not artifact.endswith(".tar.gz"):
        raise ValueError(f"{artifact} is no .tar.gz")
    if step_key() not in _asked_before:
        _asked_before.append(step_key())
        raise StoreBusy("come again in a second")
    return f"sha256:{artifact.encode().hex()[:16]}"


@step
def deploy(release: Release, *, digest: str, to: str) -> str:
    """Deploy to the canary or to everyone. A sync step runs in a thread, so it may block."""
    return f"{release.service} {release.version} ({digest}) on {to}"


@step(retries=5)
async def roll_back(release: Release, *, reason: str) -> str:
    """Take the canary out again."""
    return f"{release.service} {release.version} taken back: {reason}"


async def ask(release: Release, stage: str, body: str) -> WaitResult[Signoff]:
    """Wait for the sign-off of one stage. Plain helpers are fine: only what touches the world is a step."""
    return await signoff.wait(
        timeout=release.signoff_timeout,
        correlation_id=f"release:{release.service}:{release.version}:{stage}",
        subject=f"Release {release.service} {release.version} to {stage}?",
        body=body,
    )


@step(retries=3)
def send_mail(release: Release, link: str) -> None:
    """Mail the link. In this example the e-mail is a file; the link in it is a secret, so it is not returned."""
    folder = Path(release.mail_dir or ".")
    folder.mkdir(parents=True, exist_ok=True)
    text = f"Release {release.service} {release.version} to everyone?\n\n{link}\n"
    (folder / f"{release.service}-{release.version}.txt").write_text(text, encoding="utf-8")


async def ask_by_link(release: Release, body: str) -> WaitResult[Signoff]:
    """Wait for who opens the link and sends the form. A replay makes the same link, so parking changes nothing."""
    token = await tokens.create(timeout=release.signoff_timeout, tags=["release", release.service])
    await send_mail(release, token.callback_url)
    return await token.wait(
        schema=Signoff,
        subject=f"Release {release.service} {release.version} to everyone?",
        body=body,
    )


@task(id="release")
async def release_service(release: Release, ctx: TaskContext) -> Released:
    """Check, ask, deploy to the canary, watch it, ask again, deploy to everyone."""
    started_at = ctx.now()
    checks = await asyncio.gather(*(run_check(release, name) for name in CHECKS))
    failed = [check.name for check in checks if not check.passed]
    if failed:
        await stages.append(f"Failed checks: {', '.join(failed)}")
        return Released(status="checks_failed", stage="checks", comment=", ".join(failed))
    await stages.append("All checks passed")
    digest = await upload(release)

    body = "\n".join(f"- {check.name}: passed" for check in checks)
    first = await ask(release, "canary", body)
    if first.value is None:
        return Released(status="not_signed", stage="checks")
    if not first.value.approve:
        return Released(status="declined", stage="checks", comment=first.value.comment)

    await stages.append(await deploy(release, digest=digest, to="canary"))
    await timers.sleep(release.soak)
    minutes = (ctx.now() - started_at).total_seconds() / 60
    await stages.append(f"The canary is healthy {minutes:.0f} minutes after the start")

    report = f"The canary ran for {release.soak} without errors."
    if release.mail_dir is not None:
        second = await ask_by_link(release, report)
    else:
        second = await ask(release, "everyone", report)
    if second.value is None or not second.value.approve:
        comment = second.value.comment if second.value else "no one signed in time"
        await stages.append(await roll_back(release, reason=comment or "declined"))
        return Released(status="rolled_back", stage="canary", comment=comment)
    await stages.append(await deploy(release, digest=digest, to="everyone"))
    return Released(status="released", stage="everyone", comment=second.value.comment)
