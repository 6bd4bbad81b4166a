"""A wait while it is asked on a terminal, and the answer that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helmr.drafts import AnswerDraft
from helmr.forms import Built, Form, Kind, first_cells, present, pretty
from helmr.forms.questions import Questions
from helmr.forms.template import template
from helmr.models import WaitInfo


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was given and has not been accepted."""

    wait: WaitInfo
    data: Any
    shown: str
    """Its JSON without secrets, on one line."""
    draft: AnswerDraft
    operation_id: str
    override_claim: bool = False
    """It is sent although another is at the wait, of which the person was told."""


@dataclass(slots=True)
class Asking:
    """A wait that is being asked."""

    wait: WaitInfo
    form: Form
    questions: Questions
    raw: str | None = None
    """What was written as JSON and does not fit the fields."""
    operation_id: str | None = None
    """Of a send whose outcome nobody knows."""
    is_claimed: bool = False
    """By the person who is asked."""
    was_told: bool = False
    """Of another's claim."""

    @property
    def has_draft(self) -> bool:
        """Whether anything differs from an untouched form."""
        return self.raw is not None or self.questions.cells != first_cells(self.form)

    @property
    def sees_another(self) -> bool:
        """Whether the person sees that another is at the wait."""
        return self.was_told or (self.wait.claim is not None and not self.is_claimed)

    def begin_again(self) -> None:
        """From the first field, with what was entered."""
        self.questions = Questions(self.form, self.questions.cells)

    def built(self) -> Built:
        """The answer as far as it was entered."""
        return Questions(self.form, self.questions.cells).built()

    def draft(self) -> AnswerDraft:
        """What is kept of it, without secrets."""
        cells = self.questions.cells
        there = present(self.form.root, cells)
        secrets = {one.key for one in there if one.kind is Kind.SECRET}
        return AnswerDraft(
            wait_id=self.wait.id,
            schema_hash=self.form.schema_hash,
            cells={key: cell for key, cell in cells.items() if key not in secrets},
            raw=None if self.form.has_secret else self.raw,
            operation_id=self.operation_id,
            schema=self.form.schema,
        )

    def offered(self) -> str:
        """What stands in the editor where the decision goes: `approve | decline`."""
        decision = self.form.decision
        return " | ".join(one.label for one in decision.choices) if decision is not None else ""

    def is_undecided(self, data: Any) -> bool:
        """Whether this JSON still offers the decision in place of making it."""
        decision = self.form.decision
        if decision is None or not isinstance(data, dict) or len(decision.choices) < 2:
            return False
        return data.get(decision.name) == self.offered()

    def text(self) -> tuple[str, str]:
        """What the editor begins with, and the suffix of its file: a text as it is, else JSON."""
        root = self.form.root
        if root.kind in (Kind.TEXT, Kind.LONG):
            cell = self.questions.cells.get(root.key, "")
            return (cell if isinstance(cell, str) else ""), ".md"
        if self.raw is not None:
            return self.raw, ".json"
        built = self.built()
        decision = self.form.decision
        if decision is not None and decision.path and list(built.problems) == [decision.key]:
            # Not one of the choices: nobody made one yet.
            return pretty({decision.name: self.offered(), **built.data}), ".json"
        schema = self.form.schema if isinstance(self.form.schema, dict) else {}
        return pretty(template(schema, schema) if built.problems else built.data), ".json"
