"""A caller acts by a principal, under an operation id, with what its secret lets it do (S-51, S-61)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from helmr import ids
from helmr.roles import Role
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id, and what its secret lets it do.

    A caller that gave no id gets a fresh one: tries of the runtime itself then act once, though the
    caller can't repeat the call.

    Attributes:
        principal: Who acts.
        operation_id: Under which the call acts once; well formed, as whatever has read it from a request has seen.
        role: Of its key; None without one.
        public_token: That it came with instead, which is for one thing only.
        identity: The person, if it is proven that it is one.
    """

    principal: Principal
    operation_id: str = field(default_factory=partial(ids.new_id, ids.OPERATION))
    role: Role | None = None
    public_token: ScopedToken | None = None
    identity: Identity | None = None

    def operation(self, name: str, *parts: Any) -> OperationKey:
        """The operation of this call; its hash covers what is asked, of what, and with what.

        Args:
            name: The operation's name in the service.
            parts: Ids of what it is about, then what the request holds, JSON types only.
        """
        return OperationKey(
            id=self.operation_id, request_hash=jsontext.same_data_hash([name, *parts])
        )

    def fresh(self) -> Caller:
        """The caller under an operation id of its own: one request may write several entries."""
        return Caller(self.principal, role=self.role, identity=self.identity)

    @property
    def may_override(self) -> bool:
        """The caller may answer what others are to answer, with a reason (S-112)."""
        return self.role is Role.ADMIN

    @property
    def public_token_id(self) -> str | None:
        """The public token that the call came with."""
        return self.public_token.id if self.public_token is not None else None
