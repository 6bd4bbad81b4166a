"""Notice targets as calls; beside `operations`, whose rules hold here too."""

from __future__ import annotations

import re
from urllib.parse import quote

from helmr.client.calls import Call, list_call, post_call
from helmr.errors import UsageError
from helmr.models import (
    NOTICE_TARGET_NAME,
    NOTICE_TARGET_NAME_MAX,
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    Page,
)


def list_targets() -> Call[Page[NoticeTargetInfo]]:
    """GET /v1/notices."""
    return list_call("/v1/notices", NoticeTargetInfo, {}, limit=None, cursor=None)


def test_target(name: str) -> Call[NoticeTestReceipt]:
    """POST /v1/notices/{name}/test."""
    call: Call[NoticeTestReceipt] = post_call(_path(name, "test"), NoticeTestReceipt, None, None)
    return call


def retry_target(name: str) -> Call[NoticeRetryReceipt]:
    """POST /v1/notices/{name}/retry."""
    call: Call[NoticeRetryReceipt] = post_call(_path(name, "retry"), NoticeRetryReceipt, None, None)
    return call


def _path(name: str, act: str) -> str:
    if len(name) > NOTICE_TARGET_NAME_MAX or not re.fullmatch(NOTICE_TARGET_NAME, name):
        raise UsageError(
            f"{name[:80]!r} is no name of a notice target",
            hint=f"Letters, digits, `_` and `-`, at most {NOTICE_TARGET_NAME_MAX}.",
        )
    return f"/v1/notices/{quote(name, safe='')}/{act}"
