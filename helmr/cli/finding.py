"""Finds what an id on the command line means: a whole id, the beginning or the end of one, or `last`.

Ids begin with the time, so that those of one day begin alike; their ends differ. What was found is named on stderr.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from helmr import ids
from helmr.cli import printing
from helmr.errors import NotFound, UsageError

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import Page

LAST = "last"
"""The newest one; of waits, of those that wait for people."""

PART = re.compile(r"[0-9a-z]{4,25}")
"""The part of an id that is looked for: fewer characters name too much."""

WHOLE = 26
"""Characters of an id behind its prefix."""

PAGE = 200
PAGES_MAX = 25
"""So many pages are looked through, newest first: 5,000 items."""

SHOWN_MAX = 6

ENDED = ("fulfilled", "timed_out", "cancelled")
"""Waits that are looked through when no pending one fits."""

Pages = Callable[[str | None], "Page[Any]"]


def session(client: Client, text: str) -> str:
    """The session's id."""
    return _found(
        text, ids.SESSION, "session", [lambda c: client.sessions.page(limit=PAGE, cursor=c)]
    )


def run(client: Client, text: str) -> str:
    """The run's id."""
    return _found(text, ids.RUN, "run", [lambda c: client.runs.page(limit=PAGE, cursor=c)])


def wait(client: Client, text: str) -> str:
    """The wait's id; one that waits goes before those that are over."""

    def pages(status: str | None) -> Pages:
        return lambda cursor: client.waits.page(status=status, limit=PAGE, cursor=cursor)

    return _found(text, ids.WAIT, "wait", [pages(one) for one in (None, *ENDED)])


def token(client: Client, text: str) -> str:
    """The token's id."""
    return _found(text, ids.TOKEN, "token", [lambda c: client.tokens.page(limit=PAGE, cursor=c)])


def public_token(client: Client, text: str) -> str:
    """The public token's id."""
    return _found(
        text, ids.PUBLIC_TOKEN, "public-token", [lambda c: client.auth.page(limit=PAGE, cursor=c)]
    )


def key(client: Client, text: str) -> str:
    """The API key's id."""
    return _found(text, ids.API_KEY, "key", [lambda c: client.keys.page(limit=PAGE, cursor=c)])


def _found(text: str, kind: str, noun: str, sources: list[Pages]) -> str:
    part = text.removeprefix(f"{kind}_")
    if text != LAST and not PART.fullmatch(part):
        return text  # whole, or no part of an id: the client says so
    for pages in sources:
        matching = [one for one in _ids(pages) if _fits(one, text, part)]
        if text == LAST and matching:
            matching = [max(matching)]
        if len(matching) == 1:
            printing.note(f"{noun} {matching[0]}")
            return matching[0]
        if matching:
            raise _ambiguous(text, noun, matching)
    what = "there is none" if text == LAST else f"no id begins or ends with {part!r}"
    raise NotFound(f"{text}: {what}", hint=f"`helmr {noun} list` shows what there is.")


def _fits(found: str, text: str, part: str) -> bool:
    body = found.rpartition("_")[2]
    return text == LAST or body.startswith(part) or (text == part and body.endswith(part))


def _ids(pages: Pages) -> Iterable[str]:
    cursor = None
    for _ in range(PAGES_MAX):
        page = pages(cursor)
        yield from (one.id for one in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


def _ambiguous(text: str, noun: str, matching: list[str]) -> UsageError:
    shown = ", ".join(matching[:SHOWN_MAX])
    more = f" and {len(matching) - SHOWN_MAX} more" if len(matching) > SHOWN_MAX else ""
    return UsageError(
        f"{text!r} fits {len(matching)} {noun}s: {shown}{more}",
        hint="Give more of the id, or its last characters, which differ.",
        matching=matching,
    )
