"""The service builds the operations of every noun and starts and stops them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

from helmr.link_templates import LinkTemplate
from helmr_runtime import tracing
from helmr_runtime.clock import Clock
from helmr_runtime.feature import Features
from helmr_runtime.notices.content import Sender
from helmr_runtime.notices.targets import Target
from helmr_runtime.ports import Directory, Host
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.security.secrets import SessionKeys
from helmr_runtime.service.access import AccessTokens, AnswerLinks, ApiKeys
from helmr_runtime.service.browser_sessions import BrowserSessions
from helmr_runtime.service.bulk import BulkOperations
from helmr_runtime.service.catalog_view import CatalogView
from helmr_runtime.service.chunks import ChunkHub
from helmr_runtime.service.corrections import Corrections
from helmr_runtime.service.exports import Backups, Pruning, Queries, SessionFiles
from helmr_runtime.service.feed import FeedHub, FeedItem, LongRuns, SessionSpans
from helmr_runtime.service.following import Events
from helmr_runtime.service.health import HealthView, Introduction
from helmr_runtime.service.limits import LimitOperations
from helmr_runtime.service.notice_teller import TellerMeans
from helmr_runtime.service.notices import NoticeOperations
from helmr_runtime.service.people import PeopleOperations, PeopleView
from helmr_runtime.service.repeats import Deduplicator
from helmr_runtime.service.router import COMMIT_TIMEOUT_S, Router
from helmr_runtime.service.sessions import RunOperations, SessionOperations
from helmr_runtime.service.shared import KeysOf, Shared
from helmr_runtime.service.sign_in import SignIns
from helmr_runtime.service.staleness import Staleness
from helmr_runtime.service.tokens import TokenOperations
from helmr_runtime.service.waits import ClaimOperations, WaitOperations

GUEST_FEED_IDLE_S = 10.0
"""Kept this long so that a program that follows now and then does not start the feed each time."""

GUEST_CATALOG_AGE_S = 2.0
"""A guest without a feed gets no news of a new catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """Options of the service in one process.

    Attributes:
        commit_timeout_s: Longest that a command may take.
        keys: Used in place of the ring in a process that may not have master keys.
        is_guest: This process serves one program only. It follows the feed only while that program does, so its
            caches expire soon.
        is_published: Returns True once local programs can find the runtime; until then it is not ready.
        notice_targets: Each notice target and its sender.
        people: The configured people.
        features: Features with parts in the service.
        sections: Tables of `helmr.toml` that features read, by the feature's name.
        links: Templates of the links that waits show.
    """

    commit_timeout_s: float = COMMIT_TIMEOUT_S
    keys: KeysOf | None = None
    is_guest: bool = False
    is_published: Callable[[], bool] = lambda: True
    notice_targets: Sequence[tuple[Target, Sender]] = ()
    people: PeopleConfig = NO_PEOPLE
    features: Features = ()
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    links: Sequence[LinkTemplate] = ()


