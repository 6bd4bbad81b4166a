"""Rings the terminal or shows a notification when a wait matches the profile's filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.app import App

from helmr.client.profiles import TerminalNotices
from helmr.models import EntryInfo, WaitInfo, WaitKind
from helmr.person.filters import WAIT_FIELDS, parse, wait_facts
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console.store import Store

QUIET_S = 2.0
"""Silence after a ring, in seconds: a burst of waits rings once."""
TOLD = frozenset(("wait.opened", "wait.assigned", "wait.reminded"))
TEXT_CHARS = 120


class Bell:
    """Announces new waits through the terminal.

    Args:
        app: Owner of the terminal.
        notices: The means, and the filter of waits.
        store: Holds the waits.
        identity: The operator, for `is:mine`.
        environ: `TMUX` in it means that tmux stands between.
    """

    def __init__(
        self,
        app: App[Any],
        notices: TerminalNotices,
        store: Store,
        identity: str,
        environ: Mapping[str, str],
    ) -> None:
        self._app = app
        self._notices = notices
        self._filter = parse(notices.filter, WAIT_FIELDS)
        self._store = store
        self._identity = identity
        self._in_tmux = bool(environ.get("TMUX"))
        self._quiet_until_s = 0.0

    def heard(self, entry: EntryInfo) -> None:
        """Ring for a new entry if its wait matches the filter and the bell was quiet for `QUIET_S`."""
        if not self._notices or entry.kind not in TOLD:
            return
        wait = self._store.waits.get(str(entry.body.get("wait_id")))
        now_s = self._store.mono()
        if wait is None or not self._is_meant(wait) or now_s < self._quiet_until_s:
            return
        self._quiet_until_s = now_s + QUIET_S
        if self._notices.bell:
            self._write("\a")
        if self._notices.osc is not None:
            text = one_line(f"Helmr: {words.subject_of(wait)}", TEXT_CHARS)
            self._write(notification(self._notices.osc, text, in_tmux=self._in_tmux))

    def _is_meant(self, wait: WaitInfo) -> bool:
        now = self._store.now()
        facts = wait_facts(wait, now, self._identity)
        return wait.kind is not WaitKind.TIMER and self._filter.matches(facts, now)

    def _write(self, sequence: str) -> None:
        driver = self._app._driver  # Textual has no way of its own for such a sequence
        if driver is not None:
            driver.write(sequence)
            driver.flush()


def notification(osc: int, text: str, *, in_tmux: bool) -> str:
    """The escape sequence that shows this text as a notification.

    Args:
        osc: 9 (iTerm2, WezTerm, Windows Terminal, kitty) or 777 (urxvt, foot, Ghostty).
        text: Without control characters.
        in_tmux: Wrap it, so that tmux passes it on where `allow-passthrough` is on.
    """
    body = f"\x1b]9;{text}\x1b\\" if osc == 9 else f"\x1b]777;notify;Helmr;{text}\x1b\\"
    if not in_tmux:
        return body
    return f"\x1bPtmux;{body.replace(chr(27), chr(27) * 2)}\x1b\\"
