"""What a harness finds in what is stored."""

from __future__ import annotations

from helmr import ids
from helmr.errors import TokenNotFound
from helmr.models import RunCheck
from helmr.testing.session import TESTER
from helmr.tokens import Token
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import Principal
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.detached import check_run
from helmr_runtime.security.secrets import secret_hash
from helmr_runtime.security.task_secrets import CALLBACK_PATH, TaskSecrets
from helmr_runtime.session.dry_run import read_snapshot


async def check_stored(
    ledger: MemoryLedger, clock: Clock, registry: Registry, silence_s: float
) -> list[RunCheck]:
    """Whether code fits the runs that have not ended, in the order in which their sessions began."""
    checks: list[RunCheck] = []
    for session_id in dict.fromkeys(entry.session_id for entry in ledger.stored.entries):
        if session_id == ids.SYSTEM_STREAM:
            continue
        found = await read_snapshot(ledger, session_id)
        if found.state.active_run is None:
            continue
        registered = registry.tasks.get(found.state.task)
        task = registered.task if registered is not None else None
        checks.append(
            await check_run(
                task,
                found.state,
                found.histories,
                clock=clock,
                silence_s=silence_s,
                hashes=hashes_of(registry.code_hash, TaskSecrets(found.loaded.keys, "").asked_keys),
            )
        )
    return checks


def token_of(ledger: MemoryLedger, token: str | Token) -> tuple[str, Principal]:
    """The id of a token given by its id, handle or callback URL, and who acts with that.

    Raises:
        TokenNotFound: No token has that callback URL.
    """
    text = token if isinstance(token, str) else token.id
    _, found, secret = text.partition(CALLBACK_PATH)
    if not found:
        return text, TESTER
    known = ledger.index.tokens.by_callback(secret_hash(secret.partition("?")[0]))
    if known is None:
        raise TokenNotFound("no token has that callback URL")
    return known.id, Principal("callback", known.id)
