"""Completing a token: check the data against the schemas it must fit, then ask the ledger (S-41, S-43)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from helmr.errors import Unavailable
from helmr_runtime.core import jsontext
from helmr_runtime.core.tokens import CompleteToken, check_completion_size
from helmr_runtime.security.schemas import DataSchema

CHECKS_MAX = 5
"""A schema may be pinned while the data is checked; so often it is checked anew."""

SCHEMAS_KEPT_MAX = 512

Json = Mapping[str, Any]


async def complete(
    get_token: Callable[[], Awaitable[Json]],
    write: Callable[[CompleteToken], Awaitable[Json]],
    make: Callable[[tuple[int, ...]], CompleteToken],
) -> Json:
    """The receipt of a completion: `{token_id, outcome, completed_at}`.

    Args:
        get_token: Reads the token in full.
        write: Asks the ledger.
        make: The fact, for the offsets of the schemas that the data was checked against.

    Raises:
        SchemaMismatch: The data does not fit; nothing happened.
        TokenCompleted, TokenExpired, TokenCancelled, TokenNotFound: S-41.
        Unavailable: Its schema changes too fast to be checked.
    """
    token: Json = {}
    token_id = make(()).token_id
    for _ in range(CHECKS_MAX):
        token = await get_token()
        checked: tuple[int, ...] = ()
        if token["status"] == "pending":
            checked = check(token, make(()).data)
        receipt = await write(make(checked))
        if receipt["outcome"] != "recheck":
            return receipt
    raise Unavailable(f"{token_id}: its schema changes while data is checked")


def check(token: Json, data: Any) -> tuple[int, ...]:
    """The offsets of the token's schemas, all of which the data fits.

    Raises:
        SchemaMismatch: With the failing paths (S-21).
        TooLarge: Over the limit of a record.
    """
    check_completion_size(data)
    for item in token["schemas"]:
        data_schema(item["schema"]).check(data)
    return tuple(item["offset"] for item in token["schemas"])


def data_schema(schema: Any) -> DataSchema:
    """The checked schema; compiling one is costly, so some are kept."""
    return _schema(jsontext.encode(schema))


@lru_cache(SCHEMAS_KEPT_MAX)
def _schema(text: str) -> DataSchema:
    return DataSchema(jsontext.decode(text))