class Service:
    """The operations by noun: `sessions`, `session_files`, `backups`, `pruning`, `runs`, `waits`, `claims`, `links`,
    `tokens`, `public_tokens`, `api_keys`, `people`, `sign_ins`, `browser_sessions`, `events`, `notices`,
    `queries`, `catalog`, `limits`, `health`; and those of features, `part(noun)`.

    Args:
        ledger: Serves reads, and starts sessions.
        directory: Knows the host of each session.
        host_named: The host with that name.
        clock: Tells the time.
        host: Facts about the process, for `/readyz`, and the base of callback URLs.
        ring: The master keys, from which secrets of tokens are derived.
        options: Notices, people and features, as configured.
    """

    def __init__(
        self,
        ledger: LedgerClient,
        directory: Directory,
        host_named: Callable[[str], Host],
        clock: Clock,
        host: Introduction,
        *,
        ring: KeyRing | None = None,
        options: ServiceOptions | None = None,
    ) -> None:
        options = options or ServiceOptions()
        self._ledger = ledger
        self.now = clock.now
        self.staleness = Staleness(ledger.freshness, clock.now)
        self.base_url = host.base_url
        self.data_dir = host.data_dir
        self._session_spans: SessionSpans | None = None
        self.long_runs = LongRuns()
        self._watching: list[Callable[[Sequence[FeedItem]], None]] = [self.long_runs.seen]
        is_guest = options.is_guest
        self.hub = FeedHub(
            ledger, on_entries=self._learn, idle_s=GUEST_FEED_IDLE_S if is_guest else None
        )
        self.catalog = CatalogView(ledger, age_max_s=GUEST_CATALOG_AGE_S if is_guest else None)
        self.router = Router(
            directory,
            host_named,
            at_work=self.staleness.at_work,
            commit_timeout_s=options.commit_timeout_s,
        )
        self.shared = shared = Shared(
            ledger,
            self.router,
            self.catalog,
            Deduplicator(ledger),
            clock,
            options.keys or _keys_from(ring),
            host.base_url,
        )
        self.limits = LimitOperations(directory)
        self.runs = RunOperations(shared, self.limits)
        self.tokens = TokenOperations(shared, ring)
        self.public_tokens = AccessTokens(shared)
        self.people_view = PeopleView(shared, options.people)
        self.people = PeopleOperations(shared, self.people_view)
        self.sign_ins = SignIns(shared, self.people_view)
        self.api_keys = ApiKeys(shared, options.people)
        self.browser_sessions = BrowserSessions(
            self.sign_ins, self.api_keys, self.people_view, clock.now
        )
        self.people_view.on_disabled = self.browser_sessions.end_of
        self.waits = WaitOperations(shared, self.tokens, self.people_view, options.links)
        self.claims = ClaimOperations(shared, self.waits, options.people)
        self.links = AnswerLinks(shared, options.people)
        self.sessions = SessionOperations(
            shared, self.waits, self.runs, self.limits, self.hub, self.long_runs
        )
        self.corrections = Corrections(shared, self.runs, self.sessions)
        self.session_files = SessionFiles(ledger, self.catalog, host.version)
        self.backups = Backups(ledger, host.version)
        self.pruning = Pruning(ledger)
        self.bulk = BulkOperations(self.sessions, self.runs, self.pruning, clock)
        self.queries = Queries(ledger)
        self.chunks = ChunkHub(directory.locate, host_named)
        self.events = Events(ledger, self.catalog, self.hub, self.chunks)
        self.notices = NoticeOperations(
            TellerMeans(
                ledger, self.events, self.links, clock, host.base_url or "helmr", options.links
            ),
            None if is_guest else options.notice_targets,
        )
        self.health = HealthView(
            shared,
            directory,
            self.hub,
            host=host,
            is_published=options.is_published,
            notices=self.notices,
        )
        self.features = options.features
        self.sections = options.sections
        self._parts: dict[str, Any] = {}
        for feature in options.features:
            for noun, maker in feature.service.items():
                self._parts[noun] = resolve_name(maker)(self)

    def part(self, noun: str) -> Any:
        """The part that has the operations of a noun: the kernel's, or a feature's.

        Raises:
            AttributeError: There is none.
        """
        found = self._parts.get(noun)
        return found if found is not None else getattr(self, noun)

    def watch(self, call: Callable[[Sequence[FeedItem]], None]) -> None:
        """Subscribe to new feed entries; `call` gets them in order, before followers do."""
        self._watching.append(call)

    def start(self) -> None:
        """Begin to follow the ledger's feed and to send notices; needs a running loop."""
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

    def _learn(self, items: Sequence[FeedItem]) -> None:
        for call in self._watching:
            call(items)
        for item in items:
            if item.session_id in self.chunks.followed:
                self.chunks.entry(item.session_id)
            if item.kind == "wait.opened":
                self.waits.opened(item.session_id, item.entry["body"])
            elif item.kind == "api_key.revoked":
                self.api_keys.forget()
            elif item.kind.startswith("person."):
                self.people_view.forget(is_unbound=item.kind == "person.unbound")
                if item.kind == "person.disabled":
                    self.people_view.on_disabled(item.entry["body"]["person"])
            elif item.kind == "catalog.written":
                self.catalog.forget()


def _keys_from(ring: KeyRing | None) -> KeysOf:
    async def keys(session_id: str) -> SessionKeys | None:
        return ring.session_keys(session_id) if ring is not None else None

    return keys
