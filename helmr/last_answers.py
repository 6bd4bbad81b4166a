"""What one person answered last, by what was asked: kept on their machine, so that the next one alike begins with it.

Waits are alike that one task asks on one stream, and whose correlation ids begin alike: `github:acme/api#2204` as
`github:acme/api#17`. Only what was accepted is kept, and no secret.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from helmr.drafts import AnswerDraft, DraftStore
from helmr.forms import Cells, Form, carry, form_of
from helmr.models import WaitInfo

_LAST_PART = re.compile(r"[0-9]+$|(?<=[^A-Za-z0-9])[A-Za-z0-9]+$")


class LastAnswers:
    """One file for each kind of question, mode 0600; the oldest go when there are many (`DRAFTS_MAX`).

    Args:
        folder: Where they are; made when the first answer is kept.
        person: Whose answers.
    """

    def __init__(self, folder: Path, person: str) -> None:
        self._store = DraftStore(folder)
        self._person = person

    def keep(self, wait: WaitInfo, draft: AnswerDraft) -> None:
        """This was accepted: it takes the place of the one before.

        Raises:
            OSError: It can't be kept.
        """
        name = self._name(wait)
        self._store.discard(name)
        self._store.save(replace(draft, wait_id=name, operation_id=None))

    def cells(self, wait: WaitInfo, form: Form) -> Cells | None:
        """What fits the form of the last answer to a wait alike; None without one, or if it was typed as JSON."""
        found = self._store.load(self._name(wait), form.schema_hash)
        if found is None or found.raw is not None:
            return None
        return carry(form_of(found.schema), found.cells, form)[0]

    def _name(self, wait: WaitInfo) -> str:
        what = (self._person, wait.task, wait.stream or wait.kind.value, prefix(wait))
        return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]


def prefix(wait: WaitInfo) -> str:
    """What its correlation id has in common with those of waits alike: all but its last number or word."""
    return _LAST_PART.sub("", wait.correlation_id or "")
