"""Assesses one document: a score from Ray work beside the session; a person reviews what scores low.

`fan_out_job` is the Ray job that starts a session for each of many documents and collects the results as they come.
Needs a Ray cluster with CPUs to spare, see docs/ray.md:

```
helmr up --address auto helmr.examples.fan_out
python -m helmr.examples.fan_out_job --documents 200
```
"""

from __future__ import annotations

from typing import Literal

import ray
from pydantic import BaseModel

from helmr import TaskContext, step, streams, task

SECTIONS = ("Summary", "Risks", "Owner")
"""Sections of a complete document."""

SCORE_MIN = 0.7
"""Below it a person looks at the document."""


class Document(BaseModel):
    """What to assess. `name` is unique in its collection."""

    name: str
    text: str


class Verdict(BaseModel):
    """A reviewer's word on a document that scored low."""

    accept: bool
    note: str | None = None


class Assessment(BaseModel):
    """The outcome. `score` is from 0 to 1."""

    name: str
    score: float
    status: Literal["accepted", "accepted_by_review", "rejected", "not_reviewed"]
    note: str | None = None


review = streams.input("review", schema=Verdict)


@ray.remote
def score_text(text: str) -> float:
    """The share of the sections that the text has; stands for a model that needs a worker of its own."""
    return sum(f"{section}:" in text for section in SECTIONS) / len(SECTIONS)


@step(retries=2)
async def score(document: Document) -> float:
    """Have the text scored on the cluster; recorded once, so a resumed session does not ask again."""
    found: float = await score_text.remote(document.text)
    return found


@task(id="assess-document")
async def assess_document(document: Document, ctx: TaskContext) -> Assessment:
    """Accept what is complete; ask a person about the rest, for a day."""
    found = await score(document)
    if found >= SCORE_MIN:
        return Assessment(name=document.name, score=found, status="accepted")
    missing = [section for section in SECTIONS if f"{section}:" not in document.text]
    asked = await review.wait(
        timeout="1d",
        correlation_id=document.name,
        subject=f"Accept {document.name} without {' and '.join(missing)}?",
        body=document.text,
    )
    if asked.value is None:
        return Assessment(name=document.name, score=found, status="not_reviewed")
    return Assessment(
        name=document.name,
        score=found,
        status="accepted_by_review" if asked.value.accept else "rejected",
        note=asked.value.note,
    )
