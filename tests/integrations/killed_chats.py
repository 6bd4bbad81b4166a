"""The chats of `long_chats`, in a process that kills itself at a given entry of its session."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

from helmr_runtime.ports import CommitReply, Flush
from helmr_runtime.session.committer import Committer
from tests.integrations import long_chats
from tests.integrations.long_chats import chat_langgraph, chat_openai_agents, chat_pydantic_ai

__all__ = ["chat_langgraph", "chat_openai_agents", "chat_pydantic_ai"]

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))
AT, DONE, EXECUTED = "kill-at", "killed-at", "executed"
"""Files: the seq at which the process is killed, once, and when; the seq through which its session was stored then, and
the last one of the flush; a line for each thing that was executed."""
BEFORE, AFTER = "before", "after"
"""The flush with that entry is sent; its sender hears that it is stored."""


class Noted(Counter[str]):
    """What was executed, also in a file, which outlives the process."""

    def __setitem__(self, what: str, count: int) -> None:
        super().__setitem__(what, count)
        with (MARKS / EXECUTED).open("a") as file:
            file.write(f"{what}\n")


send = Committer.send


async def send_or_die(self: Committer, flush: Flush) -> CommitReply:
    """Send a flush, unless this process is to be killed before; be killed behind it if it is to be."""
    last_seq = flush.first_seq + len(flush.entries) - 1
    die_at(BEFORE, flush.first_seq - 1, last_seq)
    reply = await send(self, flush)
    die_at(AFTER, last_seq, last_seq)
    return reply


def die_at(moment: str, stored_seq: int, last_seq: int) -> None:
    """Kill this process if that was asked for."""
    at = MARKS / AT
    if not at.exists():
        return
    seq, when = at.read_text().split()
    if when == moment and int(seq) <= last_seq:
        at.unlink()
        (MARKS / DONE).write_text(f"{stored_seq} {last_seq}")
        os.kill(os.getpid(), signal.SIGKILL)


if "HELMR_TEST_MARKS" in os.environ:  # in the processes of a runtime
    long_chats.executed = Noted()
    Committer.send = send_or_die  # type: ignore[method-assign] # each of its hosts has this module
