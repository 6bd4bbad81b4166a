"""What task code asks about tokens besides making them: get, list, complete, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helmr.errors import BadRequest
from helmr.models import Page, TokenInfo
from runtime.actors.completing import complete
from runtime.core import jsontext
from runtime.core.commands import Operation
from runtime.core.entries import task_principal
from runtime.core.tokens import CancelToken, CompleteToken
from runtime.ports import Ledger


async def task_token_call(
    ledger: Ledger,
    run_id: str,
    method: str,
    token_id: str | None,
    arguments: Mapping[str, Any],
    key: str,
) -> Any:
    """One call, as JSON.

    Args:
        ledger: Who is asked.
        run_id: Whose code asks.
        method: get, list, complete or cancel.
        token_id: Of which token; None for list.
        arguments: As on the wire.
        key: The call's step key: a repeated call has the effect of one.
    """
    if method == "list":
        return (
            Page[TokenInfo]
            .model_validate(await ledger.list_tokens(**arguments))
            .model_dump(mode="json", by_alias=True)["items"]
        )
    assert token_id is not None
    principal = task_principal(run_id)
    operation = Operation(
        id=key, request_hash=jsontext.same_data_hash([method, token_id, dict(arguments)])
    )
    match method:
        case "get":
            return _info(await ledger.get_token(token_id))
        case "complete":
            return await complete(
                lambda: ledger.get_token(token_id),
                ledger.fact,
                lambda checked: CompleteToken(
                    principal=principal,
                    operation=operation,
                    token_id=token_id,
                    data=arguments["data"],
                    checked=checked,
                ),
            )
        case "cancel":
            fact = CancelToken(principal=principal, operation=operation, token_id=token_id)
            await ledger.fact(fact)
            return _info(await ledger.get_token(token_id))
        case _:
            raise BadRequest(f"tokens.{method} is unknown")


def _info(token: Mapping[str, Any]) -> Any:
    return TokenInfo.model_validate(token).model_dump(mode="json", by_alias=True)
