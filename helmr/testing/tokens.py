"""Tokens of a harness: made and ended as clients and outside systems do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from helmr import ids
from helmr.current import TokenCall
from helmr.durations import Duration, seconds
from helmr.models import TokenInfo
from helmr.testing.session import TESTER
from helmr.testing.stored import token_of
from helmr.tokens import Token
from helmr_runtime.core.tokens import CancelToken, CompleteToken, CreateToken
from helmr_runtime.ledger.memory import TEST_RING, MemoryLedger
from helmr_runtime.security.schemas import complete
from helmr_runtime.security.task_secrets import TaskSecrets

BASE_URL = "http://helmr.test"
"""What the links of tokens begin with."""


class HarnessTokens(ABC):
    """What a `Harness` does with tokens."""

    ledger: MemoryLedger

    @abstractmethod
    async def settle(self) -> None:
        """Return when all code waits or has ended, and everything decided is stored."""

    async def create_token(self, *, timeout: Duration = "7d", **options: Any) -> str:
        """Make a token as a client does; its id. Options as those of `TokenCall`."""
        secrets = TaskSecrets(TEST_RING.session_keys(ids.SYSTEM_STREAM), BASE_URL)
        new = secrets.new_token(TokenCall(timeout_s=seconds(timeout), **options))
        await self.ledger.fact(CreateToken(principal=TESTER, new=new))
        return new.token_id

    async def complete_token(self, token: str | Token, data: Any) -> dict[str, Any]:
        """Complete a token, by its id, its handle or its callback URL; the receipt. The code then goes on.

        Raises:
            TokenNotFound, TokenCompleted, TokenExpired, TokenCancelled: S-41.
            SchemaMismatch: The data does not fit its schema.
        """
        token_id, principal = token_of(self.ledger, token)
        receipt = await complete(
            lambda: self.ledger.get_token(token_id),
            self.ledger.fact,
            lambda checked: CompleteToken(
                principal=principal, token_id=token_id, data=data, checked=checked
            ),
        )
        await self.settle()
        return dict(receipt)

    async def cancel_token(self, token: str | Token) -> None:
        """Cancel a token; the code then goes on."""
        token_id, _ = token_of(self.ledger, token)
        await self.ledger.fact(CancelToken(principal=TESTER, token_id=token_id))
        await self.settle()

    async def token(self, token: str | Token) -> TokenInfo:
        """A token as it is now."""
        token_id, _ = token_of(self.ledger, token)
        return TokenInfo.model_validate(await self.ledger.get_token(token_id))
