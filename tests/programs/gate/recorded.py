"""What clients' hooks have posted, as files that the default tests read and the long ones compare with the client.

A file holds the client's version and of each kind of event the first, without the machine's folders.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "gate" / "recorded"
HOME = "/srv/ada"

Event = dict[str, Any]


def path_of(client: str) -> Path:
    """Where the events of a client are."""
    return FOLDER / f"{client.replace('-', '_')}.json"


def events_of(client: str) -> dict[str, Event]:
    """The recorded events of a client, by kind."""
    events = json.loads(path_of(client).read_text())["events"]
    return {one["hook_event_name"]: one for one in events}


def check(client: str, version: str, posted: Sequence[Event], home: Path) -> None:
    """Compare what a client posts now with what is recorded, or with HELMR_UPDATE_GOLDENS record it.

    Raises:
        AssertionError: It differs; says in what, a line each.
    """
    path = path_of(client)
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        kept = {"client": version, "events": list(scrubbed(posted, home).values())}
        path.write_text(json.dumps(kept, indent=1) + "\n")
    recorded = json.loads(path.read_text())
    found = [*_changed("version", recorded["client"], version)]
    found += differences(recorded["events"], posted)
    assert not found, "\n".join([f"{client} {version} posts something else than {path}:", *found])


def differences(recorded: Sequence[Event], posted: Sequence[Event]) -> list[str]:
    """In what events of each kind differ: their kinds, fields, and the types of these."""
    was, now = _shapes(recorded), _shapes(posted)
    found = [f"{kind} is posted no more" for kind in sorted(was.keys() - now.keys())]
    found += [f"{kind} is new" for kind in sorted(now.keys() - was.keys())]
    for kind in sorted(was.keys() & now.keys()):
        for name in sorted(was[kind].keys() | now[kind].keys()):
            old, new = was[kind].get(name), now[kind].get(name)
            if old is None:
                found.append(f"{kind}.{name} is new")
            elif new is None:
                found.append(f"{kind}.{name} is gone")
            else:
                found += _changed(f"{kind}.{name}", old, new)
    return found


def _changed(what: str, old: str, new: str) -> Iterator[str]:
    if old != new:
        yield f"{what} was {old}, is {new}"


def _shapes(events: Sequence[Event]) -> dict[str, dict[str, str]]:
    """The types of the fields of each kind's first event; of what a tool takes and says by their names too."""
    found: dict[str, dict[str, str]] = {}
    for one in events:
        kind = one["hook_event_name"]
        if kind not in found:
            found[kind] = dict(_fields(one))
    return found


def _fields(value: Event, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, one in value.items():
        yield prefix + name, type(one).__name__
        if isinstance(one, dict):
            yield from _fields(one, f"{prefix}{name}.")


def scrubbed(events: Sequence[Event], home: Path) -> dict[str, Event]:
    """Of each kind the first, without the machine's folders."""
    text = json.dumps(list(events)).replace(str(home), HOME)
    text = re.sub(r"-[\w-]*-home-project", "-srv-ada-project", text)
    first: dict[str, Event] = {}
    for one in json.loads(text):
        first.setdefault(one["hook_event_name"], one)
    return first
