"""A conversation that lives as long as people like: messages in, replies out, restarts in between.

Each message is one wait, so between messages the session costs nothing. Every `MESSAGES_PER_RUN` messages the run
goes on as a new one that carries a summary: the journal that a resume has to replay stays short for years.

```
helmr session start chat
helmr input send SESSION messages --data '"hello"'
helmr output follow SESSION replies --chunks
```
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from helmr import TaskContext, step, streams, task

MESSAGES_PER_RUN = 20
"""Messages that one run answers before it continues as the next."""

SUMMARY_CHARS_MAX = 2000


class Conversation(BaseModel):
    """What one run hands to the next. All that was said stays in the session's transcript."""

    messages: int = 0
    summary: str = ""


class Reply(BaseModel):
    """One reply, or as a chunk the next piece of it; `to` is the number of the message it answers, from 1."""

    to: int
    text: str


class Ended(BaseModel):
    """The result of a conversation that someone ended."""

    messages: int
    summary: str = Field(description="What was talked about, oldest first.")


messages = streams.input("messages", schema=str)
replies = streams.output("replies", schema=Reply)


@step(retries=3)
async def think(message: str, *, number: int, summary: str) -> str:
    """Find a reply, and show it word by word to who follows. A real task asks a model here, with the summary as its
    memory, and emits each token as it comes.
    """
    text = _reply(message.strip(), number=number, summary=summary)
    for word in text.split(" "):
        replies.emit(Reply(to=number, text=f"{word} "))
    return text


def _reply(text: str, *, number: int, summary: str) -> str:
    if text.lower() in ("hello", "hi"):
        return "Hello! Say anything, or ask for a summary."
    if text.lower() == "summary":
        return summary or "Nothing yet."
    if text.endswith("?"):
        return f"Good question, number {number}. Let me ask back: what do you think?"
    return f"Noted: {text}"


@step(retries=3)
async def summarize(summary: str, *, new: list[str]) -> str:
    """Shorten what was said. A real task asks a model here."""
    lines = [*summary.splitlines(), *(message.strip()[:80] for message in new)]
    return "\n".join(lines)[-SUMMARY_CHARS_MAX:]


@task(id="chat")
async def chat(before: Conversation | None, ctx: TaskContext) -> Ended:
    """Answer messages until the input is ended (`helmr session close --end-input`)."""
    before = before or Conversation()
    said: list[str] = []
    number = before.messages
    async for message in messages.iter(subject="Say something"):
        number += 1
        said.append(message)
        text = await think(message, number=number, summary=before.summary)
        await replies.append(Reply(to=number, text=text))
        if len(said) == MESSAGES_PER_RUN:
            summary = await summarize(before.summary, new=said)
            # Messages that came meanwhile are kept for the next run.
            await ctx.continue_as(Conversation(messages=number, summary=summary))
    return Ended(messages=number, summary=await summarize(before.summary, new=said))
