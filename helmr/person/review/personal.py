"""Stores one person's files on their machine: drafts, snoozes, last answers, bulk plans; no runtime knows them.

- A draft is an answer begun and not sent, so that a crash, a lost link or a late colleague costs no text. It belongs
  to one wait and one schema, and keeps the operation id of a send whose outcome is unknown, so that the next try is
  the same operation and can't be answered twice (S-61). No secret is ever in it.
- A snooze hides a wait from one reader until it is over; it never hides one that is about to end: a wait is back at
  the latest `BACK_BEFORE` its deadline.
- The last answer to a wait fills the form of the next similar one: same task and stream, and a correlation id that
  begins alike (`github:acme/api#2204` as `github:acme/api#17`). Only what was accepted is kept.

The console and `helmr next` read the same files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from helmr.errors import UsageError
from helmr.models import WaitInfo
from helmr.person.forms import Blank, Cell, Cells, Form, carry, form_of, revived
from helmr.person.review.bulk import BulkPlans
from helmr.private_file import write_private

DRAFTS_MAX = 2_000
"""More than a pending batch has."""
DRAFT_BYTES_MAX = 1_500_000


@dataclass(frozen=True, slots=True)
class AnswerDraft:
    """An answer typed and not sent. `raw` is set when it was typed as JSON."""

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

    def save(self, *drafts: AnswerDraft) -> None:
        """Keep each of these drafts in place of the one before."""
        for draft in drafts:
            cells = {key: _kept(cell) for key, cell in draft.cells.items()}
            text = json.dumps({**asdict(draft), "cells": cells})
            if len(text) <= DRAFT_BYTES_MAX:
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
        """A file that can't be read is not a draft; it is left where it is."""
        try:
            if path.stat().st_size > DRAFT_BYTES_MAX:
                return None
            parts = json.loads(path.read_text(encoding="utf-8"))
            return _draft(parts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Beginning:
    """Initial content of a form, and a note on its origin."""

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


SNOOZES_MAX = 1_000
BACK_BEFORE = timedelta(minutes=10)
LONGEST = timedelta(days=30)
_TEXT_MAX = 64


def back_at(wait: WaitInfo, snooze: timedelta, now: datetime) -> datetime:
    """Return the time at which a wait that is snoozed now comes back.

    Raises:
        UsageError: It would be at once, as its deadline is near; or the time is none, or longer than `LONGEST`.
    """
    if not timedelta(0) < snooze <= LONGEST:
        raise UsageError("a wait is snoozed for 1s to 30d")
    latest = wait.ends_at - BACK_BEFORE if wait.ends_at is not None else None
    if latest is not None and latest <= now:
        raise UsageError(
            "it ends too soon to snooze it",
            hint=f"Snoozed waits come back {BACK_BEFORE.seconds // 60}m before they end.",
        )
    return min(now + snooze, latest) if latest is not None else now + snooze


class Snoozes:
    """One file for each wait, mode 0600, so that two programs never write the same one.

    Args:
        folder: Their folder; made with the first snooze.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def snooze(self, wait_id: str, until: datetime) -> None:
        """Hide this wait until then. Of more than `SNOOZES_MAX` those that end first are given up.

        Raises:
            OSError: It can't be kept.
        """
        write_private(self._path(wait_id), until.isoformat())
        found = sorted(self._all().items(), key=lambda one: one[1])
        for old, _ in found[: max(0, len(found) - SNOOZES_MAX)]:
            self.wake(old)

    def wake(self, wait_id: str) -> None:
        """Show it again."""
        self._path(wait_id).unlink(missing_ok=True)

    def read(self, now: datetime) -> Mapping[str, datetime]:
        """The waits that are snoozed, and until when. Those that are over are forgotten."""
        found = self._all()
        for wait_id in [one for one, until in found.items() if until <= now]:
            del found[wait_id]
            with suppress(OSError):
                self.wake(wait_id)
        return found

    def _all(self) -> dict[str, datetime]:
        found = {}
        for path in self._folder.glob("*.until"):
            until = _until(path)
            if until is not None:
                found[path.stem] = until
        return found

    def _path(self, wait_id: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', wait_id)[:100]}.until"


def _until(path: Path) -> datetime | None:
    """Read the end of a snooze; None, which hides nothing, if the file can't be read."""
    try:
        with path.open(encoding="utf-8") as file:
            found = datetime.fromisoformat(file.read(_TEXT_MAX).strip())
    except (OSError, ValueError):
        return None
    return found if found.tzinfo is not None else None


_LAST_PART = re.compile(r"[0-9]+$|(?<=[^A-Za-z0-9])[A-Za-z0-9]+$")


class LastAnswers:
    """One file for each kind of question, mode 0600; the oldest go when there are many (`DRAFTS_MAX`).

    Args:
        folder: Their folder; made with the first answer.
    """

    def __init__(self, folder: Path) -> None:
        self._store = DraftStore(folder)

    def keep(self, wait: WaitInfo, draft: AnswerDraft) -> None:
        """Replace the last answer to waits like this one.

        Raises:
            OSError: It can't be kept.
        """
        name = self._name(wait)
        self._store.discard(name)
        self._store.save(replace(draft, wait_id=name, operation_id=None))

    def cells(self, wait: WaitInfo, form: Form) -> Cells | None:
        """Return the cells of the last answer to a similar wait that fit; None without one, or if it was JSON."""
        found = self._store.load(self._name(wait), form.schema_hash)
        if found is None or found.raw is not None:
            return None
        return carry(form_of(found.schema), found.cells, form)[0]

    def _name(self, wait: WaitInfo) -> str:
        what = (wait.task, wait.stream or wait.kind.value, prefix(wait))
        return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]


def prefix(wait: WaitInfo) -> str:
    """Return the part of a correlation id that similar waits share: all but its last number or word."""
    return _LAST_PART.sub("", wait.correlation_id or "")


@dataclass(frozen=True, slots=True)
class PersonalFiles:
    """Stores of one person, in a folder of their own: colleagues may share a machine's user."""

    drafts: DraftStore
    snoozes: Snoozes
    last: LastAnswers
    bulk: BulkPlans

    @classmethod
    def within(cls, folder: Path, person: str) -> PersonalFiles:
        """Return this person's stores, inside the folder of all people."""
        own = folder / "people" / _folder_of(person)
        return cls(
            DraftStore(own / "drafts"),
            Snoozes(own / "snoozed"),
            LastAnswers(own / "answers"),
            BulkPlans(own / "batches"),
        )


def _folder_of(person: str) -> str:
    """A name as a folder: as it is if it can be one, else with a hash, so that no two people share one."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", person)[:40]
    if plain == person and plain:
        return plain
    return f"{plain}.{hashlib.sha256(person.encode()).hexdigest()[:12]}"
