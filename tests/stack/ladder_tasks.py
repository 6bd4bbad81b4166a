"""Task code that waits with a ladder of seconds."""

from __future__ import annotations

from typing import Any

from helmr import ladder, streams, task

approval = streams.input("approval", schema=bool)


@task
async def asks(payload: dict[str, Any]) -> list[Any]:
    """`payload`: seconds of each rung."""
    one = await approval.wait(
        subject="publish?",
        ladder=[
            ladder.remind(payload["remind"]),
            ladder.assign(payload["assign"], to="lead"),
            ladder.remind(payload["again"]),
            ladder.default(payload["default"], False),
        ],
    )
    return [one.value if one.ok else None, await approval.wait(subject="and now?").unwrap()]
