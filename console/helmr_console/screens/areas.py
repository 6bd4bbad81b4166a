"""The areas Activity, with the acts of people, and System, with the state of the runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pkgutil import resolve_name
from typing import Any

from textual.containers import Container
from textual.content import Content
from textual.widget import Widget

from helmr.models import EntryInfo
from helmr.person.filters import Facts, Fields, parse
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console import entry_lines, safe, system_views, views
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.clock import SKEW_SHOWN_S
from helmr_console.entry_lines import EntryLine
from helmr_console.feature import SystemList, lists_in_use
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.system import NoticesScreen, SystemReads
from helmr_console.views import Cell, Row
from helmr_console.widgets.details import entry_in_full
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import TextPane, fact, head, lines

ERRORS_SHOWN = 8
SAID_ABOVE = ("warnings", "states", "limits")
"""Keys of the pool that are shown as sentences instead."""

ACTIVITY_FIELDS = Fields(
    noun="activity",
    texts=("by", "kind", "what", "session", "is"),
    times={"age": ("at", False)},
    pushed={},
    words={"is": ("people",)},
)
BY_PEOPLE = "is:people"
_OF_PROGRAMS = ("session.created", "run.created", "token.created", "public_token.created")
"""Kinds of entries that programs write all day; people cause the others, under any key."""


def is_of_people(entry: EntryInfo) -> bool:
    """True if a person did it, by name or by kind: programs' keys only start, send and create links."""
    is_sent = entry.kind == "input.accepted" and not entry.body.get("wait_id")
    return entry.principal.person is not None or not (is_sent or entry.kind in _OF_PROGRAMS)


class ActivityScreen(ListScreen[EntryInfo]):
    """Acts of people and their tokens, newest first."""

    AREA = "activity"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA)
    BINDINGS = bindings(*SCOPES)
    FIELDS = ACTIVITY_FIELDS
    TITLE_TEXT = "Activity, newest first"
    NOUN = "acts"
    PANE = "Act"
    HINT = "What people did is shown here."
    NONE = "No one has done anything lately."
    COLUMNS = (
        Column("at", 8),
        Column("who", 16),
        Column("did", 9),
        Column("what", 0),
        Column("session", 11, from_width=90),
    )
    HELP_TEXT = (
        "What people did, with their names: answers, notes, cancels, retries; esc clears the filter is:people and "
        "shows what programs did, too. What tasks and the runtime did is left out. The list covers the last 2,000 "
        "entries of the feed and goes on live."
    )

    def __init__(self) -> None:
        super().__init__()
        self.filter_text = BY_PEOPLE
        self.filter = parse(BY_PEOPLE, self.FIELDS)

    def all_keys(self) -> Iterable[str]:
        """Offsets as keys, newest first."""
        return [str(entry.feed_offset) for entry in reversed(self.console.store.activity)]

    def things(self) -> Mapping[str, EntryInfo]:
        """Entries by their offset."""
        return {str(entry.feed_offset): entry for entry in self.console.store.activity}

    def row_of(self, entry: EntryInfo, now: datetime) -> Row:
        """time, person, act, content, session."""
        line = self._line(entry)
        return (
            Cell(words.clock(entry.recorded_at), "muted"),
            Cell(line.by),
            Cell(line.word, line.role),
            Cell(line.text),
            Cell(words.short_id(entry.session_id), "muted"),
        )

    def _line(self, entry: EntryInfo) -> EntryLine:
        """The entry's line; an answer shows the subject of its wait, if known."""
        line = entry_lines.entry_line(entry)
        wait = self.console.store.wait(str(entry.body.get("wait_id", "")))
        if entry.kind != "input.accepted" or wait is None:
            return line
        said = f"{words.subject_of(wait)}  → {words.brief(entry.body.get('data'))}"
        return replace(line, word="answered", text=said)

    def facts_of(self, entry: EntryInfo) -> Facts:
        """Facts for the filter."""
        line = self._line(entry)
        return {
            "is": ("people",) if is_of_people(entry) else (),
            "by": line.by,
            "kind": entry.kind,
            "what": line.text,
            "session": entry.session_id,
            "at": entry.recorded_at,
        }

    def content_of(self, entry: EntryInfo, now: datetime) -> Content:
        """The act in full."""
        return entry_in_full(entry)

    def do_open(self) -> None:
        """Open the act's session."""
        entry = self.selected()
        if entry is not None:
            self.app.push_screen(SessionScreen(entry.session_id))

    def do_copy(self) -> None:
        """Copy the session's id, or the act as JSON."""
        entry = self.selected()
        if entry is not None:
            items = [("session id", entry.session_id), ("JSON", entry.model_dump_json(indent=2))]
            self.app.push_screen(copy_menu(self, items))


