"""Fills a runtime with sessions of the examples in every state that an operator meets.

```
helmr up helmr.examples.publish_review helmr.examples.chat helmr.examples.release helmr.examples.troubled
python -m helmr.examples.seed --data-dir .helmr
```

The same each time: which session becomes what follows from its number, nothing is drawn. A batch is seeded once: a
second seeding of the same name adds only what was missing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helmr.client import Client, SessionHandle, StartedSession
from helmr.errors import HelmrError, RunActive, Unavailable
from helmr.models import Activity, WaitInfo

PEOPLE = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra")
REPOSITORIES = (
    ("otterworks", "billing"),
    ("otterworks", "web"),
    ("otterworks", "search-index"),
    ("northwind", "mobile"),
)
TITLES = (
    "Round invoice totals once, at the end",
    "Let the importer read UTF-16 files",
    "Retry webhooks with a growing pause",
    "Fix the flicker of the date picker",
    "Drop support for Python 3.10",
    "Cache search suggestions for a minute",
    "Translate the settings page into Japanese (設定)",
)
SERVICES = ("web", "billing", "search", "mail", "gateway")
TALKS = (
    ("hello", "the invoice of May is wrong", "can you look at it?"),
    ("we need a room for twelve", "on Thursday"),
    ("summary",),
    ("hello", "who is on call?", "thanks"),
)
DEADLINES = ("3m", "20m", "2h", "1d", "7d")
WAIT_S = 60.0
"""Seconds for a session to reach its wait or its end."""
PAUSE_S = 0.05
BLOCKED_S = 90.0
"""Three crashes, and a fresh process for each."""


@dataclass(slots=True)
class Seeded:
    """Sessions made so far, by state."""

    sessions: dict[str, list[str]] = field(default_factory=dict)

    def add(self, state: str, session: SessionHandle) -> None:
        """Count one."""
        self.sessions.setdefault(state, []).append(session.id)

    @property
    def counts(self) -> Counter[str]:
        """Number of sessions in each state."""
        return Counter({state: len(ids) for state, ids in self.sessions.items()})


class Seeder:
    """Starts the sessions.

    Args:
        client: Client of a runtime with the examples' tasks; those of `troubled` are used if it has them.
        batch: Names this seeding; sessions of that name that are there are left alone.
    """

    def __init__(self, client: Client, *, batch: str = "seed") -> None:
        self._client = client
        self._batch = batch
        self._tasks = {task.id for task in client.tasks.list()}
        self._number = 0
        """Number of the session being made; each state makes one."""
        self._sent = 0
        self.seeded = Seeded()

    def seed(self, rounds: int) -> Seeded:
        """Start `rounds` sessions of each state; those that stay live only once."""
        for state in self.states(rounds):
            self.make(state)
        return self.seeded

    def states(self, rounds: int) -> Iterator[Callable[[], None]]:
        """Yield the states that `seed` makes, in order; the docstring of each describes it."""
        for _ in range(rounds):
            yield from (
                self.review_waits,
                self.review_sent_back,
                self.review_approved,
                self.review_rejected,
                self.review_cancelled,
                self.release_waits,
                self.release_soaks,
                self.release_second_signoff,
                self.release_answered_too_early,
                self.release_done,
                self.release_not_signed,
                self.release_failed,
                self.run_cancelled,
                self.chat_waits,
                self.chat_continued,
                self.chat_closed,
            )
        if "nightly-import" in self._tasks:
            yield self.import_blocked
        if "slow-report" in self._tasks:
            yield self.report_runs

    def make(self, state: Callable[[], None]) -> None:
        """Make the next one of `states`; one that an earlier seeding made is left alone."""
        self._number += 1
        self._sent = 0
        with contextlib.suppress(_SeededBeforeError):
            state()

    # --- reviews --------------------------------------------------------------------------------

    def review_waits(self) -> None:
        """A review that no one has looked at."""
        session, _ = self._review()
        self.seeded.add("waiting", session)

    def review_sent_back(self) -> None:
        """A review that was sent back twice and asks again."""
        session, wait = self._review()
        for note in ("Shorter, please.", "Mention the migration."):
            self._answer(wait, {"decision": "edit", "note": note})
            wait = self._wait_of(session, kind="input")
        self.seeded.add("waiting", session)

    def review_approved(self) -> None:
        """A review that was published."""
        session, wait = self._review()
        self._answer(wait, {"decision": "approve"})
        self.seeded.add("succeeded", session)

    def review_rejected(self) -> None:
        """A review that was not, with a note of a person about why."""
        session, wait = self._review()
        self._answer(wait, {"decision": "reject", "note": "Not before the audit."})
        session.note("Talked to the author; comes again next week.")
        self.seeded.add("succeeded", session)

    def review_cancelled(self) -> None:
        """A session that was cancelled while it waited."""
        session, _ = self._review()
        session.cancel()
        self.seeded.add("cancelled", session)

    # --- releases -------------------------------------------------------------------------------

    def release_waits(self) -> None:
        """A release at its first sign-off; deadlines from minutes to a week."""
        session, _ = self._release(signoff_timeout=DEADLINES[self._number % len(DEADLINES)])
        self.seeded.add("waiting", session)

    def release_soaks(self) -> None:
        """A release whose canary is watched: it waits for a timer."""
        session, wait = self._release(soak="6h")
        self._answer(wait, {"approve": True})
        self.seeded.add("waiting for a timer", session)

    def release_second_signoff(self) -> None:
        """A release that asks whether it may reach everyone."""
        session, _ = self._soaked()
        self.seeded.add("waiting", session)

    def release_answered_too_early(self) -> None:
        """A release with a record for the second question while the first is open."""
        session, wait = self._release()
        early = (wait.correlation_id or "").replace(":canary", ":everyone")
        session.input("signoff").send(
            {"approve": True, "comment": "Fine with me."},
            correlation_id=early,
            idempotency_key=self._key(),
        )
        self.seeded.add("waiting", session)

    def release_done(self) -> None:
        """A release that reached everyone."""
        session, wait = self._soaked()
        self._answer(wait, {"approve": True, "comment": "Go."})
        self.seeded.add("succeeded", session)

    def release_not_signed(self) -> None:
        """A release whose question timed out."""
        # Its wait is not looked for: on a busy machine it is over before it can be seen.
        session = self._start("release", self._release_payload(signoff_timeout="1s"))
        self._client.runs.wait(session.started_run.id, timeout=WAIT_S)
        self.seeded.add("timed out", session)

    def release_failed(self) -> None:
        """A release whose upload was refused: a failed run that can be retried."""
        session = self._start("release", self._release_payload(artifact="bundle.zip"))
        self.seeded.add("failed", session)

    def run_cancelled(self) -> None:
        """An open, idle session: its run was cancelled."""
        session, wait = self._release()
        self._client.runs.cancel(wait.run_id)
        self.seeded.add("idle", session)

    def _soaked(self) -> tuple[SessionHandle, WaitInfo]:
        session, first = self._release(soak="100ms")
        self._answer(first, {"approve": True})
        return session, self._wait_of(session, kind="input")

    # --- chats ----------------------------------------------------------------------------------

    def chat_waits(self) -> None:
        """A conversation that goes on."""
        self.seeded.add("waiting", self._chat(TALKS[self._number % len(TALKS)]))

    def chat_continued(self) -> None:
        """A conversation in its second run."""
        self.seeded.add("waiting", self._chat([f"fact {number}" for number in range(1, 24)]))

    def chat_closed(self) -> None:
        """A conversation that was ended."""
        session = self._chat(TALKS[self._number % len(TALKS)])
        self._close(session)
        self.seeded.add("closed", session)

    def _chat(self, said: Sequence[str]) -> SessionHandle:
        session = self._start("chat", None)
        for text in said:
            session.input("messages").send(text, idempotency_key=self._key())
        return session

    # --- trouble --------------------------------------------------------------------------------

    def import_blocked(self) -> None:
        """A run whose code took its process down three times."""
        payload = {"file": "ledger-2024-05.csv", "rows": 12_000}
        session = self._start("nightly-import", payload, within_s=BLOCKED_S)
        self.seeded.add(session.get().activity.value, session)

    def report_runs(self) -> None:
        """A run that executes a long step."""
        session = self._start("slow-report", {"name": "Q3 by region"}, within_s=None)
        ends_at_s = time.monotonic() + WAIT_S
        while session.get().activity is Activity.QUEUED and time.monotonic() < ends_at_s:
            time.sleep(PAUSE_S)
        self.seeded.add("running", session)

    # --- parts ----------------------------------------------------------------------------------

    def _review(self) -> tuple[SessionHandle, WaitInfo]:
        owner, repository = REPOSITORIES[self._number % len(REPOSITORIES)]
        number = 100 + self._number
        author = PEOPLE[self._number % len(PEOPLE)].split()[0].lower()
        payload = {
            "action": "opened",
            "number": number,
            "pull_request": {
                "title": TITLES[self._number % len(TITLES)],
                "body": None,
                "html_url": f"https://github.com/{owner}/{repository}/pull/{number}",
                "user": {"login": author},
                "additions": 7 * self._number % 300,
                "deletions": 3 * self._number % 90,
                "changed_files": 1 + self._number % 9,
            },
            "repository": {
                "name": repository,
                "full_name": f"{owner}/{repository}",
                "owner": {"login": owner},
            },
            "sender": {"login": author},
        }
        return self._waiting("publish-review", payload)

    def _release_payload(self, **given: Any) -> dict[str, Any]:
        service = SERVICES[self._number % len(SERVICES)]
        return {"service": service, "version": f"2.{self._number}.0", **given}

    def _release(self, **given: Any) -> tuple[SessionHandle, WaitInfo]:
        return self._waiting("release", self._release_payload(**given))

    def _waiting(self, task: str, payload: Any) -> tuple[SessionHandle, WaitInfo]:
        session = self._start(task, payload)
        return session, self._wait_of(session, kind="input")

    def _start(self, task: str, payload: Any, *, within_s: float | None = WAIT_S) -> StartedSession:
        """Start this number's session and return when it waits or has ended."""
        started = self._client.sessions.start(
            task,
            payload,
            external_id=f"{task}-{self._number:03}",
            tags=(self._batch, task),
            metadata={"number": self._number},
            idempotency_key=f"{self._batch}-{self._number}",
        )
        if not started.created:
            raise _SeededBeforeError
        if within_s is not None:
            self._client.runs.wait(started.started_run.id, timeout=within_s, until="stopped")
        return started

    def _answer(self, wait: WaitInfo, data: Any) -> None:
        """Answer in someone's name."""
        person = PEOPLE[self._number % len(PEOPLE)]
        endpoint = self._client.endpoint
        with Client(url=endpoint.url, key=endpoint.key, on_behalf_of=person) as client:
            client.waits.answer(wait.id, data)
        self._client.runs.wait(wait.run_id, timeout=WAIT_S, until="stopped")

    def _close(self, session: SessionHandle) -> None:
        """Close the session as soon as it waits for input; while it still answers, its run is active (S-6)."""
        ends_at_s = time.monotonic() + WAIT_S
        while True:
            try:
                session.close(end_input=True)
            except RunActive:
                if time.monotonic() > ends_at_s:
                    raise
                time.sleep(PAUSE_S)
            else:
                return

    def _wait_of(self, session: SessionHandle, *, kind: str) -> WaitInfo:
        """The session's wait of that kind, as soon as it has one."""
        ends_at_s = time.monotonic() + WAIT_S
        while time.monotonic() < ends_at_s:
            wait = session.get().wait
            if wait is not None and wait.kind == kind:
                return wait
            time.sleep(PAUSE_S)
        raise Unavailable(f"{session.id} has opened no {kind} wait in {WAIT_S:.0f} s")

    def _key(self) -> str:
        self._sent += 1
        return f"{self._batch}-{self._number}-{self._sent}"


class _SeededBeforeError(Exception):
    """The session of this number is there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Seed the runtime that is meant; says what there is."""
    parser = argparse.ArgumentParser(prog="helmr.examples.seed", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the runtime's data directory")
    parser.add_argument("--url", help="the runtime's URL")
    parser.add_argument("--rounds", type=int, default=2, help="sessions of each state; 2")
    parser.add_argument("--batch", default="seed", help="name of the batch; one is seeded once")
    given = parser.parse_args(argv)
    try:
        with Client(url=given.url, data_dir=given.data_dir) as client:
            seeded = Seeder(client, batch=given.batch).seed(given.rounds)
    except HelmrError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.stderr.write(f"helmr: {error.message}{hint}\n")
        return error.exit_code
    for state, count in sorted(seeded.counts.items()):
        sys.stdout.write(f"{count:>4}  {state}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
