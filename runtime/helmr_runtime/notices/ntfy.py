"""Push by an ntfy server: one notification for each wait, which says in the end what became of it (S-140).

Each message has a sequence id, made of target and wait. A server that keeps sequences, from 2.16 on, has phones show
the newest message of a sequence in place of the one before, also if that was posted twice; an older one shows each
beside the others. The server's answer says which it is, so nothing about a message has to be stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr.models import WaitPriority
from helmr.models.system import EventName
from helmr.wire.durations import cut_text
from helmr_runtime.core.notices import ENDS
from helmr_runtime.notices.connecting import Poster
from helmr_runtime.notices.content import TEST, Notice, NotTaken
from helmr_runtime.notices.secrets import Secrets
from helmr_runtime.notices.targets import NtfyTarget

MESSAGE_BYTES_MAX = 3_500
"""With the line that says what was cut less than the 4,096 of which a server makes an attachment."""

SEQUENCE_ID_CHARS = 32

QUIET = 2
"""Shown without a sound."""
NORMAL = 3
LOUD = 4

PRIORITIES: Mapping[str, int] = {
    WaitPriority.LOW.value: QUIET,
    WaitPriority.NORMAL.value: NORMAL,
    WaitPriority.HIGH.value: LOUD,
}
ALARMS = (EventName.RUN_FAILED, EventName.RUN_BLOCKED)

KEEPS_NO_SEQUENCES = "its server replaces no notification (ntfy before 2.16): what became of a wait comes as one more"


def sequence_id(target: str, notice: Notice) -> str:
    """The sequence that a notice belongs to: that of its wait; a run's events have each their own."""
    of = notice.data.get("wait_id") or notice.id
    return hashlib.sha256(f"{target}|{of}".encode()).hexdigest()[:SEQUENCE_ID_CHARS]


def message(target: NtfyTarget, topic: str, notice: Notice) -> dict[str, Any]:
    """What is published, as ntfy takes it in JSON."""
    said = {
        "topic": topic,
        "title": notice.title(target.title, head=_head(notice)),
        "message": cut_text(_text(target, notice), MESSAGE_BYTES_MAX),
        "priority": _priority(notice),
        "click": _click(notice),
        "sequence_id": sequence_id(target.name, notice),
    }
    return {name: value for name, value in said.items() if value}


def _head(notice: Notice) -> str | None:
    if notice.event in ENDS:
        return str(notice.data["outcome"]).capitalize()
    if notice.event == EventName.WAIT_ASSIGNED and "assignee" in notice.data:
        return f"Assigned to {notice.data['assignee']}"
    return None


def _text(target: NtfyTarget, notice: Notice) -> str:
    if target.text is not None:
        return notice.text(target.text)
    left_out = {"link", "outcome"}  # behind a tap; in the title
    if notice.event in ENDS:
        left_out |= {"body", "evidence"}
    data = {name: value for name, value in notice.data.items() if name not in left_out}
    return replace(notice, data=data).text(below_title=True)


def _priority(notice: Notice) -> int:
    if notice.event in ALARMS:
        return LOUD
    if notice.event == TEST:
        return NORMAL
    if not notice.asks:
        return QUIET
    asked = PRIORITIES[notice.data["priority"]]
    return LOUD if notice.event == EventName.WAIT_DUE_SOON else asked


def _click(notice: Notice) -> str | None:
    """The page that a tap opens: the answer link, else the wait's page in the inbox, which asks for a sign-in."""
    link: str | None = notice.data.get("link")
    wait_id = notice.data.get("wait_id")
    if link is not None or wait_id is None or not notice.source.startswith("http"):
        return link
    return f"{notice.source.rstrip('/')}/inbox/{wait_id}"


class Ntfy:
    """Publishes to a topic."""

    def __init__(self, target: NtfyTarget, secrets: Secrets) -> None:
        self._target = target
        self._secrets = secrets
        self._poster = Poster(private=target.private_addresses)

    async def send(self, notice: Notice) -> str | None:
        """Publish the notice; returns what to know if the server keeps no sequences."""
        topic, headers = await asyncio.to_thread(self._read)
        sent = message(self._target, topic, notice)
        body = json.dumps(sent, ensure_ascii=False).encode()
        answer = await self._poster.post(f"{self._target.url.rstrip('/')}/", body, headers)
        return None if _sequence_of(answer) == sent["sequence_id"] else KEEPS_NO_SEQUENCES

    def _read(self) -> tuple[str, dict[str, str]]:
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "helmr-notices",
        }
        if self._target.has_token:
            headers["authorization"] = f"Bearer {self._secrets.read(self._target, 'token')}"
        return self._target.read_topic(self._secrets), headers


def _sequence_of(answer: bytes) -> str | None:
    """The sequence that the server put a message into, by its answer; None if it keeps none.

    Raises:
        NotTaken: It is no answer of an ntfy server.
    """
    try:
        said = json.loads(answer)
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("event") != "message":
        raise NotTaken("it did not answer as an ntfy server does")
    return said.get("sequence_id")
