"""One operation of each kind, to be acknowledged and repeated under its Operation-Id (S-61).

Each kind prepares what it is about, then is called as often as a test likes; what it gives is the part of the answer
that the first receipt fixes. What it leads to is such that the call would be refused if it were taken for a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr import auth
from helmr.signing import fingerprint
from helmr.wire import ids, operations
from helmr.wire.operation import Operation
from tests import signers
from tests.of_features import of_features

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


Kind = Callable[[Any], Awaitable[Prepared]]

KINDS: dict[str, Kind] = {}
"""Each under its function's name."""

REPEATED: set[Operation[Any]] = set()
"""What they repeat."""


def repeats(row: Operation[Any]) -> Callable[[Kind], Kind]:
    """Make the function a kind of this operation."""

    def named(kind: Kind) -> Kind:
        KINDS[kind.__name__] = kind
        REPEATED.add(row)
        return kind

    return named


# --- kinds ------------------------------------------------------------------------------------------


@repeats(operations.START_SESSION)
async def start(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        found = await client.sessions.start("contract-echo", 0, operation_id=operation_id)
        return [found.id, found.started_run.id, found.created]

    return Prepared(call)


@repeats(operations.SEND_INPUT)
async def send(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("words").send("x", operation_id=operation_id)
        return sent.model_dump(mode="json")

    return Prepared(call, session.id)


@repeats(operations.SEND_INPUT)
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


@repeats(operations.SEND_INPUT)
async def send_with_key(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        sent = await session.input("words").send(
            "x", idempotency_key="order-1", operation_id=operation_id
        )
        return sent.model_dump(mode="json")

    return Prepared(call, session.id)


@repeats(operations.SEND_INPUT)
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


@repeats(operations.ANSWER_WAIT)
async def answer(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.answer(wait.id, APPROVE, operation_id=operation_id)
        return found.model_dump(mode="json")

    return Prepared(call, session.id)


@repeats(operations.ASSIGN_WAIT)
async def assign(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.assign(wait.id, assignee="tom", operation_id=operation_id)
        return found.model_dump(mode="json")

    async def then() -> None:
        await client.waits.answer(wait.id, APPROVE)

    return Prepared(call, session.id, then)


@repeats(operations.ANSWER_WAIT)
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


@repeats(operations.START_RUN)
async def next_run(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    await client.runs.cancel((await _newest_run(client, session)).id)

    async def call(operation_id: str) -> Receipt:
        return (await session.run(7, operation_id=operation_id)).id

    return Prepared(call, session.id)


@repeats(operations.RETRY_RUN)
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


@repeats(operations.RETRY_RUN)
async def retry_of_an_attempt(client: Any) -> Prepared:
    session = await _session(client, "contract-fails", "why")
    run = await _newest_run(client, session)

    async def call(operation_id: str) -> Receipt:
        found = await client.runs.retry(run.id, attempt=1, operation_id=operation_id)
        return [found.id, found.attempt]

    async def then() -> None:
        await client.runs.wait(run.id, timeout=BOUND_S)
        await session.close()

    return Prepared(call, session.id, then)


@repeats(operations.DO_BULK)
async def bulk(client: Any) -> Prepared:
    """Its runs bear the ids of operations: that of the call names none."""
    session = await _session(client, "contract-fails", "why")
    run = await _newest_run(client, session)
    plan = await client.bulk.preview("retry", session_ids=[session.id])

    async def call(operation_id: str) -> Receipt:
        return [one.model_dump(mode="json") async for one in client.bulk.do(plan)]

    async def then() -> None:
        await client.runs.wait(run.id, timeout=BOUND_S)
        await session.close()

    return Prepared(call, session.id, then)


@repeats(operations.REWIND_RUN)
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


@repeats(operations.AMEND_WAIT)
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


@repeats(operations.FORK_SESSION)
async def fork(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        found = await session.fork(wait_id=wait.id, reason="why", operation_id=operation_id)
        return [found.id, found.started_run.id]

    async def then() -> None:
        await client.waits.answer(wait.id, APPROVE)

    return Prepared(call, None, then)


@repeats(operations.CANCEL_RUN)
async def cancel_run(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    run = await _newest_run(client, session)

    async def call(operation_id: str) -> Receipt:
        found = await client.runs.cancel(run.id, operation_id=operation_id)
        return [found.id, found.status.value]

    async def then() -> None:
        await session.run()  # it is no longer the newest

    return Prepared(call, session.id, then)


@repeats(operations.CLOSE_SESSION)
async def close(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        found = await session.close(end_input=True, operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call, session.id)


@repeats(operations.CANCEL_SESSION)
async def cancel(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        found = await session.cancel(operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call, session.id)


@repeats(operations.ADD_NOTE)
async def note(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        return (await session.note("seen", operation_id=operation_id)).model_dump(mode="json")

    return Prepared(call, session.id)


@repeats(operations.CREATE_TOKEN)
async def make_token(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        made = await client.tokens.create(timeout="1h", operation_id=operation_id)
        return [made.id, made.callback_url, made.public_access_token]

    return Prepared(call)


@repeats(operations.COMPLETE_TOKEN)
async def complete(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")

    async def call(operation_id: str) -> Receipt:
        found = await client.tokens.complete(token.id, {"n": 1}, operation_id=operation_id)
        return found.model_dump(mode="json")

    return Prepared(call)


@repeats(operations.COMPLETE_TOKEN)
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


@repeats(operations.CANCEL_TOKEN)
async def cancel_token(client: Any) -> Prepared:
    token = await client.tokens.create(timeout="1h")

    async def call(operation_id: str) -> Receipt:
        found = await client.tokens.cancel(token.id, operation_id=operation_id)
        return [found.id, found.status.value]

    return Prepared(call)


@repeats(operations.CREATE_PUBLIC_TOKEN)
async def make_public_token(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)

    async def call(operation_id: str) -> Receipt:
        made = await client.auth.create_public_token(
            scope=auth.send_to("words", session=session.id), operation_id=operation_id
        )
        return [made.id, made.public_access_token]

    return Prepared(call, session.id)


@repeats(operations.REVOKE_PUBLIC_TOKEN)
async def revoke_public_token(client: Any) -> Prepared:
    session = await _session(client, "contract-echo", 0)
    made = await client.auth.create_public_token(scope=auth.send_to("words", session=session.id))

    async def call(operation_id: str) -> Receipt:
        found = await client.auth.revoke(made.id, operation_id=operation_id)
        return [found.id, found.revoked_at is not None]

    return Prepared(call, session.id)


@repeats(operations.CREATE_API_KEY)
async def make_key(client: Any) -> Prepared:
    async def call(operation_id: str) -> Receipt:
        made = await client.keys.create("viewer", name="looks", operation_id=operation_id)
        return [made.id, made.secret]

    return Prepared(call)


@repeats(operations.REVOKE_API_KEY)
async def revoke_key(client: Any) -> Prepared:
    key = await client.keys.create("viewer", name="looks")

    async def call(operation_id: str) -> Receipt:
        found = await client.keys.revoke(key.id, operation_id=operation_id)
        return [found.id, found.revoked_at is not None]

    return Prepared(call)


@repeats(operations.CREATE_LINK)
async def make_link(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)

    async def call(operation_id: str) -> Receipt:
        made = await client.waits.link(wait.id, person="ana", operation_id=operation_id)
        return [made.id, made.url]

    return Prepared(call, session.id)


@repeats(operations.REVOKE_LINK)
async def revoke_link(client: Any) -> Prepared:
    session = await _session(client, "contract-review", {"title": "A"})
    wait = await _wait_of(session)
    made = await client.waits.link(wait.id, person="ana")

    async def call(operation_id: str) -> Receipt:
        found = await client.waits.unlink(wait.id, link_id=made.id, operation_id=operation_id)
        return [found.id, found.revoked_at is not None]

    return Prepared(call, session.id)


def _person() -> str:
    return f"p-{ids.new_id(ids.OPERATION)[-20:]}"


@repeats(operations.DISABLE_PERSON)
async def disable_person(client: Any) -> Prepared:
    person = _person()

    async def call(operation_id: str) -> Receipt:
        # That the person is not disabled again is what counts.
        return (await client.people.disable(person, operation_id=operation_id)).id

    async def then() -> None:
        await client.people.enable(person)

    return Prepared(call, then=then)


@repeats(operations.ENABLE_PERSON)
async def enable_person(client: Any) -> Prepared:
    person = _person()
    await client.people.disable(person)

    async def call(operation_id: str) -> Receipt:
        return (await client.people.enable(person, operation_id=operation_id)).id

    async def then() -> None:
        await client.people.disable(person)

    return Prepared(call, then=then)


@repeats(operations.ADD_SIGNING_KEY)
async def add_signing_key(client: Any) -> Prepared:
    person, key = await _known_person(client), signers.fresh_public()

    async def call(operation_id: str) -> Receipt:
        # That a key revoked meanwhile is refused to all others and not to this one is what counts.
        return (await client.people.add_key(person, key=key, operation_id=operation_id)).id

    async def then() -> None:
        await client.people.revoke_key(person, fingerprint=fingerprint(key))

    return Prepared(call, then=then)


@repeats(operations.REVOKE_SIGNING_KEY)
async def revoke_signing_key(client: Any) -> Prepared:
    person, key = await _known_person(client), signers.fresh_public()
    await client.people.add_key(person, key=key)

    async def call(operation_id: str) -> Receipt:
        found = await client.people.revoke_key(
            person, fingerprint=fingerprint(key), operation_id=operation_id
        )
        return found.id

    return Prepared(call)


@repeats(operations.DELEGATE)
async def delegate(client: Any) -> Prepared:
    person, deputy = await _known_person(client), await _known_person(client)
    ends_at = await _in_two_weeks(client)

    async def call(operation_id: str) -> Receipt:
        made = await client.people.delegate(
            person, deputy=deputy, ends_at=ends_at, reason="ill", operation_id=operation_id
        )
        return made.id

    return Prepared(call)


@repeats(operations.UNDELEGATE)
async def undelegate(client: Any) -> Prepared:
    person, deputy = await _known_person(client), await _known_person(client)
    ends_at = await _in_two_weeks(client)
    made = await client.people.delegate(person, deputy=deputy, ends_at=ends_at, reason="ill")

    async def call(operation_id: str) -> Receipt:
        return (await client.people.undelegate(made.id, operation_id=operation_id)).id

    return Prepared(call)


async def _in_two_weeks(client: Any) -> datetime:
    """By the runtime's clock."""
    found = await client.people.disable(_person())
    at: datetime = found.disabled_at + timedelta(days=14)
    return at


async def _known_person(client: Any) -> str:
    person = _person()
    await client.people.disable(person)
    await client.people.enable(person)
    return person


@repeats(operations.UNBIND_PERSON)
async def unbind_person(client: Any) -> Prepared:
    person = _person()
    await client.people.disable(person)

    async def call(operation_id: str) -> Receipt:
        return (await client.people.unbind(person, operation_id=operation_id)).id

    return Prepared(call)


of_features("contract")  # kinds of theirs
