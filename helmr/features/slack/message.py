"""Draws a card as a message: what is asked and what helps to decide, buttons while it is open, its end after.

One press answers where the form takes a single choice. What does not fit into a message ends with a note; if that is
part of what is approved (facts, the call), the message has no such buttons: people approve what they were shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from helmr.features.slack import limits, texts
from helmr.features.slack.asking import can_show, choice_names, first_choice
from helmr.person.card import Card, CardState

CHOICE, ANSWER, PAGE = "helmr.choice", "helmr.answer", "helmr.page"
"""Action ids of buttons; those of choices end with their place."""
ACTIONS: Final = "helmr.actions"
"""The block of the buttons."""
CHOICES_MAX: Final = 5
"""More choices than this are asked in a form."""

_TEXT_MAX: Final = 6_000
"""Of a body and of code in one message."""
_ROWS_MAX: Final = 20
"""Facts in one message's table."""
_FACTS_MAX: Final = 3_000
_LINE_MAX: Final = 500
_LINKS_MAX: Final = 5
_CARDS_MAX: Final = 15
"""Cards in a list."""

_STATES: Final[Mapping[CardState, str]] = {
    CardState.VOTING: "More people must agree",
    CardState.CLAIMED: "Someone is working on it",
}


def message(card: Card, *, page: str | None = None) -> dict[str, Any]:
    """The `text` and `blocks` of a message, for posting and for updating it.

    Args:
        card: The card.
        page: The address of the wait's page.
    """
    blocks = [*heading(card), *_outcome(card)]
    if card.state.is_over:
        return {"text": _fallback(card), "blocks": [*blocks, *_foot(card)]}
    drawn, is_whole = texts_of(card, has_table=True)
    blocks += [*drawn, *_foot(card), *_buttons(card, page, is_whole=is_whole)]
    return {"text": _fallback(card), "blocks": blocks}


def closed(text: str) -> dict[str, Any]:
    """A message whose wait is not known any more: it says so and has no buttons (S-140)."""
    shown = texts.cut(texts.line(text), _LINE_MAX, "…")
    return {
        "text": texts.escape(shown)[: limits.FALLBACK_CHARS_MAX],
        "blocks": [texts.rich(texts.section(texts.said(shown)))],
    }


