"""Test tasks in milliseconds: the same deciding and replay as a runtime, in this process, with a clock that skips.

```python
async def test_times_out():
    async with Harness(publish_review) as harness:
        session = await harness.start("publish-review", payload)
        await harness.advance("30m")
        assert await session.result() == {"status": "skipped"}
```

Loads neither Ray nor DuckDB. A run's first answered wait is met by a full replay, with `replay_always=True` every
outcome: what the code did to the world outside of steps happens again there, and is a `RepeatedCall`, a warning.
"""

from __future__ import annotations

from helmr.testing.harness import Harness, RepeatedCall
from helmr.testing.session import TESTER, HarnessSession, RunFailed, RunNotEnded

__all__ = ["TESTER", "Harness", "HarnessSession", "RepeatedCall", "RunFailed", "RunNotEnded"]
