"""Test tasks in milliseconds: a runtime's decisions and replay, in this process, with a fake clock.

```python
async def test_times_out():
    async with Harness(publish_review) as harness:
        session = await harness.start("publish-review", payload)
        await harness.advance("30m")
        assert await session.result() == {"status": "skipped"}
```

It loads neither Ray nor DuckDB. A run's first answered wait causes a full replay; with `replay_always=True` every
outcome does. A replay repeats side effects outside of steps, which gives the warning `RepeatedCall`.
"""

from __future__ import annotations

from helmr.testing.harness import Harness, RepeatedCall
from helmr.testing.session import TESTER, HarnessSession, RunFailed, RunNotEnded

__all__ = ["TESTER", "Harness", "HarnessSession", "RepeatedCall", "RunFailed", "RunNotEnded"]
