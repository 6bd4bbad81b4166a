"""Who asks, and under which operation id (S-51, S-61)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helmr import ids
from helmr.roles import Role
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import Operation
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import PublicToken


def _fresh_operation_id() -> str:
    return ids.new_id(ids.OPERATION)


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id, and what its secret lets it do.

    A caller that gave no id gets a fresh one: tries of the runtime itself then act once, though the
    caller can't repeat the call.

    Attributes:
        principal: Who acts.
        operation_id: Under which the call acts once.
        role: Of its key; None without one.
        public_token: That it came with instead, which is for one thing only.
    """

    principal: Principal
    operation_id: str = field(default_factory=_fresh_operation_id)
    role: Role | None = None
    public_token: PublicToken | None = None

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

    @property
    def public_token_id(self) -> str | None:
        """The public token that the call came with."""
        return self.public_token.id if self.public_token is not None else None
