"""The ledger as a whole, as calls; beside `operations`, whose rules hold here too."""

from __future__ import annotations

from typing import Any

from helmr.client.calls import READ_TIMEOUT_S, Call, Download, post_call, reads
from helmr.durations import Duration, seconds
from helmr.models import CopyPage, PruneReceipt


def prune(
    older_than: Duration, *, archive: bool, dry_run: bool, reason: str | None
) -> Call[PruneReceipt]:
    """POST /v1/prune."""
    parts: dict[str, Any] = {"older_than_s": seconds(older_than)}
    parts |= {"archive": archive, "dry_run": dry_run}
    if reason is not None:
        parts["reason"] = reason
    call: Call[PruneReceipt] = post_call("/v1/prune", PruneReceipt, parts, None)
    return call


def read_copy(
    after: int,
    hash: str | None,
    nil_offset: int,
    nil_hash: str | None,
    wait_s: float,
    follower: str | None,
) -> Call[CopyPage]:
    """GET /v1/ledger/entries."""
    named = {"hash": hash, "nil_offset": nil_offset or None, "nil_hash": nil_hash}
    named["follower"] = follower
    params = [(name, str(value)) for name, value in named.items() if value is not None]
    return Call(
        method="GET",
        path="/v1/ledger/entries",
        reply=reads(CopyPage),
        params=(("after", str(after)), ("wait_s", str(wait_s)), *params),
        read_timeout_s=READ_TIMEOUT_S + wait_s,
    )


def read_backup() -> Download:
    """GET /v1/backup."""
    return Download(path="/v1/backup", media_type="application/jsonl")
