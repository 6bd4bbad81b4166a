"""Limits: how many steps or runs may go on at once, and how many may begin in a time.

```python
openai = Limit("openai", at_once=8, per=200, within="1m")


@step(limit=openai)
async def ask(question: str) -> str: ...
```

`[limits.openai]` in `helmr.toml` declares the same for operators, and overrides the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from helmr.errors import BadDefinition, BadDuration, UsageError
from helmr.wire.durations import Duration, seconds

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
AT_ONCE_MAX = 10_000
PER_MAX = 1_000_000
WITHIN_MIN_S, WITHIN_MAX_S = 1.0, 86_400.0

CLOSED_MAX_S = 86_400.0
"""The longest time that a provider's Retry-After closes a limit: a day."""

KEYS = ("at_once", "per", "within", "unlimited")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit by its name; steps and tasks that name it share it, in all sessions of a runtime.

    Args:
        name: Letters, digits and `._-`.
        at_once: Most that run at the same time.
        per: Most that begin in any `within`.
        within: A duration from a second to a day, like `"1m"`.
        unlimited: States on purpose that there is no bound; a limit without any bound is an error.

    Raises:
        BadDefinition: It has no bound, or one out of range.
    """

    name: str
    at_once: int | None = None
    per: int | None = None
    within: Duration | None = None
    unlimited: bool = False

    def __post_init__(self) -> None:
        """Refuse bounds that can't be enforced."""
        trouble = self._trouble()
        if trouble is not None:
            raise BadDefinition(
                f"limit {str(self.name)[:64]!r}: {trouble}",
                hint='Write at_once = 8, or per = 200 and within = "1m", or both, or unlimited = true.',
            )

    def _trouble(self) -> str | None:
        if NAME.fullmatch(str(self.name)) is None:
            return "its name is of letters, digits and ._-, at most 64"
        says_rate = (self.per is not None, self.within is not None)
        if self.unlimited:
            return "it is unlimited, and bounded" if self.at_once or any(says_rate) else None
        if self.at_once is None and not any(says_rate):
            return "nothing bounds it"
        if not all(says_rate) and any(says_rate):
            return "per and within belong together"
        if self.at_once is not None and not _is_count(self.at_once, AT_ONCE_MAX):
            return f"at_once is {self.at_once!r}, not 1 to {AT_ONCE_MAX}"
        if self.per is not None and not _is_count(self.per, PER_MAX):
            return f"per is {self.per!r}, not 1 to {PER_MAX}"
        try:
            is_short = self.within is not None and self.within_s < WITHIN_MIN_S
        except BadDuration as error:
            return f"within: {error.message}"
        return "within is at least 1s" if is_short else None

    @property
    def within_s(self) -> float:
        """Seconds in which `per` may begin; 0 without `within`."""
        return seconds(self.within, maximum_s=WITHIN_MAX_S) if self.within is not None else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the limit as a table of `helmr.toml`."""
        found = {
            "at_once": self.at_once,
            "per": self.per,
            "within": self.within_s or None,
            "unlimited": self.unlimited or None,
        }
        return {key: value for key, value in found.items() if value is not None}


class LimitClosed(Exception):
    """Raise this in a step with a limit when its provider rejects more calls for now, as a 429 with Retry-After does.

    The limit closes for that time, for every step and task that names it. The step is then tried again, under another
    permit; this does not count as one of its tries.
    """

    def __init__(
        self, for_s: Duration, message: str = "the provider takes no more for now"
    ) -> None:
        super().__init__(message)
        self.for_s = seconds(for_s, maximum_s=CLOSED_MAX_S)


LimitName: TypeAlias = str | Limit
"""Values that `limit=` accepts."""


IN_ADAPTERS: dict[str, Limit] = {}
"""Limits of this process that adapters of agent frameworks hold, which scanning a task module can't find."""


def limit_name(limit: LimitName | None, what: str) -> str | None:
    """Return the name of the limit that `limit=` got.

    Raises:
        BadDefinition: It can't be a limit's.
    """
    name = limit.name if isinstance(limit, Limit) else limit
    if name is not None and NAME.fullmatch(str(name)) is None:
        raise BadDefinition(f"{what}: limit is {name!r}, not a Limit or the name of one")
    return name


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def read_limits(table: Any, where: str) -> dict[str, Limit]:
    """The limits in the table `[limits]`, by name.

    Raises:
        UsageError: It says something else.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: [limits] holds tables", hint="Write [limits.NAME].")
    found: dict[str, Limit] = {}
    for name, said in table.items():
        if not isinstance(said, Mapping) or not said.keys() <= set(KEYS):
            raise UsageError(
                f"{where}: [limits.{name}] takes {', '.join(KEYS)}",
                hint='Write at_once = 8, or per = 200 and within = "1m".',
            )
        if not isinstance(said.get("unlimited", False), bool):
            raise UsageError(f"{where}: unlimited of [limits.{name}] is true or false")
        try:
            found[name] = Limit(name, **said)
        except BadDefinition as error:
            raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
    return found
