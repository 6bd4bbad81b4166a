"""A follower's ledger becomes the ledger: an entry of the system stream says so (S-68).

```
ledger.promoted    generation after reason?     after: feed offset of the last entry that the primary has sent
```

The body is never sealed. Which of two ledgers is the later one, generations say: the higher one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helmr_runtime.core.commands import Command
from helmr_runtime.core.entries import Draft, EntryKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Command):
    """The ledger goes on by itself, as the next generation. Receipt: `{generation}`."""

    after: int
    reason: str | None = None

    def draft(self, generation: int) -> Draft:
        """The entry."""
        body: dict[str, Any] = {"generation": generation, "after": self.after}
        if self.reason is not None:
            body["reason"] = self.reason
        return Draft(EntryKind.LEDGER_PROMOTED, body, principal=self.principal)
