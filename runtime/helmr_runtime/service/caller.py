"""A caller acts by a principal, under an operation id, with what its secret lets it do (S-51, S-61)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from helmr.wire import ids
from helmr.wire.roles import Role
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id, and what its secret lets it do.

    A caller that gave no id gets a fresh one: retries by the runtime then act once, though the
    caller can't repeat the call.

    Attributes:
        principal: The acting principal.
        operation_id: The call acts once under this id. Code that reads it from a request has checked its form.
        role: The role of its key; None without one.
        public_token: The public token that it came with instead, good for one thing only.
        identity: The person, if their identity is proven.
    """

    principal: Principal
    operation_id: str = field(default_factory=partial(ids.new_id, ids.OPERATION))
    role: Role | None = None
    public_token: ScopedToken | None = None
    identity: Identity | None = None

    def operation(self, name: str, *parts: Any) -> OperationKey:
        """The operation of this call; its hash covers the name, the target and the request.

        Args:
            name: The operation's name in the service.
            parts: Ids of its target, then the content of the request, JSON types only.
        """
        return OperationKey(
            id=self.operation_id, request_hash=jsontext.same_data_hash([name, *parts])
        )

    def fresh(self) -> Caller:
        """The caller under an operation id of its own: one request may write several entries."""
        return Caller(self.principal, role=self.role, identity=self.identity)

    @property
    def may_override(self) -> bool:
        """True if the caller may answer waits that are reserved for others, with a reason (S-112)."""
        return self.role is Role.ADMIN

    @property
    def public_token_id(self) -> str | None:
        """The public token that the call came with."""
        return self.public_token.id if self.public_token is not None else None
