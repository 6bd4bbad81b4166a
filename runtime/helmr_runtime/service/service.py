"""The service: what its parts share, and their life."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from helmr_runtime import tracing
from helmr_runtime.clock import Clock
from helmr_runtime.notices.sending import Sender
from helmr_runtime.notices.targets import Target
from helmr_runtime.ports import Directory, Host
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.session_keys import SessionKeys
from helmr_runtime.service.access import AccessTokens, ApiKeys, KeysOf
from helmr_runtime.service.backups import Backups
from helmr_runtime.service.catalog import CatalogView
from helmr_runtime.service.chunks import ChunkHub
from helmr_runtime.service.claims import Claims
from helmr_runtime.service.copies import Copies
from helmr_runtime.service.corrections import Corrections
from helmr_runtime.service.events import Events
from helmr_runtime.service.feed import FeedHub, FeedItem
from helmr_runtime.service.health import HealthView
from helmr_runtime.service.introduction import Introduction
from helmr_runtime.service.links import AnswerLinks
from helmr_runtime.service.lru import LruCache
from helmr_runtime.service.notices import Notices
from helmr_runtime.service.queries import Queries
from helmr_runtime.service.repeats import Deduplicator
from helmr_runtime.service.router import COMMIT_TIMEOUT_S, Router
from helmr_runtime.service.runs import Runs
from helmr_runtime.service.schedules import Schedules
from helmr_runtime.service.session_files import SessionFiles
from helmr_runtime.service.session_spans import SessionSpans
from helmr_runtime.service.sessions import Sessions
from helmr_runtime.service.tokens import Tokens
from helmr_runtime.service.waits import Waits

WAITS_KNOWN_MAX = 50_000
"""Waits whose session is known without asking; an older one costs a read."""


GUEST_FEED_IDLE_S = 10.0
"""A program that follows now and then does not begin anew each time."""

GUEST_CATALOG_AGE_S = 2.0
"""Nobody tells it of a new catalog."""


class Service:
    """The operations by noun: `sessions`, `session_files`, `backups`, `copies`, `runs`, `waits`, `claims`, `links`,
    `tokens`, `public_tokens`, `api_keys`, `schedules`, `events`, `notices`, `queries`, `catalog`, `health`.

    Args:
        ledger: Reads, and the start of sessions.
        directory: Where sessions live.
        host_named: The host with that name.
        clock: Tells the time.
        version: Of Helmr.
        data_dir: Shown by `/readyz`.
        commit_timeout_s: Longest that a command may take.
        ring: The master keys, which secrets of tokens are derived from.
        keys: Asked instead of the ring, where master keys may not be.
        base_url: What callback URLs begin with.
        host: Which process `/readyz` tells of; None is this one.
        is_guest: This process serves one program and not everybody: it follows the feed only while that program
            does, so what it remembers of others' doings is read again soon.
        is_published: Whether local programs can find the runtime; until then it is not ready.
        notice_targets: Who is told that something waits, and how.
    """

    def __init__(
        self,
        *,
        ledger: LedgerClient,
        directory: Directory,
        host_named: Callable[[str], Host],
        clock: Clock,
        version: str,
        data_dir: str | None = None,
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
        ring: KeyRing | None = None,
        keys: KeysOf | None = None,
        base_url: str = "",
        host: Introduction | None = None,
        is_guest: bool = False,
        is_published: Callable[[], bool] = lambda: True,
        notice_targets: Sequence[tuple[Target, Sender]] = (),
    ) -> None:
        self._ledger = ledger
        self.now = clock.now
        self._session_spans: SessionSpans | None = None
        self._watching: list[Callable[[FeedItem], None]] = []
        self._token_of_wait: LruCache[str, str] = LruCache(WAITS_KNOWN_MAX)
        self._session_of_wait: LruCache[str, str] = LruCache(WAITS_KNOWN_MAX)
        self.hub = FeedHub(
            ledger, on_entry=self._learn, idle_s=GUEST_FEED_IDLE_S if is_guest else None
        )
        self.catalog = CatalogView(ledger, age_max_s=GUEST_CATALOG_AGE_S if is_guest else None)
        keys = keys or _keys_from(ring)
        self.router = Router(directory, host_named, commit_timeout_s=commit_timeout_s)
        repeats = Deduplicator(ledger)
        self.runs = Runs(ledger, self.router, repeats)
        self.tokens = Tokens(ledger, self.router, repeats, keys=keys, ring=ring, base_url=base_url)
        self.public_tokens = AccessTokens(ledger, self.router, self.catalog, keys, clock, repeats)
        self.api_keys = ApiKeys(ledger, self.router)
        self.waits = Waits(
            ledger,
            self.router,
            self.catalog,
            self.tokens,
            self._session_of_wait,
            self._token_of_wait,
            repeats,
            clock.now,
        )
        self.claims = Claims(ledger, self.router, self.waits)
        self.links = AnswerLinks(ledger, self.router, keys, clock, repeats, base_url)
        self.sessions = Sessions(
            ledger, self.router, self.catalog, self.waits, self.runs, self.hub, repeats
        )
        self.corrections = Corrections(
            ledger, self.router, self.catalog, self.runs, self.sessions, repeats
        )
        self.schedules = Schedules(ledger, self.router, self.catalog, self.sessions, repeats)
        self.session_files = SessionFiles(ledger, self.catalog, version)
        self.backups = Backups(ledger, version)
        self.copies = Copies(ledger, clock)
        self.queries = Queries(ledger)
        self.chunks = ChunkHub(directory.locate, host_named)
        self.events = Events(ledger, self.catalog, self.hub, self.chunks)
        self.notices = Notices(
            ledger,
            self.events,
            self.links,
            clock,
            base_url or "helmr",
            None if is_guest else notice_targets,
        )
        self.health = HealthView(
            ledger,
            directory,
            self.catalog,
            self.hub,
            clock,
            host=host or Introduction(version=version, data_dir=data_dir, started_at=clock.now()),
            is_published=is_published,
            followers=self.copies.followers,
            notices=self.notices,
        )

    def watch(self, call: Callable[[FeedItem], None]) -> None:
        """Have each entry told that the feed brings from now on, before followers get it."""
        self._watching.append(call)

    def start(self) -> None:
        """Begin to follow the ledger's feed, and to tell of it; needs a running loop."""
        if tracing.spans is not None:
            self._session_spans = SessionSpans(self._ledger)
            self.watch(self._session_spans.seen)
        self.hub.start()
        self.notices.start()

    async def stop(self) -> None:
        """End every follower, and the feed."""
        await self.notices.stop()
        await self.hub.stop()
        await self.chunks.stop()
        if self._session_spans is not None:
            await self._session_spans.stop()

    def _learn(self, item: FeedItem) -> None:
        self.chunks.entry(item.session_id)
        for call in self._watching:
            call(item)
        if item.kind == "wait.opened":
            body = item.entry["body"]
            self._session_of_wait.put(body["wait_id"], item.session_id)
            if "token_id" in body:
                self._token_of_wait.put(body["wait_id"], body["token_id"])
        elif item.kind == "api_key.revoked":
            self.api_keys.forget()
        elif item.kind == "catalog.written":
            self.catalog.forget()


def _keys_from(ring: KeyRing | None) -> KeysOf:
    async def keys(session_id: str) -> SessionKeys | None:
        return ring.session_keys(session_id) if ring is not None else None

    return keys
