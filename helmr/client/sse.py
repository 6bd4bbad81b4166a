"""Reads a server-sent event stream, fed with text as it comes.

Lines end at CR, LF or CRLF only (str.splitlines also splits at U+2028, which JSON may hold), and an event that
was cut off before its empty line is none.

Source: WHATWG HTML, "Interpreting an event stream".
"""

from __future__ import annotations

from dataclasses import dataclass

from helmr.errors import Unavailable

EVENT_CHARS_MAX = 8 * 1024 * 1024
"""Most characters of one event: a 1 MiB value, escaped, with room. A longer one is not an event of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last id that the stream gave."""

    type: str
    data: str
    id: str


class EventReader:
    """Turns the text of a stream into events."""

    def __init__(self) -> None:
        self._rest = ""
        self._skip_newline = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""
        self.last_id = ""
        """The id of the last event that was whole, also of one without data: where to go on."""

    def feed(self, text: str) -> list[Event]:
        """The events that this piece of text completes.

        Raises:
            Unavailable: An event is longer than `EVENT_CHARS_MAX`.
        """
        if self._skip_newline and text:
            # A CR ended the last piece; its LF may stand in this one.
            text = text.removeprefix("\n")
            self._skip_newline = False
        if text.endswith("\r"):
            self._skip_newline = True
        pieces = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        pieces[0] = self._rest + pieces[0]
        self._rest = pieces.pop()
        events = [event for line in pieces if (event := self._line(line)) is not None]
        if len(self._rest) + sum(map(len, self._data)) > EVENT_CHARS_MAX:
            raise Unavailable(f"an event of the feed is longer than {EVENT_CHARS_MAX} characters")
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._type or "message", "\n".join(self._data), self._id)
            empty = not self._data
            self.last_id = self._id
            self._type, self._data = "", []
            return None if empty else event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
