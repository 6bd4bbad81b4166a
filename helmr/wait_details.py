"""What a wait says to people and about itself, as the SDK hands it to the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class _Unset(Enum):
    """The absence of a value, where None is one."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitDetails:
    """What a wait says to people and about itself; JSON types only (`helmr.wait_options`).

    Attributes:
        schema: JSON Schema that answers to this wait must fit; of a token wait, its completions from now on.
        shown_digest: Digest of the JSON Schema that people are shown, this one or the stream's.
        on_decline: The answer of whoever declines.
        escalation: Escalation steps as JSON (`helmr.escalation.escalation_json`).
        compare: A replay compares subject, body, schema and correlation id with what is recorded.
    """

    subject: str | None = None
    body: str | None = None
    schema: Any = None
    shown_digest: str | None = None
    initial: Any = None
    on_decline: Any = UNSET
    priority: str = "normal"
    tags: tuple[str, ...] = ()
    assignee: str | None = None
    escalation: tuple[Mapping[str, Any], ...] = ()
    compare: bool = True


NOTHING_SAID: Final = WaitDetails()
