"""What a person does with a wait besides answering it, in lines: claim it, give it to somebody, put it off."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from helmr import durations, ids
from helmr.cli import describe, printing
from helmr.cli.asking import Asking
from helmr.cli.clock import now
from helmr.cli.lines import EndOfInput, LineTooLong
from helmr.errors import HelmrError, UsageError, WaitClaimed
from helmr.safe_text import one_line
from helmr.snoozes import Snoozes, back_at

if TYPE_CHECKING:
    from helmr.client import Client

NOBODY = "-"
SNOOZE = "1h"
"""For so long if nothing else is said."""


class WaitActions:
    """The keys `c`, `d` and `z` of one person.

    Args:
        client: Claims and assigns.
        snoozes: Where it is kept what was snoozed.
        ask: The next line, after this prompt.
    """

    def __init__(self, client: Client, snoozes: Snoozes, ask: Callable[[str], str]) -> None:
        self._client = client
        self._snoozes = snoozes
        self._ask = ask

    def claim(self, asking: Asking) -> None:
        """Claim the wait, or release it; another's claim is taken over by the second key only."""
        wait_id = asking.wait.id
        try:
            if asking.is_claimed:
                self._client.waits.release(wait_id)
                asking.is_claimed = False
                printing.write("  released")
                return
            made = self._client.waits.claim(wait_id, override_claim=asking.was_told)
        except WaitClaimed as error:
            asking.was_told, asking.is_claimed = True, False
            printing.write(f"  {one_line(error.message, 300)}; c once more takes it over")
        except HelmrError as error:
            printing.write(f"  {printing.error_text(error)}")
        else:
            asking.is_claimed = made.claim is not None
            said = describe.claim_text(made.claim) if made.claim is not None else "nobody"
            printing.write(f"  claimed by {one_line(said, 200)}; c releases it")

    def delegate(self, asking: Asking) -> bool:
        """Give the wait to somebody; whether it was."""
        name = self._line(f"give it to ({NOBODY} for nobody, an empty line goes back): ")
        if not name:
            return False
        assignee = None if name == NOBODY else name
        try:
            self._client.waits.assign(
                asking.wait.id, assignee=assignee, operation_id=ids.new_id(ids.OPERATION)
            )
            if asking.is_claimed:
                self._client.waits.release(asking.wait.id)
        except HelmrError as error:
            printing.write(f"  {printing.error_text(error)}")
            return False
        printing.write(f"  given to {one_line(assignee or 'nobody', 100)}")
        return True

    def snooze(self, asking: Asking) -> bool:
        """Put the wait off, for this person only; whether it was."""
        said = self._line(f"snooze for (like 20m, 4h, 1d; - goes back) [{SNOOZE}]: ")
        if said in (None, "-"):
            return False
        try:
            snoozed_for = timedelta(seconds=durations.seconds(said or SNOOZE))
            until = back_at(asking.wait, snoozed_for, now())
            self._snoozes.snooze(asking.wait.id, until)
        except UsageError as error:
            printing.write(f"  {one_line(error.message, 300)}. {one_line(error.hint or '', 300)}")
            return False
        except OSError as error:
            printing.write(f"  it can't be kept: {error.strerror or error}")
            return False
        left = durations.spell(round((until - now()).total_seconds()))
        printing.write(f"  snoozed, back in {left}")
        return True

    def _line(self, prompt: str) -> str | None:
        """What is said; None if the person goes back to the question."""
        try:
            return self._ask(prompt).strip()
        except LineTooLong:
            return None
        except EndOfInput:
            printing.write("")
            return None
