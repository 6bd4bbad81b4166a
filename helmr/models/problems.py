"""A problem on the wire: the reason for a refusal, and advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from helmr.models.common import Wire


class FieldProblem(Wire):
    """One failing path of data that does not fit its schema."""

    path: str
    message: str


class Problem(Wire):
    """RFC 9457 problem details; `code` is stable, `hint` says what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    errors: list[FieldProblem] = Field(default_factory=list)
    facts: Mapping[str, Any] = Field(default_factory=dict)
