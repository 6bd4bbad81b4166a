"""Task code that waits with an escalation of seconds."""

from __future__ import annotations

from typing import Any

from helmr import escalation, streams, task

approval = streams.input("approval", schema=bool)


@task
async def asks(payload: dict[str, Any]) -> list[Any]:
    """`payload`: seconds of each escalation step."""
    one = await approval.wait(
        subject="publish?",
        escalation=[
            escalation.remind(payload["remind"]),
            escalation.assign(payload["assign"], to="lead"),
            escalation.remind(payload["again"]),
            escalation.default(payload["default"], False),
        ],
    )
    return [one.value if one.ok else None, await approval.wait(subject="and now?").unwrap()]
