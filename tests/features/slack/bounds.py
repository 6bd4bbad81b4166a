"""Slack's bounds for messages and views, and a check of a drawn one. Source: docs.slack.dev, Block Kit reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from helmr.features.slack.limits import (
    BUTTON_CHARS_MAX,
    FALLBACK_CHARS_MAX,
    FEW_OPTIONS_MAX,
    HEADER_CHARS_MAX,
    HINT_CHARS_MAX,
    INPUT_CHARS_MAX,
    OPTION_CHARS_MAX,
    OPTIONS_MAX,
    SECTION_CHARS_MAX,
    VIEW_TITLE_MAX,
)

MESSAGE_BLOCKS_MAX: Final = 50
VIEW_BLOCKS_MAX: Final = 100
MESSAGE_CHARS_MAX: Final = 12_000
"""All text of a message's blocks. Slack refuses somewhat longer ones as `msg_blocks_too_long`, and names no bound."""
CONTEXT_CHARS_MAX: Final = 2_000
LABEL_CHARS_MAX: Final = 2_000
BUTTON_VALUE_MAX: Final = 2_000
BUTTONS_MAX: Final = 25
URL_CHARS_MAX: Final = 3_000
OPTION_VALUE_MAX: Final = 150
GROUPS_MAX: Final = 100
ID_CHARS_MAX: Final = 255
METADATA_CHARS_MAX: Final = 3_000
TABLE_ROWS_MAX: Final = 100
TABLE_COLUMNS_MAX: Final = 20
TABLE_CHARS_MAX: Final = 10_000

_TEXTS: Final[Mapping[str, Mapping[str, int]]] = {
    "section": {"text": SECTION_CHARS_MAX},
    "header": {"text": HEADER_CHARS_MAX},
    "input": {"label": LABEL_CHARS_MAX, "hint": HINT_CHARS_MAX},
    "button": {"text": BUTTON_CHARS_MAX},
    "modal": {"title": VIEW_TITLE_MAX, "submit": VIEW_TITLE_MAX, "close": VIEW_TITLE_MAX},
}
"""Text objects by the type of what holds them."""
_STRINGS: Final[Mapping[str, int]] = {
    "block_id": ID_CHARS_MAX,
    "action_id": ID_CHARS_MAX,
    "callback_id": ID_CHARS_MAX,
    "url": URL_CHARS_MAX,
    "private_metadata": METADATA_CHARS_MAX,
    "initial_value": INPUT_CHARS_MAX,
}
_LISTS: Final[Mapping[str, Mapping[str, int]]] = {
    "actions": {"elements": BUTTONS_MAX},
    "context": {"elements": 10},
    "section": {"fields": 10},
    "radio_buttons": {"options": FEW_OPTIONS_MAX},
    "checkboxes": {"options": FEW_OPTIONS_MAX},
    "static_select": {"options": OPTIONS_MAX, "option_groups": GROUPS_MAX},
    "multi_static_select": {"options": OPTIONS_MAX, "option_groups": GROUPS_MAX},
    "table": {"rows": TABLE_ROWS_MAX},
    "modal": {"blocks": VIEW_BLOCKS_MAX},
    "home": {"blocks": VIEW_BLOCKS_MAX},
    "": {"blocks": MESSAGE_BLOCKS_MAX, "options": OPTIONS_MAX},
}
"""Lists by the type of what holds them; a message and a group of options have no type."""
_INPUTS: Final = ("plain_text_input", "number_input", "email_text_input")


def too_long(drawn: Mapping[str, Any]) -> list[str]:
    """Name the parts of a message or view that are over one of Slack's bounds, or empty where Slack wants text."""
    found = [*_walk(drawn, "")]
    ids = [str(one["block_id"]) for one in drawn.get("blocks", ()) if "block_id" in one]
    found += [f"block_id {one} twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    if "type" not in drawn:
        length = chars(drawn.get("blocks", ()))
        if length > MESSAGE_CHARS_MAX:
            found.append(f"text of all blocks: {length}")
        if not 0 < len(drawn.get("text", "")) <= FALLBACK_CHARS_MAX:
            found.append(f"text: {len(drawn.get('text', ''))}")
    return found


def chars(drawn: Any) -> int:
    """Count the characters of all texts in it."""
    if isinstance(drawn, Mapping):
        own = drawn.get("text")
        rest = (chars(one) for name, one in drawn.items() if name != "text" or one is not own)
        return (len(own) if isinstance(own, str) else chars(own)) + sum(rest)
    return sum(map(chars, drawn)) if isinstance(drawn, list | tuple) else 0


def _walk(drawn: Any, where: str) -> Iterator[str]:
    if isinstance(drawn, list | tuple):
        for place, one in enumerate(drawn):
            yield from _walk(one, f"{where}[{place}]")
    if not isinstance(drawn, Mapping):
        return
    kind = drawn.get("type", "")
    for name, most in _TEXTS.get(kind, {}).items():
        if name in drawn and not 0 < len(drawn[name]["text"]) <= most:
            yield f"{where}.{name}: {len(drawn[name]['text'])}"
    for name, most in _STRINGS.items():
        if name in drawn and len(drawn[name]) > most:
            yield f"{where}.{name}: {len(drawn[name])}"
    for name, most in _LISTS.get(kind, {}).items():
        if name in drawn and not 0 < len(drawn[name]) <= most:
            yield f"{where}.{name}: {len(drawn[name])}"
    if "value" in drawn:
        is_button = kind == "button"
        most = BUTTON_VALUE_MAX if is_button else OPTION_VALUE_MAX
        label = OPTION_CHARS_MAX if not is_button else BUTTON_CHARS_MAX
        if not 0 < len(drawn["value"]) <= most or not 0 < len(drawn["text"]["text"]) <= label:
            yield f"{where}: {len(drawn['value'])}, {len(drawn['text']['text'])}"
    if kind in _INPUTS and drawn.get("max_length", 1) > INPUT_CHARS_MAX:
        yield f"{where}.max_length: {drawn['max_length']}"
    if kind == "context":
        for one in drawn["elements"]:
            if not 0 < len(one["text"]) <= CONTEXT_CHARS_MAX:
                yield f"{where}: {len(one['text'])}"
    if kind == "table" and chars(drawn) > TABLE_CHARS_MAX:
        yield f"{where}: {chars(drawn)}"
    if kind == "table" and any(not 0 < len(row) <= TABLE_COLUMNS_MAX for row in drawn["rows"]):
        yield f"{where}: columns"
    for name, one in drawn.items():
        yield from _walk(one, f"{where}.{name}")
