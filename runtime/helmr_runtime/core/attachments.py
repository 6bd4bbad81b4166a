"""Files of a session: which its entries name, and where their pieces lie. Pure (S-143)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from helmr.models.attachments import STORE_STEP
from helmr.wire import ids
from helmr_runtime.core.entries import Entry, EntryKind

FOLDER = "attachments/"
"""Begins the name of each piece in the store."""

_PIECE = re.compile(
    rf"{FOLDER}({ids.SESSION}_[0-9a-z]{{26}})/({ids.ATTACHMENT}_[0-9a-z]{{26}})/\d{{5}}"
)


def piece_key(session_id: str, attachment_id: str, number: int) -> str:
    """Return the name of a piece in the store. Every id in it is checked by its caller."""
    return f"{folder_of(session_id)}{attachment_id}/{number:05}"


def folder_of(session_id: str) -> str:
    """Return what the names of all of a session's pieces begin with."""
    return f"{FOLDER}{session_id}/"


def owner_of(key: str) -> tuple[str, str] | None:
    """Return session and file of a piece; None for what is no piece."""
    found = _PIECE.fullmatch(key)
    return (found[1], found[2]) if found is not None else None


def stored_in(body: Mapping[str, Any]) -> str | None:
    """Return the id of the file that the value of a storing step names; None if it names none."""
    value = body.get("value")
    found = value.get("id") if isinstance(value, Mapping) else None
    is_id = isinstance(found, str) and found.startswith(f"{ids.ATTACHMENT}_")
    return found if is_id else None


def stored_ids(entries: Iterable[Entry]) -> list[str]:
    """Return the ids of the files that the entries of one session store, in order."""
    storing: set[tuple[str | None, int | None]] = set()
    found: list[str | None] = []
    for entry in entries:
        at = entry.run_id, entry.op
        if entry.kind is EntryKind.STEP_STARTED and entry.body["name"] == STORE_STEP:
            storing.add(at)
        elif entry.kind is EntryKind.STEP_SUCCEEDED and at in storing:
            found.append(stored_in(entry.body))
    return [one for one in found if one is not None]
