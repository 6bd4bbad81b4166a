"""Where a runtime is: what finding one gives, what a transport is made for, and the runtimes in this process.

Those execute the code that asks for one: a test's harness. Code under test that makes a client of its own reaches the
sessions of its test, and never a runtime that happens to run on the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from helmr.current import current_run

if TYPE_CHECKING:
    from helmr.client.problems import httpx


RAY = "ray"
"""As a URL: the runtime in the Ray cluster that this process is connected to, and no other."""

HARNESS_URL = "http://harness"
BY_HARNESS = "the harness"
"""Of a test's harness; nothing listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A runtime: where it answers, the key for it, and its process if it is of this machine.

    The URL `ray` is not an address: this process calls the runtime's actors. Nor is that of a test's harness, which is
    `here`.
    """

    url: str
    key: str | None
    found_by: str
    pid: int | None = None
    data_dir: str | None = None
    others: tuple[str, ...] = ()
    """More addresses of it, with the same key: one of them answers when the runtime at the first one does not."""
    here: Here | None = field(default=None, repr=False, compare=False)
    signed_in: SignedIn | None = field(default=None, repr=False, compare=False)
    """In place of a key: the person who is signed in at it."""

    @property
    def is_ray(self) -> bool:
        """True if its actors are called, in the Ray cluster of this process."""
        return self.url == RAY

    @property
    def address(self) -> str:
        """All of its addresses as one text: what a client of the same runtime is made with."""
        return ",".join((self.url, *self.others))


class Addresses:
    """The addresses of one runtime, of which one is asked until it does not answer or stands by (S-99).

    For several threads. No other address is ever asked, whatever an answer says.

    Args:
        endpoint: Names them.
        clock: Monotonic.
    """

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float] = time.monotonic) -> None:
        self._urls = (endpoint.url, *endpoint.others)
        self._clock = clock
        self._at = 0
        self._silent_until_s = [-math.inf] * len(self._urls)

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def url(self) -> str:
        """The one to ask."""
        return self._urls[self._at]

    @property
    def others(self) -> tuple[str, ...]:
        """The others, in the order in which they are asked."""
        return self._urls[self._at + 1 :] + self._urls[: self._at]

    def turn(self, asked: str, *, silent_s: float = 0.0, stands_by: bool = False) -> bool:
        """Have the next one asked from now on, if it still was that one that was asked; whether there are several.

        Args:
            silent_s: The one that was asked has said nothing: for this time one that stands by is asked again instead.
            stands_by: The one that was asked answered that it stands by.
        """
        count, now_s = len(self._urls), self._clock()
        if silent_s:
            self._silent_until_s[self._urls.index(asked)] = now_s + silent_s
        if count > 1 and asked == self.url:
            others = [(self._at + step) % count for step in range(1, count + 1)]
            if stands_by:
                others = [one for one in others if self._silent_until_s[one] <= now_s] or others
            self._at = others[0]
        return count > 1


class SignedIn(Protocol):
    """A sign-in whose token is renewed as it ages; for several threads."""

    def is_due(self) -> bool:
        """`token` will take a while."""
        ...

    def token(self) -> str:
        """To send now.

        Raises:
            NotAllowed: It is over.
            Unavailable: The issuer does not answer.
        """
        ...

    def access_token(self) -> str | None:
        """To send beside the token that `token` gave last, if the runtime needs one."""
        ...


class Here(Protocol):
    """A runtime in this process."""

    def has_session(self, session_id: str) -> bool:
        """The session is one of its own."""
        ...

    def blocking_carrier(self) -> httpx.BaseTransport:
        """What carries a `Client`'s requests; made and used in threads of code under test."""
        ...

    def carrier(self) -> httpx.AsyncBaseTransport:
        """What carries an `AsyncClient`'s requests; made and used in loops of code under test."""
        ...


_all: list[ref[Here]] = []
"""Harnesses in several threads come, go and are looked for at once: what is done to this list is done in one go."""


def add_here(runtime: Here) -> None:
    """From now on it is found, as long as it exists."""
    _all.append(ref(runtime, _all.remove))


def here_of_this_run() -> Here | None:
    """The runtime that executes the code which calls this, None outside a run or in one of another process."""
    run = current_run.get()
    if run is None:
        return None
    there = (one() for one in tuple(_all))
    return next((one for one in there if one and one.has_session(run.session.id)), None)