def listed(cards: Sequence[Card], *, pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """Blocks of a small inbox: a line for each card, with a button that opens its form and one for its page.

    Args:
        cards: The cards, in order.
        pages: The address of each wait's page, by the wait's id.
    """
    if not cards:
        return [texts.rich(texts.section(texts.said("Nothing waits for you.")))]
    blocks: list[dict[str, Any]] = []
    for card in cards[:_CARDS_MAX]:
        lines = [texts.said(texts.cut(texts.line(card.title), _LINE_MAX, "…"), bold=True)]
        for one in (*card.notes, *((card.end,) if card.end else ())):
            lines += [texts.said("\n"), *texts.spoken(one, _LINE_MAX)]
        blocks.append(texts.rich(texts.section(*lines)))
        url, elements = pages.get(card.wait_id), []
        if card.form is not None and not can_show(card.form):
            elements.append(_button(ANSWER, "Answer", _value(card)))
        if url:
            elements.append(_page_button(url))
        if elements:
            blocks.append(_actions(elements, f"{ACTIONS}.{card.wait_id}"))
    if more := len(cards) - _CARDS_MAX:
        said = f"{more} more wait for you in your inbox." if more > 0 else ""
        blocks += [texts.rich(texts.section(texts.said(said)))] if said else []
    return blocks


def home(cards: Sequence[Card], *, pages: Mapping[str, str]) -> dict[str, Any]:
    """The view of the app's home."""
    return {"type": "home", "blocks": listed(cards, pages=pages)}


def inbox(cards: Sequence[Card], *, pages: Mapping[str, str]) -> dict[str, Any]:
    """A message with the same list, for one person's eyes."""
    count = f"{len(cards)} {'question waits' if len(cards) == 1 else 'questions wait'} for you."
    return {
        "text": count if cards else "Nothing waits for you.",
        "blocks": listed(cards, pages=pages),
    }


def texts_of(card: Card, *, has_table: bool) -> tuple[list[dict[str, Any]], bool]:
    """Blocks of what helps to decide, and whether nothing that is approved was cut: facts, the call, the diff.

    Args:
        card: The card.
        has_table: Facts are drawn as a table, which only messages may have.
    """
    drawn = _Drawn()
    _facts(drawn, card, has_table=has_table)
    pieces = []
    for block in card.code:
        shown, is_all = drawn.take(texts.visible(block.text))
        drawn.is_whole = drawn.is_whole and is_all
        pieces += [texts.code(shown, limits.SECTION_CHARS_MAX)] if shown else []
    if pieces:
        drawn.blocks.append(texts.rich(*pieces))
    if card.call is not None:
        said = [f"{word.capitalize()}: {texts.line(does)}" for word, does in card.call.outcomes()]
        shown, is_all = drawn.take("\n".join(said))
        drawn.is_whole = drawn.is_whole and is_all
        _paragraph(drawn.blocks, shown)
    if card.links:
        drawn.blocks.append(_links(card))
    shown, _ = drawn.take(texts.visible(card.body).strip())
    if shown:
        text = texts.block_text(shown, limits.SECTION_CHARS_MAX)
        drawn.blocks.append({"type": "section", "text": text})
    return drawn.blocks, drawn.is_whole


@dataclass(slots=True)
class _Drawn:
    """Blocks so far; `is_whole` while nothing that is approved was cut."""

    blocks: list[dict[str, Any]] = field(default_factory=list)
    is_whole: bool = True
    left: int = _TEXT_MAX

    def take(self, text: str) -> tuple[str, bool]:
        """Return as much of a text as fits, and whether that is all of it."""
        most = min(self.left, limits.SECTION_CHARS_MAX)
        shown = texts.cut(text, most) if most > len(texts.MORE) else ""
        self.left -= len(shown)
        return shown, shown == text


def heading(card: Card) -> list[dict[str, Any]]:
    """Blocks of the question; below a header that can't hold all of it stands a longer part."""
    title = texts.line(card.title) or "Please answer"
    head = {"type": "header", "text": texts.plain_text(title, limits.HEADER_CHARS_MAX)}
    if len(title) <= limits.HEADER_CHARS_MAX:
        return [head]
    return [head, texts.rich(texts.section(texts.said(texts.cut(title, _LINE_MAX))))]


def _outcome(card: Card) -> list[dict[str, Any]]:
    if not card.outcome:
        return []
    first, *rest = texts.spoken(card.outcome, _LINE_MAX)
    text = first["text"]
    bold = texts.said(f"{text[:1].upper()}{text[1:]}", bold=True)
    return [texts.rich(texts.section(bold, *rest))]


def _facts(drawn: _Drawn, card: Card, *, has_table: bool) -> None:
    """The facts, and the arguments that no code shows."""
    rows = [(texts.line(name), texts.visible(value)) for name, value in card.facts]
    if card.call is not None:
        rows.append(("Tool", texts.line(card.call.tool)))
        rows += [(texts.line(one.name), texts.visible(one.now or "")) for one in card.arguments]
    kept: list[tuple[str, str]] = []
    length = 0
    for name, value in rows[:_ROWS_MAX]:
        length += len(name) + len(value)
        if length > _FACTS_MAX:
            break
        kept.append((name or "(no name)", value or "(empty)"))
    if kept and has_table:
        cells = [[{"type": "raw_text", "text": one} for one in row] for row in kept]
        drawn.blocks.append({"type": "table", "rows": cells})
    else:
        _paragraph(drawn.blocks, "\n".join(f"{name}: {value}" for name, value in kept))
    if len(kept) < len(rows):
        drawn.is_whole = False
        _paragraph(drawn.blocks, f"{len(rows) - len(kept)} more facts {texts.MORE}")


def _links(card: Card) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for one in card.links[:_LINKS_MAX]:
        label = texts.cut(texts.line(one.label), limits.BUTTON_CHARS_MAX, "…")
        parts += [texts.said(f"{label}: "), texts.link(one.url), texts.said("\n")]
    if len(card.links) > _LINKS_MAX:
        parts.append(texts.said(f"{len(card.links) - _LINKS_MAX} more links {texts.MORE}"))
    return texts.rich(texts.section(*parts))


def _foot(card: Card) -> list[dict[str, Any]]:
    """Who asks and who it is for, who works on it, and what ends it first."""
    sections: list[dict[str, Any]] = []
    about = [("Asked by", card.asked_by), *(card.about if not card.state.is_over else ())]
    for label, value in about:
        if value:
            said = texts.cut(texts.line(value), _LINE_MAX)
            sections.append(texts.section(texts.said(f"{label}: {said}\n")))
    lines = [*card.notes[:5], *((card.end,) if card.end else ())]
    sections += [texts.section(*texts.spoken(one, _LINE_MAX), texts.said("\n")) for one in lines]
    return [texts.rich(*sections)] if sections else []


def _paragraph(blocks: list[dict[str, Any]], text: str) -> None:
    if text:
        blocks.append(texts.rich(texts.section(texts.said(text))))


def _buttons(card: Card, page: str | None, *, is_whole: bool) -> Iterator[dict[str, Any]]:
    elements: list[dict[str, Any]] = []
    note = _why_no_form(card, is_whole=is_whole)
    if card.form is not None and not note:
        asked = first_choice(card.form)
        if asked is not None and card.is_all_said and len(asked.choices) <= CHOICES_MAX:
            elements += [
                _button(f"{CHOICE}.{place}", name, _value(card, place))
                for place, name in enumerate(choice_names(asked))
            ]
        if not elements or len([*card.form.leaves()]) > 1:
            elements.append(_button(ANSWER, "Answer…", _value(card)))
    if page:
        elements.append(_page_button(page))
    if note:
        where = "Open the page to answer." if page else "Answer it with `helmr next`."
        yield texts.rich(texts.section(texts.said(f"{note} {where}")))
    if elements:
        yield _actions(elements, ACTIONS)


def _why_no_form(card: Card, *, is_whole: bool) -> str:
    if card.is_signed:
        return "Its answer is signed with your key."
    if not is_whole:
        return "Not all of what is asked fits here."
    why = can_show(card.form) if card.form is not None else ""
    return f"{why[:1].upper()}{why[1:]}." if why else ""


def _actions(elements: list[dict[str, Any]], block_id: str) -> dict[str, Any]:
    return {"type": "actions", "block_id": block_id, "elements": elements}


def _button(action_id: str, label: str, value: str) -> dict[str, Any]:
    text = texts.plain_text(label, limits.BUTTON_CHARS_MAX)
    return {"type": "button", "action_id": action_id, "text": text, "value": value}


def _page_button(url: str) -> dict[str, Any]:
    return {**_button(PAGE, "Open the page", PAGE), "url": url}


def _value(card: Card, choice: int | None = None) -> str:
    """The value of a button: the wait, the form that was drawn, and the place of the choice."""
    assert card.form is not None, "buttons answer a form"
    value: dict[str, Any] = {"wait": card.wait_id, "form": card.form.schema_hash}
    return json.dumps(value if choice is None else {**value, "choice": choice})


def _fallback(card: Card) -> str:
    """The line of a notification."""
    said = texts.unmarked(card.outcome) if card.outcome else ""
    said = said[:1].upper() + said[1:] or _STATES.get(card.state, "")
    title = texts.line(card.title) or "Please answer"
    text = texts.cut(f"{said}: {title}" if said else title, _LINE_MAX, "…")
    return texts.escape(text)
