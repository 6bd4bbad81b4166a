"""Keyword arguments of `sessions.start` and `start_and_wait`, for the overloads that check a payload by its task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from helmr.durations import Duration


class _Options(TypedDict, total=False):
    external_id: str | None
    tags: Iterable[str]
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None
    operation_id: str | None


class StartOptions(_Options, total=False):
    """Of `start`."""

    result_timeout: Duration | None


class StartAndWaitOptions(_Options, total=False):
    """Of `start_and_wait`."""

    timeout: Duration | None
