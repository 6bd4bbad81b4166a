"""The endpoint of a runtime, from discovery to the transport, and the list of runtimes in this process.

Runtimes in this process are test harnesses, which execute the calling code. Code under test that makes its own client
reaches the sessions of its test, never a runtime that happens to run on the machine.
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
"""URL of the runtime in the Ray cluster that this process is connected to."""

HARNESS_URL = "http://harness"
BY_HARNESS = "the harness"
"""URL of a test's harness; nothing listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A runtime: its URL, the key for it, and its process if on this machine.

    The URL `ray` is no address: this process calls the runtime's actors. Neither is that of a test's harness, which is
    `here`.
    """

    url: str
    key: str | None
    found_by: str
    pid: int | None = None
    data_dir: str | None = None
    others: tuple[str, ...] = ()
    """Further addresses with the same key, for when the runtime at the first one does not answer."""
    here: Here | None = field(default=None, repr=False, compare=False)
    signed_in: SignedIn | None = field(default=None, repr=False, compare=False)
    """The sign-in of a person, instead of a key."""

    @property
    def is_ray(self) -> bool:
        """True if calls go to its actors in the Ray cluster of this process."""
        return self.url == RAY

    @property
    def address(self) -> str:
        """All of its addresses as one text, to make another client of the same runtime."""
        return ",".join((self.url, *self.others))


class Addresses:
    """The addresses of one runtime; calls go to one of them until it does not answer or is a standby (S-99).

    Thread-safe. Calls never go to any other address, whatever an answer says.

    Args:
        endpoint: Lists them.
        clock: Monotonic clock.
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
        """The current address."""
        return self._urls[self._at]

    @property
    def others(self) -> tuple[str, ...]:
        """The other addresses, in the order of their turns."""
        return self._urls[self._at + 1 :] + self._urls[: self._at]

    def turn(self, asked: str, *, silent_s: float = 0.0, stands_by: bool = False) -> bool:
        """Turn to the next address if `url` is still the current one; return True if there are several.

        Args:
            silent_s: The current one was silent: for this time a standby is called again instead.
            stands_by: The current one answered that it is a standby.
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
    """A sign-in that renews its token as it ages; thread-safe."""

    def is_due(self) -> bool:
        """True when `token` will take a while."""
        ...

    def token(self) -> str:
        """Return the ID token to send now.

        Raises:
            NotAllowed: The sign-in has ended.
            Unavailable: The issuer does not answer.
        """
        ...

    def access_token(self) -> str | None:
        """Return the access token to send with the last ID token, if the runtime needs one."""
        ...


class Here(Protocol):
    """A runtime in this process."""

    def has_session(self, session_id: str) -> bool:
        """Return True when the session is its own."""
        ...

    def blocking_carrier(self) -> httpx.BaseTransport:
        """Return the transport of a `Client`; called and used in threads of code under test."""
        ...

    def carrier(self) -> httpx.AsyncBaseTransport:
        """Return the transport of an `AsyncClient`; called and used in loops of code under test."""
        ...


_all: list[ref[Here]] = []
"""Harnesses that exist. Threads change and search it at once, so use only atomic operations of the list."""


def add_here(runtime: Here) -> None:
    """Let clients find it from now on, while it exists."""
    _all.append(ref(runtime, _all.remove))


def here_of_this_run() -> Here | None:
    """Return the runtime that executes the calling code; None outside a run or in one of another process."""
    run = current_run.get()
    if run is None:
        return None
    there = (one() for one in tuple(_all))
    return next((one for one in there if one and one.has_session(run.session.id)), None)
