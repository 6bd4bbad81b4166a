"""What the console reads of Textual that Textual does not say: whether a part has handled all that it was given.

No key may go to a wait that its sender did not see, so the next key is given only when the last one has had all of
its effects (`keys`). Nothing public tells that: `call_later` and `call_after_refresh` say when a message was handled,
not that none is left. Seen on Textual 8.2 and CPython 3.11 to 3.14; `tests/console/pure/test_inside_textual.py` fails
when it no longer holds, and docs/upstream/textual.md proposes public names for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widget import Widget


def is_over(part: MessagePump) -> bool:
    """Whether it ends or has ended: it handles nothing more."""
    return part._closing or part._closed


def is_idle(part: MessagePump) -> bool:
    """Whether it waits for its next message: then nothing is in its queue, in its hands or to be done next."""
    came: asyncio.Event = part._message_queue.ready_event
    return is_over(part) or bool(not came.is_set() and came._waiters)  # who waits for it


def is_to_call(screen: Screen[Any]) -> bool:
    """Whether it has something to do once it is drawn."""
    return bool(screen._callbacks) and not is_over(screen)


def forget_drawn(widget: Widget) -> None:
    """Give up the lines that it has drawn, some forty objects each.

    Textual lets a closed widget keep them until a full collection comes by, which stands still for longer the more of
    them there are.
    """
    widget._styles_cache.clear()
