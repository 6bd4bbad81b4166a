"""Port of an object store that can hold a log of commits: five calls and two promises.

The promises: `create` succeeds only if no object has that name, whatever others try; and an object is replaced only if
it is still the version that was read. A call whose answer was lost may have taken effect. Reads see what was stored;
lists may lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class ObjectExists(Exception):
    """There is an object with that name, or the store says so; the caller's own may be it."""


class ObjectChanged(Exception):
    """The object is another than the one that was read."""


class Objects(Protocol):
    """A store of objects by name. Every method blocks, for a bounded time; all can be called from several threads.

    Each raises StoreUnavailable if the store does not answer or refuses; of what changes something it is not known then
    whether it did.
    """

    @property
    def name(self) -> str:
        """Name in messages: its URL, without secrets."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store an object; durable when this returns.

        Raises:
            ObjectExists: There is one.
        """
        ...

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object and its tag, which changes with it; None if there is none."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Objects, None for each that is not there; in no order of time."""
        ...

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        """Store an object in place of the one with that tag, or of whatever is there if it is None; its own tag.

        Raises:
            ObjectChanged: There is another.
        """
        ...

    def keys(self, prefix: str) -> Iterable[str]:
        """The names that begin so, in any order; what was stored or deleted lately may lack or show."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are none."""
        ...

    def durability(self) -> str | None:
        """Describe how the store keeps a commit; None if it does not say."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
