"""Tags and metadata as callers give them: a text is not a list of tags, and a list no object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from helmr.errors import UsageError


def tag_list(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags.

    Raises:
        UsageError: It is one text, whose letters would be the tags.
    """
    if isinstance(tags, str):
        raise UsageError("tags are a list of texts", hint=f"Write tags=[{tags[:64]!r}].")
    return tuple(tags)


def metadata_object(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata, empty if there is none.

    Raises:
        UsageError: It is not an object.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise UsageError(
            f"metadata is an object of JSON, not {type(metadata).__name__}",
            hint='Write metadata={"key": …}.',
        )
    return dict(metadata)
