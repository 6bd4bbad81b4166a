"""Test tasks in milliseconds: the same deciding and replay as a runtime, in this process, with a clock that skips.

```python
async def test_times_out():
    async with Harness(publish_review) as harness:
        session = await harness.start("publish-review", payload)
        await harness.advance("30m")
        assert await session.result() == {"status": "skipped"}
```

Loads neither Ray nor DuckDB. With `replay_always=True` every outcome is met by a
full replay, which finds what the code does outside steps.
"""

from __future__ import annotations

from helmr.testing.harness import Harness
from helmr.testing.session import TESTER, HarnessSession, RunFailed, RunNotEnded

__all__ = ["TESTER", "Harness", "HarnessSession", "RunFailed", "RunNotEnded"]
