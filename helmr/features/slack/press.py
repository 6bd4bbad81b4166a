"""Reads what Slack sends when someone presses a button or sends a view, and names it as an operation (S-139).

Nothing here proves who pressed: Slack's connection does, and the sender asks it. A payload of a shape that Helmr did
not draw is none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from helmr.features.slack.entered import INCLUDE, VARIANT
from helmr.features.slack.message import ANSWER, CHOICE
from helmr.features.slack.modal import ANSWER_VIEW
from helmr.wire import ids

PLATFORM: Final = "slack"
_TEXT_MAX: Final = 3_000
_CHOICE: Final = re.compile(rf"{re.escape(CHOICE)}\.[0-9]{{1,2}}")


class PressKind(StrEnum):
    """What a press asks for."""

    CHOICE = "choice"
    """Answer by one choice."""
    OPEN = "open"
    """Open the form."""
    REDRAW = "redraw"
    """Draw the open form again, with other fields."""
    SUBMIT = "submit"
    """Answer by the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPress:
    """A press, as Slack says it.

    Attributes:
        form_hash: Hash of the form's schema when it was drawn.
        choice: The place of the choice that was pressed.
        app: The app's id.
        workspace: The workspace in which it was pressed; of an app for a whole organization, that organization.
        user: Who pressed, an id of `user_workspace`.
        user_workspace: The workspace of that user, which in shared channels may be another one.
        channel: The channel of the message; of a view, of the message that opened it.
        message_ts: The message, likewise.
        action_ts: The time of the press; empty for a view that was sent.
        trigger_id: Opens a view, for three seconds.
        view: The view in which it happened.
    """

    kind: PressKind
    wait_id: str
    form_hash: str
    choice: int | None = None
    app: str
    workspace: str
    user: str
    user_workspace: str
    channel: str = ""
    message_ts: str = ""
    action_ts: str = ""
    trigger_id: str = ""
    view: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> Mapping[str, Any]:
        """The state of the view's controls."""
        return _object(_object(self.view.get("state")).get("values"))

    @property
    def view_id(self) -> str:
        """The id of the view; empty if it was no view."""
        return _text(self.view.get("id"))


def press_of(payload: Mapping[str, Any]) -> SlackPress | None:
    """Return the press of an interactive payload; None if it is none of ours, such as a button that opens a page."""
    view = _object(payload.get("view"))
    match payload.get("type"):
        case "view_submission":
            if view.get("callback_id") != ANSWER_VIEW or not _text(view.get("id")):
                return None
            return _press(payload, PressKind.SUBMIT, _metadata(view), view)
        case "block_actions":
            actions = payload.get("actions")
            one = _object(actions[0]) if isinstance(actions, list) and len(actions) == 1 else {}
            return _action(payload, one, view)
        case _:
            return None


def _action(
    payload: Mapping[str, Any], action: Mapping[str, Any], view: Mapping[str, Any]
) -> SlackPress | None:
    name, at = _text(action.get("action_id")), _text(action.get("action_ts"))
    if not at:
        return None
    if name in (INCLUDE, VARIANT):
        if view.get("callback_id") != ANSWER_VIEW:
            return None
        return _press(payload, PressKind.REDRAW, _metadata(view), view, at)
    said = _json(action.get("value"))
    if name == ANSWER:
        return _press(payload, PressKind.OPEN, said, view, at)
    if _CHOICE.fullmatch(name) and name == f"{CHOICE}.{said.get('choice')}":
        return _press(payload, PressKind.CHOICE, said, view, at)
    return None


def _press(
    payload: Mapping[str, Any],
    kind: PressKind,
    said: Mapping[str, Any],
    view: Mapping[str, Any],
    action_ts: str = "",
) -> SlackPress | None:
    user, team = _object(payload.get("user")), _object(payload.get("team"))
    where = _text(team.get("id")) or _text(_object(payload.get("enterprise")).get("id"))
    container = _object(payload.get("container"))
    choice = said.get("choice")
    found = SlackPress(
        kind=kind,
        wait_id=_text(said.get("wait")),
        form_hash=_text(said.get("form")),
        choice=choice if isinstance(choice, int) and kind is PressKind.CHOICE else None,
        app=_text(payload.get("api_app_id")),
        workspace=where,
        user=_text(user.get("id")),
        user_workspace=_text(user.get("team_id")) or where,
        channel=_text(container.get("channel_id")) or _text(said.get("channel")),
        message_ts=_text(container.get("message_ts")) or _text(said.get("ts")),
        action_ts=action_ts,
        trigger_id=_text(payload.get("trigger_id")),
        view=view,
    )
    needed = (found.wait_id, found.form_hash, found.app, found.workspace, found.user)
    return found if all(needed) else None


def operation_id(press: SlackPress) -> str:
    """The operation of a press: the same press, sent again, is the same one (S-61, S-139).

    A view is sent once: a second try of the same view, after one whose outcome is unknown, is the same operation.
    """
    where = (
        (press.view_id, "") if press.kind is PressKind.SUBMIT else (_place(press), press.action_ts)
    )
    parts = [PLATFORM, press.app, press.workspace, press.user_workspace, press.user, *where]
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return ids.from_bytes(ids.OPERATION, digest[:16])


def _place(press: SlackPress) -> str:
    return f"{press.channel}/{press.message_ts}" if press.message_ts else press.view_id


def _metadata(view: Mapping[str, Any]) -> Mapping[str, Any]:
    return _json(view.get("private_metadata"))


def _json(value: Any) -> Mapping[str, Any]:
    text = _text(value)
    try:
        return _object(json.loads(text)) if text else {}
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _TEXT_MAX else ""
