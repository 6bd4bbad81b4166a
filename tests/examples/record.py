"""Records sessions of the examples as files, which today's code has to fit: `make recordings`.

Each goes one way through its task. They are made anew when the format of session files changes, or when an example is
changed on purpose so that older runs of it would be blocked. Until then they stay as the code of their time left them.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from helmr.examples.chat import MESSAGES_PER_RUN, chat
from helmr.examples.publish_review import publish_review
from helmr.examples.release import release_service, upload
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession

FOLDER = Path(__file__).parent / "recorded"

Act = Callable[[Harness, HarnessSession], Awaitable[None]]

PULL_REQUEST = json.loads(
    (files("helmr.examples.data") / "pull_request.opened.json").read_text(encoding="utf-8")
)
RELEASE = {"service": "web", "version": "1.4.0"}


async def edited_and_approved(harness: Harness, session: HarnessSession) -> None:
    """A review that was sent back once."""
    await harness.advance("4m")
    await session.answer({"decision": "edit", "note": "Shorter."}, on_behalf_of="Ada")
    await harness.advance("7m")
    await session.answer({"decision": "approve"}, on_behalf_of="Grace")


async def nobody_answered(harness: Harness, session: HarnessSession) -> None:
    """A review that nobody looked at."""
    await harness.advance("31m")


async def still_waiting(harness: Harness, session: HarnessSession) -> None:
    """Left where it asks."""


async def talked(harness: Harness, session: HarnessSession) -> None:
    """A conversation that has gone on as a second run, and goes on."""
    for number in range(MESSAGES_PER_RUN + 2):
        await session.send("messages", f"message {number}")


async def ended(harness: Harness, session: HarnessSession) -> None:
    """A short conversation."""
    for text in ("hello", "what now?", "summary"):
        await session.send("messages", text)
    await session.close(end_input=True)


async def soaking(harness: Harness, session: HarnessSession) -> None:
    """A release whose canary is watched."""
    await session.answer({"approve": True})
    await harness.advance("3m")


async def released(harness: Harness, session: HarnessSession) -> None:
    """A release that went everywhere."""
    await soaking(harness, session)
    await harness.advance("8m")
    await session.answer({"approve": True, "comment": "Go."})


async def rolled_back(harness: Harness, session: HarnessSession) -> None:
    """A release that was taken back by who opened the link."""
    await soaking(harness, session)
    await harness.advance(timedelta(minutes=8))
    wait = await session.wait()
    await harness.complete_token(wait["token_id"], {"approve": False, "comment": "Too slow."})


async def checks_failed(harness: Harness, session: HarnessSession) -> None:
    """A release that came to nothing."""
    await harness.settle()


SESSIONS: dict[str, tuple[Task[..., Any], Any, Act]] = {
    "publish_review_edited": (publish_review, PULL_REQUEST, edited_and_approved),
    "publish_review_unanswered": (publish_review, PULL_REQUEST, nobody_answered),
    "publish_review_waiting": (publish_review, PULL_REQUEST, still_waiting),
    "chat_continued": (chat, None, talked),
    "chat_ended": (chat, None, ended),
    "release_soaking": (release_service, RELEASE, soaking),
    "release_released": (release_service, RELEASE, released),
    "release_rolled_back": (release_service, {**RELEASE, "mail_dir": "mail"}, rolled_back),
    "release_failed": (release_service, {**RELEASE, "version": "1.4.0-broken"}, checks_failed),
}


async def recorded(task: Task[..., Any], payload: Any, act: Act) -> bytes:
    """One session as a file."""
    async with Harness(task) as harness:
        # The example's store fails once, with a traceback that names this machine's folders.
        harness.replace(upload, lambda release: f"sha256:{release.version}")
        session = await harness.start(task, payload)
        await act(harness, session)
        async with harness.async_client() as client:
            handle = client.sessions.open(session.id)
            return b"".join([piece async for piece in handle.export()])


async def main() -> None:
    """Record them all."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.jsonl"):
        old.unlink()
    for name, (task, payload, act) in SESSIONS.items():
        (FOLDER / f"{name}.jsonl").write_bytes(await recorded(task, payload, act))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # an example writes e-mails there
        asyncio.run(main())
