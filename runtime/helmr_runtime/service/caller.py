"""Who asks, and under which operation id (S-51, S-61)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helmr import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import Operation
from helmr_runtime.core.entries import Principal


def _fresh_operation_id() -> str:
    return ids.new_id(ids.OPERATION)


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id.

    A caller that gave no id gets a fresh one: tries of the runtime itself then act once, though the
    caller can't repeat the call.
    """

    principal: Principal
    operation_id: str = field(default_factory=_fresh_operation_id)

    def operation(self, name: str, *parts: Any) -> Operation:
        """The operation of this call; its hash covers what is asked, of what, and with what.

        Args:
            name: The operation's name in the service.
            parts: Ids of what it is about, then what the request holds, JSON types only.

        Raises:
            BadId: The operation id is none.
        """
        ids.check_id(self.operation_id, ids.OPERATION)
        return Operation(id=self.operation_id, request_hash=jsontext.same_data_hash([name, *parts]))
