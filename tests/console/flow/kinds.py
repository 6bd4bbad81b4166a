"""One form for each kind of field, the keys that fill it, and what is then sent: for bursts of keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from helmr import streams, task
from helmr_runtime.catalog import Registry

TAB, SPACE, RIGHT, ENTER, BLANK = "\t", " ", "\x1b[C", "\r", "\x0e"
ROW, NO_ROW, ROW_UP = "\x0f", "\x07", "\x1b[1;5A"
"""Adds a row behind this one, takes this one away, moves it up."""
REVIEW = "\x13"
JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
"""I want, in Persian: with a joiner that its keyboards have a key for."""
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
"""One picture of three, joined."""
FIRST_ROW = ".g"
"""Lets new rows in and goes to the first."""


class Text(BaseModel):
    name: str = Field(max_length=40)
    city: str = Field(max_length=40)


class Number(BaseModel):
    amount: int = Field(ge=0, le=500)
    rate: float


class Choice(BaseModel):
    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=40)


class Boolean(BaseModel):
    sure: bool
    again: bool
    why: str = Field(max_length=40)


class Long(BaseModel):
    reply: str
    sign: str = Field(max_length=40)


class Breadcrumb(BaseModel):
    street: str = Field(max_length=40)
    number: int


class Group(BaseModel):
    address: Breadcrumb
    remark: str = Field(max_length=40)


class Json(BaseModel):
    counts: dict[str, int]
    remark: str = Field(max_length=40)


class Item(BaseModel):
    sku: str = Field(max_length=20)
    qty: int = Field(ge=1)
    checks: list[bool] = Field(default=[], max_length=2)


class Rows(BaseModel):
    items: list[Item]
    remark: str = Field(max_length=40)


class Below(BaseModel):
    name: str = Field(max_length=40)
    city: str = Field(max_length=40)
    items: list[Item]


class Optional(BaseModel):
    note: str | None = Field(default=None, max_length=40)
    reason: Literal["goodwill", "damaged"] = "goodwill"
    count: int | None = None


class Pick(BaseModel):
    country: Literal["at", "be", "ch", "de", "fr", "it", "nl"]
    day: date


class Months(BaseModel):
    """Names of choices that begin like keys of the page: d, s, c, z, u."""

    month: Literal[
        "january", "february", "march", "april", "may", "june",
        "july", "august", "september", "october", "november", "december",
    ]  # fmt: skip
    decision: Literal["approve", "edit", "escalate"]
    note: str | None = Field(default=None, max_length=40)


class Several(BaseModel):
    colours: list[Literal["red", "green", "blue"]]
    remark: str = Field(max_length=40)


class Card(BaseModel):
    kind: Literal["card"]
    number: str = Field(max_length=20)


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str = Field(max_length=34)


class Union(BaseModel):
    pay: Annotated[Card | Bank, Field(discriminator="kind")]
    remark: str = Field(max_length=40)


class Pasted(BaseModel):
    reply: str
    line: str = Field(max_length=40)


@dataclass(frozen=True)
class Kind:
    """A form, what is typed into it without a pause, and the answer that this is."""

    model: type[BaseModel]
    typed: str
    sent: dict[str, Any]


def _pasted(text: str) -> str:
    return f"\x1b[200~{text}\x1b[201~"


KINDS = {
    "text": Kind(Text, f"Elm{TAB}Bern", {"name": "Elm", "city": "Bern"}),
    "number": Kind(Number, f"99{TAB}2.5", {"amount": 99, "rate": 2.5}),
    "choice": Kind(Choice, f"{SPACE}{RIGHT}{SPACE}{TAB}no", {"decision": "reject", "note": "no"}),
    "boolean": Kind(
        Boolean,
        f"{RIGHT}{SPACE}{TAB}{SPACE}{TAB}so",
        {"sure": False, "again": True, "why": "so"},
    ),
    "long": Kind(Long, f"one{ENTER}two{TAB}Ada", {"reply": "one\ntwo", "sign": "Ada"}),
    "group": Kind(
        Group,
        f"Elm{TAB}11{TAB}left",
        {"address": {"street": "Elm", "number": 11}, "remark": "left"},
    ),
    "json": Kind(
        Json,
        f'{{"A11": 3}}{TAB}soon',
        {"counts": {"A11": 3}, "remark": "soon"},
    ),
    "rows": Kind(
        Rows,
        f"{ENTER}A11{TAB}3{ROW}B22{TAB}1{TAB}{ENTER}y{ROW}n{ROW_UP}{TAB * 3}{ROW}"
        f"C33{NO_ROW}{ROW_UP}{TAB * 9}soon",
        {
            "items": [
                {"sku": "B22", "qty": 1, "checks": [False, True]},
                {"sku": "A11", "qty": 3},
            ],
            "remark": "soon",
        },
    ),
    "below": Kind(
        Below,
        f"Elm{TAB}Bern{ROW}A11{TAB}3{ROW}B22{TAB}1",
        {
            "name": "Elm",
            "city": "Bern",
            "items": [{"sku": "A11", "qty": 3}, {"sku": "B22", "qty": 1}],
        },
    ),
    "optional": Kind(
        Optional,
        f"{BLANK}{BLANK}{TAB}{RIGHT}{SPACE}{TAB}7",
        {"note": None, "reason": "damaged", "count": 7},
    ),
    "pick": Kind(Pick, f"{ENTER}ch{ENTER}{TAB}2026-11-24", {"country": "ch", "day": "2026-11-24"}),
    "letters": Kind(
        Months,
        f"dec{ENTER}{TAB}edit{TAB}as said",
        {"month": "december", "decision": "edit", "note": "as said"},
    ),
    "joiners": Kind(
        Long,
        f"{JOINED}{TAB}{FAMILY}",
        {"reply": JOINED, "sign": FAMILY},
    ),
    "several": Kind(
        Several,
        f"{SPACE}{RIGHT}{RIGHT}{SPACE}{TAB}odd",
        {"colours": ["red", "blue"], "remark": "odd"},
    ),
    "union": Kind(
        Union,
        f"{RIGHT}{SPACE}{TAB}CH93{TAB}now",
        {"pay": {"kind": "bank", "iban": "CH93"}, "remark": "now"},
    ),
    "pasted": Kind(
        Pasted,
        f"{_pasted('one')}{ENTER}{_pasted('two')}{TAB}{_pasted('Ada')} L",
        {"reply": "one\ntwo", "line": "Ada L"},
    ),
}


class Which(BaseModel):
    """Which form is asked for, and what it is called."""

    kind: str
    name: str = ""


STREAMS = {name: streams.input(f"kind-{name}", schema=kind.model) for name, kind in KINDS.items()}


@task(id="fill", streams=[*STREAMS.values()])
async def fill(which: Which) -> bool:
    """Asks for one form."""
    return (await STREAMS[which.kind].wait(subject=f"Form {which.kind} {which.name}?")).ok


REGISTRY = Registry([fill], modules=["tests.console.flow.kinds"], code_hash="kinds-1")
