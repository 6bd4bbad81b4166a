"""A process that completes tokens until it is killed, and says on stdout who won."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from helmr.current import TokenCall
from helmr.errors import TokenCompleted
from helmr.wire import ids
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.tokens import CompleteToken
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports import TokenOpen
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.task_secrets import TaskSecrets
from tests.ledger.sessions import ALICE, SMALL, begin, running

TOKENS = 40
RIVALS = 3
RING = KeyRing((MasterKey("k1", b"1" * 32),))
SECRETS = TaskSecrets(RING.session_keys(ids.SYSTEM_STREAM), "http://helmr.test")


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(path: Path) -> None:
    """Tokens that parked sessions wait on, each completed by rivals through its public token."""
    clock = SystemClock()
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    maker = await running(ledger, clock)
    new = [SECRETS.new_token(TokenCall(timeout_s=3600)).to_body(clock.now()) for _ in range(TOKENS)]
    await maker.stored(*(maker.draft(EntryKind.TOKEN_CREATED, **body) for body in new))

    async def wait_on(token_id: str) -> None:
        hand = await begin(ledger, clock)
        await hand.adopt()
        wait = hand.wait(kind="token", token_id=token_id)
        guard = TokenOpen((token_id,), wait.body["wait_id"])
        drafts = (hand.started(), wait)
        await hand.stored(*drafts, checkpoint=True, release=True, preconditions=(guard,))

    await asyncio.gather(*(wait_on(body["token_id"]) for body in new))
    say("open")
    await asyncio.gather(
        *(
            complete(ledger, body["token_id"], body["public_token_id"], n)
            for n in range(RIVALS)
            for body in new
        )
    )
    say("all")
    await asyncio.Event().wait()


async def complete(ledger: DuckLedger, token_id: str, public_token_id: str, n: int) -> None:
    """One rival's try; the winner's line is written when its completion is on disk."""
    fact = CompleteToken(
        principal=ALICE, token_id=token_id, data=n, public_token_id=public_token_id
    )
    try:
        await ledger.fact(fact)
    except TokenCompleted:
        return
    say(f"{token_id} {public_token_id} {n}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
