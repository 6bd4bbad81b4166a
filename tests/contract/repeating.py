"""One operation of each kind, to be acknowledged and repeated under its Operation-Id (S-61).

Each kind prepares what it is about, then is called as often as a test likes; what it gives is the part of the answer
that the first receipt fixes. What it leads to is such that the call would be refused if it were taken for a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helmr import auth

BOUND_S = 30.0
APPROVE = {"decision": "approve"}

Receipt = Any
"""What must be equal each time: JSON types."""


@dataclass(frozen=True)
class Prepared:
    """An operation that can be called.

    Attributes:
        call: Calls it under an operation id.
        session_id: The session that decides it; None if the ledger does.
        then: Done between the acknowledgement and the repetition.
    """

    call: Callable[[str], Awaitable[Receipt]]
    session_id: str | None = None
    then: Callable[[], Awaitable[Any]] | None = None


async def _session(client: Any, task: str, payload: Any) -> Any:
    """A session whose run has stopped: it waits or has ended."""
    started = await client.sessions.start_and_wait(task, payload, timeout=BOUND_S)
    return client.sessions.open(started.id)


async def _newest_run(client: Any, session: Any) -> Any:
    page = await client.runs.page(session_id=session.id, limit=1)
    return page.items[0]


async def _wait_of(session: Any) -> Any:
    return (await session.get()).wait


# --- kinds ------------------------------------------------------------------------------------------


async def start(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        found = await client.sessions.start("contract-echo", 0, operation_id=operation_id)
        return [found.id, found.started_run.id, found.created]

    return Prepared(call)


async def send(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("words").send("x", operation_id=operation_id)
        return sent.model_dump(mode="json")

    return Prepared(call, session.id)


async def send_and_close(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("approval").send(
            APPROVE, correlation_id="review-1", operation_id=operation_id
        )
        return sent.model_dump(mode="json")

    async def then() -> None:
        await client.runs.wait((await _newest_run(client, session)).id, timeout=BOUND_S)
        await session.close()

    return Prepared(call, session.id, then)


async def send_with_key(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("words").send(
            "x", idempotency_key="order-1", operation_id=operation_id
        )
        return sent.model_dump(mode="json")

    return Prepared(call, session.id)


async def send_by_the_last_use(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    token = await client.auth.create_public_token(
        scope=auth.send_to("words", session=session.id), max_uses=1
    )

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("words").send(
            "x", public_access_token=token.public_access_token, operation_id=operation_id
        )
        return sent.model_dump(mode="json")

    return Prepared(call, session.id)


async def answer(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.answer(wait.id, APPROVE, operation_id=operation_id)
        return found.model_dump(mode="json")

    return Prepared(call, session.id)


async def assign(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.assign(wait.id, assignee="tom", operation_id=operation_id)
        return found.model_dump(mode="json")

    async def then() -> None:
        await client.waits.answer(wait.id, APPROVE)

    return Prepared(call, session.id, then)


async def answer_for_a_token(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")
    session = await _session(client, "contract-token", token.id)
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.answer(wait.id, 1, operation_id=operation_id)
        return found.model_dump(mode="json")

    async def then() -> None:
        await client.runs.wait((await _newest_run(client, session)).id, timeout=BOUND_S)

    return Prepared(call, session.id, then)


async def next_run(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    await client.runs.cancel((await _newest_run(client, session)).id)

    async def call(operation_id: str) -> Receipt:
        return (await session.run(7, operation_id=operation_id)).id

    return Prepared(call, session.id)


async def retry(client: Any) -> Prepared:
    session = await _session(client, "contract-fails", "why")
    run = await _newest_run(client, session)

    async def call(operation_id: str) -> Receipt:
        found = await client.runs.retry(run.id, operation_id=operation_id)
        return [found.id, found.attempt]

    async def then() -> None:
        await client.runs.wait(run.id, timeout=BOUND_S)
        await session.close()

    return Prepared(call, session.id, then)


async def rewind(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    run = await _newest_run(client, session)
    seen = await client.runs.preview_rewind(run.id, wait_id=(await _wait_of(session)).id)

    async def call(operation_id: str) -> Receipt:
        found = await client.runs.rewind(
            run.id, preview=seen, reason="why", operation_id=operation_id
        )
        return [found.id, found.attempt]

    async def then() -> None:
        await client.runs.wait(run.id, timeout=BOUND_S, until="stopped")

    return Prepared(call, session.id, then)


async def amend(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    run, wait = await _newest_run(client, session), await _wait_of(session)
    await client.waits.answer(wait.id, APPROVE)
    await client.runs.wait(run.id, timeout=BOUND_S)
    seen = await client.waits.preview_amend(wait.id)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.amend(
            wait.id, APPROVE, preview=seen, reason="why", operation_id=operation_id
        )
        return [found.id, found.attempt]

    async def then() -> None:
        await client.runs.wait(run.id, timeout=BOUND_S)
        await session.close()

    return Prepared(call, session.id, then)


async def fork(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await session.fork(wait_id=wait.id, reason="why", operation_id=operation_id)
        return [found.id, found.started_run.id]

    async def then() -> None:
        await client.waits.answer(wait.id, APPROVE)

    return Prepared(call, None, then)


async def cancel_run(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    run = await _newest_run(client, session)

    async def call(operation_id: str) -> Receipt:
        found = await client.runs.cancel(run.id, operation_id=operation_id)
        return [found.id, found.status.value]

    async def then() -> None:
        await session.run()  # it is no longer the newest

    return Prepared(call, session.id, then)


async def close(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        found = await session.close(end_input=True, operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call, session.id)


async def cancel(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        found = await session.cancel(operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call, session.id)


async def note(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        return (await session.note("seen", operation_id=operation_id)).model_dump(mode="json")

    return Prepared(call, session.id)


async def make_token(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        made = await client.tokens.create(timeout="1h", operation_id=operation_id)
        return [made.id, made.callback_url, made.public_access_token]

    return Prepared(call)


async def complete(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")

    async def call(operation_id: str) -> Receipt:
        found = await client.tokens.complete(token.id, {"n": 1}, operation_id=operation_id)
        return found.model_dump(mode="json")

    return Prepared(call)


async def complete_by_the_last_use(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")
    public = await client.auth.create_public_token(scope=auth.complete(token.id), max_uses=1)

    async def call(operation_id: str) -> Receipt:
        found = await client.tokens.complete(
            token.id,
            {"n": 1},
            public_access_token=public.public_access_token,
            operation_id=operation_id,
        )
        return found.model_dump(mode="json")

    return Prepared(call)


async def cancel_token(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")

    async def call(operation_id: str) -> Receipt:
        found = await client.tokens.cancel(token.id, operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call)


async def make_public_token(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        made = await client.auth.create_public_token(
            scope=auth.send_to("words", session=session.id), operation_id=operation_id
        )
        return [made.id, made.public_access_token]

    return Prepared(call, session.id)


async def revoke_public_token(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    made = await client.auth.create_public_token(scope=auth.send_to("words", session=session.id))

    async def call(operation_id: str) -> Receipt:
        found = await client.auth.revoke(made.id, operation_id=operation_id)
        return [found.id, found.revoked_at is not None]

    return Prepared(call, session.id)


async def make_key(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        made = await client.keys.create("viewer", name="looks", operation_id=operation_id)
        return [made.id, made.secret]

    return Prepared(call)


async def revoke_key(client: Any) -> Prepared:
    key = await client.keys.create("viewer", name="looks")

    async def call(operation_id: str) -> Receipt:
        found = await client.keys.revoke(key.id, operation_id=operation_id)
        return [found.id, found.revoked_at is not None]

    return Prepared(call)


Kind = Callable[[Any], Awaitable[Prepared]]

KINDS: Mapping[str, Kind] = {
    kind.__name__: kind
    for kind in (
        start,
        send,
        send_and_close,
        send_with_key,
        send_by_the_last_use,
        answer,
        assign,
        answer_for_a_token,
        next_run,
        retry,
        rewind,
        amend,
        fork,
        cancel_run,
        close,
        cancel,
        note,
        make_token,
        complete,
        complete_by_the_last_use,
        cancel_token,
        make_public_token,
        revoke_public_token,
        make_key,
        revoke_key,
    )
}
