"""Tasks that ask for every text of `tests.forms.spellings`, each in a field of its own."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, create_model

from helmr import streams, task
from helmr_runtime.catalog import Registry
from tests.forms.spellings import SPELT, TYPES

TYPED: dict[str, tuple[str, str]] = {
    f"{form.replace('-', '')}_{place}": typed
    for form, spelt in SPELT.items()
    for place, typed in enumerate(spelt.items())
}
"""By field: what is typed, and what is sent."""
FORM_OF = {
    f"{form.replace('-', '')}_{place}": form for form, spelt in SPELT.items() for place in range(len(spelt))
}  # fmt: skip
_FIELDS: dict[str, Any] = {name: (TYPES[FORM_OF[name]], ...) for name in TYPED}
All: type[BaseModel] = create_model("All", **_FIELDS)

declared = streams.input("spelt-declared", schema=All)
own = streams.input("spelt-own", schema=dict)


@task
async def spell(payload: str) -> bool:
    """Asks by the stream's type, or by a schema of the wait's own."""
    if payload == "declared":
        return (await declared.wait(subject="All?")).ok
    return (await own.wait(subject="All?", schema=All)).ok


REGISTRY = Registry([spell], modules=["tests.http.spelling_tasks"], code_hash="code-spell")