class FeatureLists:
    """Opens the lists of features from the System area."""

    def __init__(self, screen: ConsoleScreen) -> None:
        self._screen = screen
        for one in lists_in_use():
            setattr(self, f"do_{one.action}", partial(self._open, one))

    def _open(self, one: SystemList) -> None:
        self._screen.app.push_screen(resolve_name(one.screen)())


def _opening() -> str:
    """The keys that open lists, as a sentence."""
    found = [(one.key, one.opens) for one in lists_in_use()]
    found.append(("n", "the notice targets"))
    (key, opened), *others = found
    return (
        ", ".join([f"{key} opens {opened}", *(f"{key} {opened}" for key, opened in others)]) + "."
    )


class SystemScreen(ConsoleScreen):
    """The runtime's state as it reports it, and the console's own errors."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.SYSTEM)
    BINDINGS = bindings(*SCOPES)
    HELP_TEXT = (
        "What the gateway reports about itself, the feed's age, limits, and errors that this console has seen. "
        + _opening()
    )
    DEFAULT_CSS = """
    SystemScreen #middle { layout: horizontal; height: 1fr; }
    SystemScreen.-narrow #middle { layout: vertical; }
    SystemScreen TextPane { width: 1fr; height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = (SystemReads(self), FeatureLists(self))
        self.left = TextPane("Runtime", id="runtime")
        self.right = TextPane("Console", id="console")

    def body(self) -> Iterable[Widget]:
        """Runtime and console side by side."""
        yield Container(self.left, self.right, id="middle")

    def on_mount(self) -> None:
        """Draw what is known."""
        self.store_changed()

    def context(self) -> ActionContext:
        """The context without a selected row."""
        return replace(super().context(), row=False)

    def store_changed(self) -> None:
        """Redraw both sides."""
        super().store_changed()
        if self.is_attached:
            self.left.say(lines(self._that_side()))
            self.right.say(lines(self._this_side()))

    def tick(self) -> None:
        """Redraw, because ages change."""
        super().tick()
        self.store_changed()

    def merge(self) -> None:
        """Do nothing: this screen never holds changes back."""

    def do_notices(self) -> None:
        """Open the list of notice targets."""
        self.app.push_screen(NoticesScreen())

    def status(self) -> tuple[Pairs, Pairs]:
        """The worst state: a failing connection, not ready, warnings, or ready."""
        store = self.console.store
        if store.freshness.failing:
            return ((one_line(store.freshness.error, 300), "error"),), ()
        ready = store.health is not None and store.health.ready
        if ready and (self._stuck() or (store.health is not None and store.health.warnings)):
            return (("ready, with warnings", "warning"),), ()
        return (("ready" if ready else "not ready", "success" if ready else "warning"),), ()

    def _stuck(self) -> str:
        """Runs that have their answer and have not gone on; empty if none."""
        store = self.console.store
        since = store.stuck()
        if not since:
            return ""
        age = words.span((store.now() - since[0]).total_seconds())
        runs = "run has" if len(since) == 1 else "runs have"
        return f"{len(since)} answered {runs} not gone on yet, the oldest for {age}"

    def _that_side(self) -> list[Content]:
        health = self.console.store.health
        if health is None:
            return [safe.line("The gateway has not answered yet.", "$c-muted")]
        state = "ready" if health.ready else "NOT ready"
        parts = [
            fact(
                "state",
                Content.styled(state, "bold $c-success" if health.ready else "bold $c-error"),
            ),
            *(safe.line(f"  ! {reason}", "$c-error", limit=300) for reason in health.reasons),
            *(
                safe.line(f"  ! {warning}", "$c-warning", limit=300)
                for warning in (*health.warnings, self._stuck())
                if warning
            ),
            *(
                [fact("degraded", safe.line(", ".join(health.degraded), "$c-warning", limit=300))]
                if health.degraded
                else []
            ),
            *(
                [
                    fact(
                        "sessions",
                        Content.assemble((failed, "$c-error"), ("   ! lists", "$c-muted")),
                    )
                ]
                if (failed := views.failed_text(*self.console.store.failed_and_blocked))
                else []
            ),
            fact("version", safe.line(health.version, limit=60)),
        ]
        if health.started_at is not None:
            up = words.span((self.console.store.now() - health.started_at).total_seconds())
            parts.append(fact("up for", up))
        for name, value in (
            ("pid", health.pid),
            ("data", health.data_dir),
            ("feed at", health.feed_offset),
        ):
            if value is not None:
                parts.append(fact(name, safe.line(value, limit=200)))
        parts += self._started_and_told()
        parts += self._limits()
        for title, values in (
            ("Counts", health.counts),
            ("Pool", {k: value for k, value in health.pool.items() if k not in SAID_ABOVE}),
            ("Ledger", health.ledger),
        ):
            if values:
                parts += [Content(""), head(title), *_flat(values)]
        return parts

    def _started_and_told(self) -> list[Content]:
        """Lists of features and notice targets, a line each."""
        store, now = self.console.store, self.console.store.now()
        if store.targets is None:
            return []
        return [
            fact(
                name,
                Content.assemble((text, f"$c-{role}" if role else ""), (f"   {key}", "$c-muted")),
            )
            for name, (text, role), key in (
                *(
                    (one.name, one.line(store.of_features[one.name], now), f"{one.key} lists")
                    for one in lists_in_use()
                ),
                ("notices", system_views.targets_line(store.targets, now), "n lists"),
            )
        ]

    def _limits(self) -> list[Content]:
        """The limits that steps and tasks share, a line each."""
        store, now = self.console.store, self.console.store.now()
        said = ((name, *system_views.limit_line(one, now)) for name, one in store.limits.items())
        rows = [
            safe.line(f"  {name}  {text}", f"$c-{role}" if role else "", limit=200)
            for name, text, role in said
        ]
        return [Content(""), head("Limits"), *rows] if rows else []

    def _this_side(self) -> list[Content]:
        console, store = self.console, self.console.store
        parts = [
            fact("gateway", safe.line(console.client.endpoint.url, limit=200)),
            fact("picture", store.freshness.text(store.mono())),
            fact("as", safe.line(console.identity, limit=80)),
            fact("mode", "read-only" if console.options.read_only else "read-write"),
        ]
        skew_s = store.clock.skew_s
        if abs(skew_s) > SKEW_SHOWN_S:
            text = f"this machine's clock is {abs(skew_s):.0f}s {'behind' if skew_s > 0 else 'ahead of'} the server's"
            parts.append(safe.line(f"! {text}; deadlines are the server's", "$c-warning"))
        parts += [
            fact(
                "waits held",
                f"{len(store.waits)}{' (cut)' if store.waits_cut else ''} of at most 5000",
            ),
            fact("sessions", f"{len(store.sessions)} read, at most 5000"),
            fact("streams", f"{len(store.streams)} of {len(store.tasks)} tasks"),
            fact("theme", safe.line(self.app.theme, limit=40)),
            fact("log", safe.line(console.options.log_path, limit=200)),
        ]
        if store.freshness.failing:
            left_s = max(0.0, (store.freshness.next_try_s or 0) - store.mono())
            parts += [
                Content(""),
                head("Connection"),
                safe.text(store.freshness.error, "$c-error", limit=400),
                safe.line(
                    f"attempt {store.freshness.attempt}, next try in {left_s:.0f}s; r asks now"
                ),
            ]
        if store.errors:
            parts += [Content(""), head("Last errors")]
            parts += [
                safe.line(
                    f"{error}{f'  ({count} times)' if count > 1 else ''}", "$c-muted", limit=300
                )
                for error, count in counted(store.errors)[-ERRORS_SHOWN:]
            ]
        return parts


def counted(errors: Iterable[str]) -> list[tuple[str, int]]:
    """Each error once, by its last occurrence, with its count."""
    found: dict[str, int] = {}
    for error in errors:
        found[error] = found.pop(error, 0) + 1
    return list(found.items())


def _flat(values: dict[str, Any], before: str = "") -> list[Content]:
    parts: list[Content] = []
    for key, value in list(values.items())[:60]:
        name = f"{before}{key}"
        if isinstance(value, dict):
            parts += _flat(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts += _flat({f"{name} {n}": _in_one_line(one) for n, one in enumerate(value, 1)})
        else:
            name = name.replace("_", " ")
            label = name if len(name) <= 24 else f"…{name[-23:]}"
            parts.append(
                Content.assemble(
                    safe.line(f"{label:<25}", "$c-muted", limit=30),
                    safe.line(_said(value), limit=200),
                )
            )
    return parts


def _in_one_line(one: Mapping[str, Any]) -> str:
    """The facts about one host or one crash, in one line."""
    plain = {name: value for name, value in one.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name.replace('_', ' ')} {_said(value)}" for name, value in plain.items())


def _said(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    plain = value is None or isinstance(value, bool)
    return {True: "yes", False: "no", None: "none"}[value] if plain else value
