"""What is answered while a follower is looked at."""

from typing import Any

from helmr import streams, task

approval = streams.input("approval", schema=bool)


@task
async def approvals(payload: Any) -> int:
    """Asks again and again."""
    count = 0
    while True:
        count += await approval.wait().unwrap()
