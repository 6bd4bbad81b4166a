"""What task code asks about tokens besides making them: get, list, complete, cancel; and what a wait on one shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from helmr.errors import BadRequest, HelmrError, Unavailable
from helmr.models import Page, TokenInfo
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import Operation
from helmr_runtime.core.entries import EntryKind, task_principal
from helmr_runtime.core.run import Run
from helmr_runtime.core.tokens import CancelToken, CompleteToken, TokenQuestion
from helmr_runtime.ports import Ledger
from helmr_runtime.security.completion import complete

QUESTION_TRIES = 25
QUESTION_PAUSE_S = 0.2
"""A ledger that was killed answers again after two seconds; a wait opens after five in any case."""


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


async def question_of(ledger: Ledger, run: Run, token_id: str) -> TokenQuestion | None:
    """What the token says; None if there is no such token, or its texts can't be read.

    One that the run itself made stands in its journal. A ledger that is away for a moment is asked again: what a wait
    shows is written once.
    """
    for entry in run.journal:
        if entry.kind is EntryKind.TOKEN_CREATED and entry.body["token_id"] == token_id:
            return TokenQuestion.of(entry.body)
    for _ in range(QUESTION_TRIES):
        try:
            return TokenQuestion.of(await ledger.get_token(token_id))
        except Unavailable:
            await asyncio.sleep(QUESTION_PAUSE_S)
        except HelmrError:
            return None
    return None


def _info(token: Mapping[str, Any]) -> Any:
    return TokenInfo.model_validate(token).model_dump(mode="json", by_alias=True)
