"""A review of a pull request that is published only when a person says so.

Its input is GitHub's `pull_request` webhook payload as it comes. The approval carries a correlation id, so that
an answer always meets the pull request it was meant for. Start it with

```
helmr session start publish-review --payload @pull_request.opened.json
```

With the session metadata `{"page_origin": "https://reviews.example.com", "page_dir": "/srv/reviews"}` a web page of
that origin can answer too: the task makes it a public token for its approval stream.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from helmr import TaskContext, auth, step, step_key, streams, task

log = logging.getLogger("helmr.examples.publish_review")

ROUNDS_MAX = 5
"""Times that a person may send the draft back."""


class Account(BaseModel):
    """A GitHub user or organization."""

    login: str


class Repository(BaseModel):
    """The repository part of the payload."""

    name: str
    full_name: str
    owner: Account


class Details(BaseModel):
    """The `pull_request` part of the payload; some deliveries leave the counts out."""

    title: str
    body: str | None = None
    html_url: str
    user: Account
    draft: bool = False
    additions: int = 0
    deletions: int = 0
    changed_files: int = 0


class PullRequest(BaseModel):
    """GitHub's `pull_request` webhook payload: the parts that this task reads, nested as GitHub sends them.

    The rest of the payload is ignored here; the transcript keeps it as it came.
    """

    action: str
    number: int
    pull_request: Details
    repository: Repository
    sender: Account

    @property
    def owner(self) -> str:
        """Login of the repository's owner."""
        return self.repository.owner.login

    @property
    def repo(self) -> str:
        """The repository's name, without its owner."""
        return self.repository.name


class Decision(BaseModel):
    """What the person who is asked may say. `edit` sends the draft back; the note says what to change."""

    decision: Literal["approve", "reject", "edit"]
    note: str | None = None


approval = streams.input("approval", schema=Decision)
progress = streams.output("progress", schema=str)


@step(retries=2)
async def draft_review(event: PullRequest, *, notes: list[str]) -> str:
    """Write the review. A real task asks a model here; recorded once, it is never asked twice."""
    change = event.pull_request
    lines = [
        f"**{change.title}** by {change.user.login}",
        "",
        f"{change.changed_files} file(s), +{change.additions} -{change.deletions}.",
        "Small enough to merge." if change.additions < 100 else "Please split this.",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines)


@step(retries=3)
async def send_slack_approval(*, session_id: str, stream: str, correlation_id: str) -> None:
    """Tell the channel what to answer and where.

    A real task posts a message with these ids; its button sends them back. `step_key()` is the same when a step
    runs again after a crash, so an outside system that takes an idempotency key posts once.
    """
    log.info("asking for %s: %s %s (%s)", correlation_id, session_id, stream, step_key())


@step(retries=3)
def hand_to_page(page_dir: str, *, session_id: str, correlation_id: str, secret: str) -> None:
    """Give the page what its buttons need. A real task calls the web app; here it is a file that the app reads.

    The secret goes through a step because a step's arguments are never recorded; an output or a result would be.
    """
    folder = Path(page_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = {
        "session": session_id,
        "stream": approval.id,
        "correlation_id": correlation_id,
        "public_access_token": secret,
    }
    path = folder / f"{session_id}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(facts), encoding="utf-8")


async def open_page(ctx: TaskContext, key: str) -> None:
    """Let a web page answer, if the session was started for one: this stream, this pull request, this page only."""
    origin, page_dir = (ctx.session.metadata.get(name) for name in ("page_origin", "page_dir"))
    if origin is None or page_dir is None:
        return
    button = await auth.create_public_token(
        scope=auth.send_to(approval, correlation_id=key),
        max_uses=ROUNDS_MAX,
        expires_in="1d",
        allowed_origins=[origin],
    )
    await hand_to_page(
        page_dir,
        session_id=ctx.session.id,
        correlation_id=key,
        secret=button.public_access_token,
    )


@step
async def post_review(event: PullRequest, review: str) -> str:
    """Publish the review and return where it stands. A real task calls GitHub here."""
    return f"{event.pull_request.html_url}#review-{len(review)}"


@task(id="publish-review")
async def publish_review(event: PullRequest, ctx: TaskContext) -> dict[str, str]:
    """Draft a review, ask a person, publish it when they approve."""
    key = f"github:{event.owner}/{event.repo}#{event.number}"
    notes: list[str] = []
    await open_page(ctx, key)
    for _ in range(ROUNDS_MAX):
        review = await draft_review(event, notes=notes)
        await progress.append(f"Drafted the review of {key}")
        await send_slack_approval(session_id=ctx.session.id, stream=approval.id, correlation_id=key)
        answer = await approval.wait(
            timeout="30m", correlation_id=key, subject=f"Publish the review of {key}?", body=review
        )
        if answer.value is None:  # no one answered in time, or the input ended
            await progress.append("No one answered; not published")
            return {"status": "skipped"}
        decision = answer.value
        if decision.decision == "edit":
            notes = [*notes, decision.note or "Please rework."]
            continue
        if decision.decision == "reject":
            await progress.append(f"Rejected: {decision.note or 'no reason given'}")
            return {"status": "skipped"}
        where = await post_review(event, review)
        await progress.append(f"Published at {where}")
        return {"status": "posted", "url": where}
    return {"status": "skipped"}
