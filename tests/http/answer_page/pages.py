"""Pages and schemas that several tests look at."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from helmr.approvals import approval_schema
from helmr.person.forms.tool_call import call_body
from helmr_runtime.http.answer_page import AnswerPage, PageState, build_form, first_values

NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)


class Address(BaseModel):
    street: str
    zip: str = Field(pattern="^[0-9]{5}$", description="Five digits.")


class Card(BaseModel):
    kind: Literal["card"]
    last_digits: str = Field(max_length=4)


class Invoice(BaseModel):
    kind: Literal["invoice"]
    days: int = Field(30, ge=1, le=90)


class Order(BaseModel):
    """Everything that a form can ask."""

    decision: Literal["approve", "reject", "edit"] = Field(description="What should happen?")
    note: str | None = None
    amount: float = Field(ge=0, le=5000)
    urgent: bool
    silent: bool | None = None
    address: Address | None = Field(None, title="Delivery address")
    payment: Annotated[Card | Invoice, Field(discriminator="kind")]
    tags: list[Literal["new", "old"]] = []
    reviewers: list[str] = []
    size: int | str = 3
    extra: dict[str, int] = {}
    country: Literal["AT", "BE", "CH", "DE", "DK", "ES", "FR", "GB", "IT", "NL"]


CALLED: dict[str, Any] = {"customer": "ada", "amount": {"cents": 4200, "currency": "EUR"}}


def call_page(state: PageState = PageState.OPEN, **changes: Any) -> AnswerPage:
    """A page that asks leave for the call of a tool."""
    arguments = changes.pop("arguments", CALLED)
    tool = changes.pop("tool", "refund")
    form = build_form(
        approval_schema(tool), initial={"decision": "approve", "arguments": arguments}
    )
    parts = {"subject": f"Call {tool}?", "body": call_body(tool, arguments), "form": form}
    return page(state, **{**parts, "values": first_values(form), **changes})


def page(state: PageState = PageState.OPEN, **changes: Any) -> AnswerPage:
    """A page with everything on it."""
    parts: dict[str, Any] = {
        "state": state,
        "now": NOW,
        "asked_by": "publish-review",
        "subject": "Publish the review of octo/hello#7?",
        "body": "It has **three** remarks.",
        "asked_at": NOW - timedelta(minutes=12),
        "deadline_at": NOW + timedelta(days=2),
        "form": build_form(Order.model_json_schema()),
        "nonce": "the-nonce",
    }
    return AnswerPage(**{**parts, **changes})


class Sold(BaseModel):
    """One row: texts, a number, a day, a choice, yes or no."""

    sku: str
    day: date
    count: int = Field(ge=1, le=99)
    size: Literal["S", "M", "L"] | None = None
    whole: bool


class Parcel(BaseModel):
    """Choices of short words, and a list of rows."""

    decision: Literal["refund", "replace", "reject"]
    reason: Literal["damaged", "delivered late", "something else"] | None = None
    street: str
    note: str
    sold: list[Sold]


SOLD = [
    {"sku": f"A{n}", "day": "2026-11-24", "count": n, "size": "M", "whole": False}
    for n in (1, 2, 3)
]


def parcel_page(**changes: Any) -> AnswerPage:
    """A page with a table of three rows."""
    form = build_form(Parcel.model_json_schema(), initial={"sold": SOLD})
    return page(**{"form": form, "values": first_values(form), **changes})
