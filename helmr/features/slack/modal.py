"""The view that asks a wait's form: the question, what helps to decide, a block for each field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from helmr.features.slack import limits, texts
from helmr.features.slack.asking import can_show, field_blocks, missed
from helmr.features.slack.entered import begun, cells_of
from helmr.features.slack.message import heading, texts_of
from helmr.person.card import Card

ANSWER_VIEW: Final = "helmr.answer"
"""The callback id of the view."""


def answer_view(
    card: Card, *, page: str | None = None, channel: str = "", message_ts: str = ""
) -> dict[str, Any]:
    """The view for a card whose wait the person may see; without a button that sends if it can't ask the form.

    Args:
        card: The card in full, open, and with a form.
        page: The address of the wait's page.
        channel: The channel of the message whose button opened it.
        message_ts: That message.
    """
    assert card.form is not None, "a view asks a form"
    origin = {"channel": channel, "ts": message_ts}
    metadata = {"wait": card.wait_id, "form": card.form.schema_hash, **origin}
    return _drawn(card, json.dumps(metadata), None, page)


def redrawn(card: Card, view: Mapping[str, Any], *, page: str | None = None) -> dict[str, Any]:
    """The view after a box or choice in it that other fields depend on; keeps what was entered.

    Args:
        card: The card, as for `answer_view`.
        view: The view of the payload.
        page: The address of the wait's page.
    """
    state = view.get("state")
    values = state.get("values") if isinstance(state, Mapping) else None
    entered = values if isinstance(values, Mapping) else {}
    return _drawn(card, str(view.get("private_metadata", "")), entered, page)


def _drawn(
    card: Card, metadata: str, state: Mapping[str, Any] | None, page: str | None
) -> dict[str, Any]:
    assert card.form is not None, "a view asks a form"
    shown, is_whole = texts_of(card, has_table=False)
    blocks = [*heading(card), *shown]
    why = can_show(card.form) or ("" if is_whole else "not all of what is asked fits here")
    if why:
        blocks += _elsewhere(f"{why[:1].upper()}{why[1:]}.", page)
        return _view(blocks, metadata, submits=False)
    cells = begun(card.form)
    if state is not None:
        cells = {**cells, **cells_of(card.form, state)}
    blocks += field_blocks(card.form, cells)
    if left_out := missed(card.form):
        names = texts.cut(texts.line(", ".join(left_out)), limits.HEADER_CHARS_MAX, "…")
        blocks += _elsewhere(f"Not asked here: {names}.", page)
    return _view(blocks, metadata, submits=True)


def _elsewhere(text: str, page: str | None) -> list[dict[str, Any]]:
    parts = [texts.said(f"{text} ")]
    parts += [texts.said("Open the page: "), texts.link(page)] if page else []
    return [texts.rich(texts.section(*parts))]


def _view(blocks: list[dict[str, Any]], metadata: str, *, submits: bool) -> dict[str, Any]:
    view = {
        "type": "modal",
        "callback_id": ANSWER_VIEW,
        "private_metadata": metadata,
        "title": texts.plain_text("Your answer", limits.VIEW_TITLE_MAX),
        "close": texts.plain_text("Close", limits.VIEW_TITLE_MAX),
        "blocks": blocks,
    }
    if submits:
        view["submit"] = texts.plain_text("Send answer", limits.VIEW_TITLE_MAX)
    return view
