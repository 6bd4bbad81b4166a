"""Reads from Textual's private state whether a part has handled all its messages.

No key may reach a wait that the operator did not see, so the next key is passed on only when the last one has had all
its effects (`keys`). Textual has no public way to know: `call_later` and `call_after_refresh` say when a message was
handled, not that none is left. Verified on Textual 8.2 and CPython 3.11 to 3.14;
`tests/console/pure/test_inside_textual.py` fails when it no longer holds, and docs/upstream/textual.md proposes public
names.
"""

from __future__ import annotations

import asyncio
from typing import Any

from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widget import Widget


def is_over(part: MessagePump) -> bool:
    """True if the part is ending or has ended and handles no more messages."""
    return part._closing or part._closed


def is_idle(part: MessagePump) -> bool:
    """True if the part waits for its next message, with none queued, in progress or to be done next."""
    came: asyncio.Event = part._message_queue.ready_event
    return is_over(part) or bool(not came.is_set() and came._waiters)  # tasks that wait for it


def is_to_call(screen: Screen[Any]) -> bool:
    """True if the screen has callbacks to run after its next drawing."""
    return bool(screen._callbacks) and not is_over(screen)


def forget_drawn(widget: Widget) -> None:
    """Drop the widget's cache of drawn lines, some forty objects each.

    Textual lets a closed widget keep them until a full garbage collection, whose pause grows with their number.
    """
    widget._styles_cache.clear()
