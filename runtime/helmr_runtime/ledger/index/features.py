"""The ledger's memory of its features, and the routing of entries to them. Pure, folded from entries.

A feature declares a `LedgerPart`. Its facts are in the system stream: a `FeatureFact` decides the entries to write from
the feature's memory, a `FeatureQuestion` reads that memory.

Invariants: S-148 (an entry of a missing feature is refused, never skipped).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar

from helmr.errors import FeatureMissing
from helmr.wire import ids
from helmr_runtime.core.commands import FirstReceipt, OperationKey, receipt_of
from helmr_runtime.core.entries import Draft, Entry, EntryKind
from helmr_runtime.core.nouns import fields_of
from helmr_runtime.feature import Features
from helmr_runtime.ports import StartSession

Json = dict[str, Any]
T = TypeVar("T")

Receipt = Callable[[Mapping[str, Any]], Json]
"""Makes the receipt of an operation from the body of the entry that carries it."""


@dataclass(frozen=True, slots=True)
class FactTable:
    """The table of a feature's things.

    A row holds where the text of its thing stands in the entries, and what became of it since.

    Attributes:
        name: The table's.
        noun: Its fields are the columns, named as the thing's; the first names it.
        view: The view that rows are read from.
        offset: The field with the feed offset of the entry that says what the thing is.
        rows_max: The newest so many are read when the ledger opens; None: all.
    """

    name: str
    noun: type
    view: str
    offset: str
    rows_max: int | None = None

    @property
    def key(self) -> str:
        """The field that names a thing."""
        return fields_of(self.noun)[0].name

    def row(self, thing: object) -> Any:
        """The row of a thing."""
        return self.noun(**{one.name: getattr(thing, one.name) for one in fields_of(self.noun)})

    @property
    def session_fields(self) -> tuple[str, ...]:
        """The fields that name sessions."""
        return tuple(one.name for one in fields_of(self.noun) if one.column.id_of == ids.SESSION)


class FeatureMemory(ABC, Generic[T]):
    """One feature's state in the ledger's memory.

    Attributes:
        things: Its things by name.
        touched: Names of things whose rows must be written again.
    """

    def __init__(self) -> None:
        self.things: dict[str, T] = {}
        self.touched: set[str] = set()

    @abstractmethod
    def apply(self, entry: Entry) -> None:
        """Fold one stored entry of a kind that the feature declares or hears."""

    @abstractmethod
    def admit(self, row: Any, entry: Entry) -> None:
        """Take in a thing as its row and the entry that says what it is have it."""

    def next_at(self) -> datetime | None:
        """Return the time at which the feature is next due."""
        return None

    def due(
        self, now: datetime, is_active: Callable[[str], bool]
    ) -> Iterator[StartSession | Draft]:
        """Yield the due starts and drafts, the longest due first. Those not written stay due.

        Args:
            now: The ledger's time.
            is_active: True if a session's newest run has not ended.
        """
        yield from ()

    def follows(self, fact: Draft, now: datetime) -> Sequence[Draft]:
        """Return the drafts to write in one commit with a fact of the kernel: a new catalog, a disabled person.

        Args:
            fact: As it will be written, before it is folded.
            now: The ledger's time.
        """
        return ()

    def numbers(self) -> Json:
        """Return the numbers that only `/metrics` shows."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """A feature in the ledger.

    Attributes:
        memory: Its memory.
        kinds: Its entry kinds, each with the receipt that it carries; None of those that carry none.
        hears: Kinds of the kernel that its memory folds too.
        table: Of its things.
        warm: Reads the files that a decision on this will need (a fact, a catalog); runs on a thread.
    """

    memory: type[FeatureMemory[Any]]
    kinds: Mapping[EntryKind, Receipt | None]
    hears: frozenset[EntryKind] = frozenset()
    table: FactTable | None = None
    warm: Callable[[Any], None] | None = None


class FeatureMemories:
    """The memories of all features that a ledger has.

    Args:
        features: Those.

    Attributes:
        held_until: Nothing is due before. A runtime that begins with other code says first what that makes due.
        since: Of each feature that has written something, the feed offset of its newest entry.
        by_kind: Which of them fold entries of a kind; a kind that is not here is of a feature that is not.
    """

    def __init__(self, features: Features = ()) -> None:
        self.parts: dict[str, LedgerPart] = {
            one.name: resolve_name(one.ledger) for one in features if one.ledger
        }
        self.held_until: datetime | None = None
        self.since: dict[str, int] = {}
        self._memories = {name: part.memory() for name, part in self.parts.items()}
        self._owners = {kind: name for name, part in self.parts.items() for kind in part.kinds}
        self.by_kind: dict[EntryKind, tuple[FeatureMemory[Any], ...]] = {
            kind: tuple(self._hearing(kind)) for kind in (*EntryKind, *self._owners)
        }

    def _hearing(self, kind: EntryKind) -> Iterator[FeatureMemory[Any]]:
        for name, part in self.parts.items():
            if kind in part.kinds or kind in part.hears:
                yield self._memories[name]

    def __getitem__(self, name: str) -> Any:
        """The memory of a feature.

        Raises:
            FeatureMissing: It is not here.
        """
        memory = self._memories.get(name)
        if memory is None:
            raise missing([name])
        return memory

    def __iter__(self) -> Iterator[tuple[LedgerPart, FeatureMemory[Any]]]:
        for name, part in self.parts.items():
            yield part, self._memories[name]

    def hearers(self, kind: EntryKind) -> tuple[FeatureMemory[Any], ...]:
        """The memories that fold entries of a kind.

        Raises:
            FeatureMissing: It is a kind of a feature that is not here.
        """
        found = self.by_kind.get(kind)
        if found is None:
            raise missing(unknown=kind)
        return found

    def apply(self, entry: Entry) -> None:
        """Fold an entry that one hears; the ledger names the feature that has written it."""
        for memory in self.by_kind[entry.kind]:
            memory.apply(entry)
        owner = self._owners.get(entry.kind)
        if owner is not None:
            assert entry.feed_offset is not None
            self.since[owner] = entry.feed_offset

    def owner(self, kind: EntryKind) -> str | None:
        """The feature that declares a kind; None for those of the kernel.

        Raises:
            FeatureMissing: It is not here.
        """
        self.hearers(kind)
        return self._owners.get(kind)

    def require(self, names: Iterable[str]) -> None:
        """Return if a ledger that names these features may be opened.

        Raises:
            FeatureMissing: One is not here.
        """
        lacking = sorted(set(names) - set(self.parts))
        if lacking:
            raise missing(lacking)

    def first(self, entry: Entry) -> FirstReceipt | None:
        """The operation that an entry of the system stream carries, and its receipt; None if it carries none."""
        owner, said = self._owners.get(entry.kind), entry.body.get("operation")
        if owner is None or said is None:
            return FirstReceipt.of(entry)
        makes = self.parts[owner].kinds[entry.kind]
        receipt = makes(entry.body) if makes is not None else receipt_of(entry)
        operation = OperationKey(id=said["id"], request_hash=said["request_hash"])
        return FirstReceipt(operation, entry.principal, receipt)

    def next_at(self) -> datetime | None:
        """Return the earliest time at which a feature is due."""
        times = [at for _, one in self if (at := one.next_at()) is not None]
        if not times:
            return None
        return min(times) if self.held_until is None else max(min(times), self.held_until)

    def due(
        self, now: datetime, is_active: Callable[[str], bool], busy: Collection[str] = ()
    ) -> Iterator[StartSession | Draft]:
        """Yield the due starts and facts of all features except the busy ones."""
        if self.held_until is None or now >= self.held_until:
            for name, memory in self._memories.items():
                if name not in busy:
                    yield from memory.due(now, is_active)

    def following(self, fact: Draft, now: datetime) -> tuple[Draft, ...]:
        """Return the drafts that features write in one commit with a fact of the kernel."""
        return tuple(draft for _, memory in self for draft in memory.follows(fact, now))

    def warming(self, name: str | None = None) -> list[Callable[[Any], None]]:
        """Return the functions that preload files for decisions, of one feature or of all."""
        return [
            part.warm
            for one, part in self.parts.items()
            if part.warm is not None and name in (None, one)
        ]

    def sessions_kept(self) -> set[str]:
        """Sessions that a feature's thing names: those stay when others are pruned."""
        return {
            session
            for part, memory in self
            if part.table is not None
            for name in part.table.session_fields
            for thing in memory.things.values()
            if (session := getattr(thing, name)) is not None
        }

    def numbers(self) -> Json:
        """Return the numbers that only `/metrics` shows, by feature; features without numbers are left out."""
        found = {name: memory.numbers() for name, memory in self._memories.items()}
        return {name: numbers for name, numbers in found.items() if numbers}


def missing(names: Sequence[str] = (), unknown: str = "") -> FeatureMissing:
    """The refusal of a ledger with entries that no feature here can read."""
    if names:
        said = f"the ledger holds entries of {' and '.join(names)}, and this runtime does not have that feature"
    else:
        said = f"the ledger holds entries of the kind {unknown}, and no feature of this runtime declares it"
    facts: Json = {"features": list(names)} if names else {"kind": str(unknown)}
    return FeatureMissing(said, **facts)
