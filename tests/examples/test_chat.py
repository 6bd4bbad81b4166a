"""The chat: replies in order, continues as a new run with a summary, loses nothing when interrupted."""

from __future__ import annotations

from helmr.examples.chat import MESSAGES_PER_RUN


async def test_each_message_gets_its_reply(harness, interrupt):
    session = await harness.start("chat")
    for text in ("hello", "I like tea", "do you?"):
        await session.send("messages", text)
        await interrupt(session)
    replies = await session.outputs("replies")
    assert [reply["to"] for reply in replies] == [1, 2, 3]
    assert replies[1]["text"] == "Noted: I like tea"


async def test_ending_the_input_ends_the_conversation(harness, interrupt):
    session = await harness.start("chat")
    await session.send("messages", "I like tea")
    await interrupt(session)
    await session.close(end_input=True)
    assert await session.result() == {"messages": 1, "summary": "I like tea"}


async def test_goes_on_as_a_new_run_that_remembers(harness, interrupt):
    session = await harness.start("chat")
    for number in range(1, MESSAGES_PER_RUN + 1):
        await session.send("messages", f"fact {number}")
    await interrupt(session)
    await session.send("messages", "summary")
    replies = await session.outputs("replies")
    assert [reply["to"] for reply in replies] == list(range(1, MESSAGES_PER_RUN + 2))
    assert replies[-1]["text"].splitlines()[0] == "fact 1"
    entries = await session.transcript()
    runs = [e for e in entries if e.kind == "run.created"]
    assert len(runs) == 2
    assert runs[1].body["started_by"]["type"] == "run"
    assert [e.body["continued_by"] for e in entries if e.kind == "run.succeeded"] == [
        runs[1].run_id
    ]


async def test_messages_sent_in_one_go_are_all_answered_in_order(harness):
    session = await harness.start("chat")
    await session.park()
    for number in range(2 * MESSAGES_PER_RUN + 5):
        await session.send("messages", f"fact {number}", idempotency_key=str(number))
    assert [r["to"] for r in await session.outputs("replies")] == list(
        range(1, 2 * MESSAGES_PER_RUN + 6)
    )
