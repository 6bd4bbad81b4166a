"""What a wait's opening says of it, and what came of its answer: the parts of `wait.opened` (S-70…S-74).

The question hash names what a person was shown: two waits with the same hash asked the same, of the same task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from helmr.models import AnswerMode
from helmr.schema import schema_digest
from helmr.wait_details import WaitDetails, recorded
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.tokens import TokenQuestion

ASKS_PEOPLE = frozenset({"input", "token"})
"""Kinds of waits that somebody can answer."""

QUESTION_HASH_CHARS = 32
LINK = "link"
"""The type of the principal that answered through an answer link."""


def record_parts(
    task: str, session_tags: Sequence[str], ask: WaitRequest, question: TokenQuestion | None
) -> dict[str, Any]:
    """The keys of `wait.opened` that say what is asked, and whom it concerns; what is not said is left out.

    Args:
        task: The session's.
        session_tags: The session's, which never change: so no list of waits has to look at sessions.
        ask: What the code asked.
        question: What the awaited token says, for what the code did not say itself.
    """
    if ask.wait_kind not in ASKS_PEOPLE:
        return {}
    said = _said(ask.details, question)
    found = recorded(said)
    if session_tags:
        found["session_tags"] = list(session_tags)
    found["question_hash"] = question_hash(
        task, ask.stream or ask.wait_kind, ask.correlation_id, said, said.shown_digest
    )
    return found


def _said(details: WaitDetails, question: TokenQuestion | None) -> WaitDetails:
    """The wait's own words, the token's where it has none."""
    if question is None:
        return details
    digest = details.shown_digest
    if digest is None and question.schema is not None:
        digest = schema_digest(question.schema)
    return replace(
        details,
        subject=details.subject if details.subject is not None else question.subject,
        body=details.body if details.body is not None else question.body,
        shown_digest=digest,
        initial=details.initial if details.initial is not None else question.initial,
        # A wait with a schema of its own takes other answers: the token's default may be none of them.
        escalation=details.escalation or (question.escalation if details.schema is None else ()),
    )


def question_hash(
    task: str,
    stream: str,
    correlation_id: str | None,
    details: WaitDetails,
    schema_digest: str | None,
) -> str:
    """Names what the person was shown (S-70); not which token carries it."""
    parts = [task, stream, correlation_id, details.subject, details.body, schema_digest]
    return jsontext.same_data_hash(parts)[:QUESTION_HASH_CHARS]


def mode_of(principal: Principal, *, is_page: bool = False) -> str:
    """How an answer by this principal came (S-73).

    Args:
        principal: Who answered.
        is_page: Through the page behind a callback URL.
    """
    if is_page or principal.type == LINK:
        return AnswerMode.LINK.value
    if principal.on_behalf_of is not None:
        return AnswerMode.PERSON.value
    return AnswerMode.PROGRAM.value
