"""Answers begun and not sent, kept so that a crash, a lost link or a late colleague costs nobody their text.

A draft belongs to one wait and one schema. It also keeps the operation id of a send whose outcome is unknown,
so that the next try is the same operation and can't be answered twice (S-61). Secrets are never in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helmr.forms import Blank, Cell, Cells, Form, carry, form_of, revived
from helmr.state_dir import write_private

DRAFTS_MAX = 500
DRAFT_BYTES_MAX = 1_500_000


@dataclass(frozen=True, slots=True)
class AnswerDraft:
    """What was typed. `raw` is set when it was typed as JSON."""

    wait_id: str
    schema_hash: str
    cells: Cells = field(default_factory=dict)
    raw: str | None = None
    operation_id: str | None = None
    schema: Any = None
    """The schema it was typed for, so that it can be carried over to a newer one."""


class DraftStore:
    """One file per wait and schema, mode 0600; the oldest go when there are more than `DRAFTS_MAX`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, draft: AnswerDraft) -> None:
        """Keep this draft in place of the one before."""
        parts = {**asdict(draft), "cells": {key: _kept(cell) for key, cell in draft.cells.items()}}
        text = json.dumps(parts)
        if len(text) > DRAFT_BYTES_MAX:
            return
        write_private(self._path(draft.wait_id, draft.schema_hash), text)
        files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[: max(0, len(files) - DRAFTS_MAX)]:
            old.unlink(missing_ok=True)

    def load(self, wait_id: str, schema_hash: str) -> AnswerDraft | None:
        """The draft for this wait: of this schema if there is one, else of another (compare `schema_hash`)."""
        exact = self._read(self._path(wait_id, schema_hash))
        if exact is not None:
            return exact
        for path in sorted(self.folder.glob(f"{_safe(wait_id)}.*.json")):
            other = self._read(path)
            if other is not None:
                return other
        return None

    def discard(self, wait_id: str) -> None:
        """Forget all drafts of a wait."""
        for path in self.folder.glob(f"{_safe(wait_id)}.*.json"):
            path.unlink(missing_ok=True)

    def wait_ids(self) -> frozenset[str]:
        """Waits that have a draft."""
        return frozenset(path.name.split(".")[0] for path in self.folder.glob("*.json"))

    def _path(self, wait_id: str, schema_hash: str) -> Path:
        return self.folder / f"{_safe(wait_id)}.{_safe(schema_hash)}.json"

    def _read(self, path: Path) -> AnswerDraft | None:
        """A file that can't be read is no draft; it is left where it is."""
        try:
            if path.stat().st_size > DRAFT_BYTES_MAX:
                return None
            parts = json.loads(path.read_text(encoding="utf-8"))
            return _draft(parts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a form begins with, and what is said of it."""

    cells: Cells | None = None
    raw: str | None = None
    note: str = ""
    operation_id: str | None = None
    """The operation of a send that had no answer."""


def beginning(draft: AnswerDraft | None, form: Form) -> Beginning:
    """The form as it was left; of a draft for another schema what still fits."""
    if draft is None:
        return Beginning()
    if draft.schema_hash != form.schema_hash:
        cells, dropped = carry(form_of(draft.schema), draft.cells, form)
        rest = f"left out: {', '.join(dropped)}" if dropped else "all of it was taken over"
        return Beginning(cells, note=f"the schema has changed since the draft; {rest}")
    note = "draft restored"
    if draft.operation_id is not None:
        note = "draft restored; its last send had no answer, sending again is the same operation"
    return Beginning(revived(form, draft.cells), draft.raw, note, draft.operation_id)


def _draft(parts: Mapping[str, Any]) -> AnswerDraft:
    return AnswerDraft(
        wait_id=str(parts["wait_id"]),
        schema_hash=str(parts["schema_hash"]),
        cells={str(key): _cell(value) for key, value in parts["cells"].items()},
        raw=None if parts.get("raw") is None else str(parts["raw"]),
        operation_id=None if parts.get("operation_id") is None else str(parts["operation_id"]),
        schema=parts.get("schema"),
    )


def _kept(cell: Cell) -> Any:
    """A blank is an object, so that the typed text "null" stays a text."""
    if isinstance(cell, Blank):
        return {"blank": cell.value}
    return list(cell) if isinstance(cell, tuple) else cell


def _cell(value: Any) -> Cell:
    if isinstance(value, list):
        return tuple(int(part) for part in value)
    if isinstance(value, dict):
        return Blank(value["blank"])
    return value if isinstance(value, int) else str(value)


def _safe(name: str) -> str:
    """Ids go into file names; anything else in one is replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:120]
