"""The page behind an answer link: what it shows of a wait, and how a person answers it there (S-74)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from helmr.models import AnswerRequest, WaitInfo, WaitStatus
from helmr.wait_words import next_end, rung_texts
from helmr_runtime.http.answer_flow import who_answered
from helmr_runtime.http.answer_page import PageState
from helmr_runtime.service import Caller, Service
from helmr_runtime.service.links import LiveLink

_BY_STATUS = {
    WaitStatus.TIMED_OUT: PageState.EXPIRED,
    WaitStatus.CANCELLED: PageState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class LinkedWait:
    """A wait and the link by which it was reached; implements `helmr_runtime.http.answer_flow.Asked`."""

    service: Service
    wait: WaitInfo
    link: LiveLink
    caller: Caller

    @property
    def id(self) -> str:
        return self.wait.id

    @property
    def schema(self) -> Any:
        return self.wait.json_schema

    @property
    def initial(self) -> Any:
        return self.wait.initial

    def state(self, now: datetime) -> PageState:
        wait = self.wait
        if wait.status is WaitStatus.FULFILLED:
            return PageState.RECORDED if self._is_own else PageState.OVERTAKEN
        if wait.status is not WaitStatus.PENDING:
            return _BY_STATUS[wait.status]
        ends_at = wait.default_at or wait.deadline_at
        return PageState.EXPIRED if ends_at is not None and now >= ends_at else PageState.OPEN

    @property
    def _is_own(self) -> bool:
        """Answered through this same link: whoever holds it may see what was recorded."""
        by = self.wait.resolved_by
        return by is not None and by.id == self.link.id

    async def texts(self) -> dict[str, Any]:
        wait, by = self.wait, self.wait.resolved_by
        is_own = wait.status is WaitStatus.FULFILLED and self._is_own
        end = next_end(wait) if wait.status is WaitStatus.PENDING else None
        return {
            "asked_by": wait.task,
            "answers_as": self.link.person,
            "then": end.then if end is not None and end.is_default else "",
            "subject": wait.subject,
            "body": wait.body,
            "asked_at": wait.opened_at,
            "deadline_at": wait.default_at or wait.deadline_at,
            "ladder": rung_texts(wait, lambda at: at.strftime("%Y-%m-%d %H:%M UTC")),
            "claimed_by": wait.claim.label if wait.claim is not None else None,
            "claimed_until": wait.claim.until if wait.claim is not None else None,
            "answer": wait.answer if is_own else None,
            "ended_at": wait.resolved_at,
            "ended_by": who_answered(by.model_dump()) if by is not None else None,
        }

    async def take(self, data: Any, nonce_id: str | None) -> None:
        await self.answer(AnswerRequest(data=data), nonce_id)

    async def answer(self, request: AnswerRequest, nonce_id: str | None = None) -> Any:
        """Answer the wait on behalf of the link's person; the receipt."""
        return await self.service.waits.answer(
            self.caller, self.wait.id, request, link_id=self.link.id, nonce_id=nonce_id
        )

    async def latest(self) -> LinkedWait:
        return replace(self, wait=await self.service.waits.get(self.wait.id))
