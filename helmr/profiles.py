"""What one person set for themselves: filters by name, and how a terminal tells them that something waits.

Settings are written by hand in `console.toml`, of the default profile or of named ones, such as one for the week on
call; filters saved by a key go into one file of the profile in the state folder. Console and command line read both.

```
profile = "oncall"  # instead of the default one
[filters]
urgent = "due<10m"  # of every profile
[notices]
bell = true
[profiles.oncall.filters]
payments = "task:pay* -is:claimed"
[profiles.oncall.notices]
bell = true
osc = 9  # or 777, for terminals that show such a text as a notification
filter = "payments"  # a name or a filter; without it all waits
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helmr.errors import BadFilter, UsageError
from helmr.filters import WAIT_FIELDS, parse
from helmr.state_dir import config_folder, state_folder, write_private
from helmr.toml_files import read_toml

CONFIG_BYTES_MAX = 100_000
SAVED_BYTES_MAX = 200_000
FILTERS_MAX = 100
NAME_MAX = 40
DEFAULT = "default"
OSC_CODES = (9, 777)
BUILT_IN: Mapping[str, str] = {"mine": "is:mine", "unassigned": "is:unassigned"}
"""Filters that everybody has."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_MAX - 1}}}")


@dataclass(frozen=True, slots=True)
class TerminalNotices:
    """How a terminal tells that a wait has come.

    Args:
        bell: Whether it rings.
        osc: The escape code of a notification, 9 or 777; None for none.
        filter: The waits that it tells of; empty for all.
    """

    bell: bool = False
    osc: int | None = None
    filter: str = ""

    def __bool__(self) -> bool:
        return self.bell or self.osc is not None


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile. `filters` by name: built in ones, those of the settings, those saved by a key."""

    name: str = DEFAULT
    filters: Mapping[str, str] = field(default_factory=lambda: dict(BUILT_IN))
    notices: TerminalNotices = TerminalNotices()

    def meant(self, text: str) -> str:
        """The filter of this name; else the text, which is one itself."""
        return self.filters.get(text.strip(), text)


def read_settings(environ: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    """`console.toml` as it stands, empty without one, and where it is.

    Raises:
        UsageError: It can't be read.
    """
    path = config_folder(environ) / "console.toml"
    try:
        return read_toml(path, bytes_max=CONFIG_BYTES_MAX), path
    except FileNotFoundError:
        return {}, path


def read_profile(environ: Mapping[str, str], name: str | None = None) -> Profile:
    """A profile.

    Args:
        name: None for the one that the settings name, else the default one.

    Raises:
        UsageError: There is none of that name, or what is set in it is nothing that can be meant.
    """
    settings, path = read_settings(environ)
    chosen = name if name is not None else settings.get("profile", DEFAULT)
    named = settings.get("profiles", {})
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        raise UsageError(f"{path}: a profile is a table [profiles.NAME]")
    if not isinstance(chosen, str) or (chosen != DEFAULT and chosen not in named):
        known = ", ".join([DEFAULT, *named])
        raise UsageError(f"there is no profile {str(chosen)[:80]!r}", hint=f"Profiles: {known}.")
    own = named.get(chosen, {})
    filters = {
        **BUILT_IN,
        **texts(settings.get("filters"), path, "filters"),
        **texts(own.get("filters"), path, f"profiles.{chosen}.filters"),
        **_saved(saved_path(state_folder(environ), chosen)),
    }
    told = own.get("notices", settings.get("notices", {}))
    return Profile(chosen, filters, _notices(told, filters, path))


def saved_path(folder: Path, profile: str) -> Path:
    """Where filters are that were saved by a key, in the state folder."""
    return folder / "profiles" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', profile)}.json"


def save_filter(path: Path, name: str, text: str) -> None:
    """Keep a filter under this name in place of the one before; an empty one forgets it.

    Raises:
        UsageError: The name can't be one, is built in, or there are too many.
        BadFilter: The text is no filter.
        OSError: It can't be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"a filter's name is {NAME_MAX} letters, digits, - and _ at most")
    if name in BUILT_IN:
        raise UsageError(f"{name} is built in: {BUILT_IN[name]}")
    parse(text, WAIT_FIELDS)
    kept = _saved(path)
    if text.strip():
        kept[name] = text.strip()
    elif kept.pop(name, None) is None:
        raise UsageError(f"no filter {name} was saved by a key")
    if len(kept) > FILTERS_MAX:
        raise UsageError(f"{FILTERS_MAX} filters are saved; forget one first")
    write_private(path, json.dumps({"filters": kept}, indent=2, ensure_ascii=False))


def texts(found: Any, path: Path, name: str) -> dict[str, str]:
    """A table of texts in the settings; empty for None.

    Raises:
        UsageError: It holds something else.
    """
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UsageError(f"{path}: [{name}] holds texts only")
    return {str(key): str(value) for key, value in found.items()}


def _saved(path: Path) -> dict[str, str]:
    """A file that can't be read holds no filters; it is left as it is until the next is saved."""
    try:
        if path.stat().st_size > SAVED_BYTES_MAX:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))["filters"]
        return {str(name): str(text) for name, text in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _notices(found: Any, filters: Mapping[str, str], path: Path) -> TerminalNotices:
    if not isinstance(found, dict):
        raise UsageError(f"{path}: [notices] is a table")
    unknown = sorted(found.keys() - {"bell", "osc", "filter"})
    if unknown:
        raise UsageError(f"{path}: [notices] knows bell, osc and filter, not {unknown[0]!r}")
    bell, osc, text = found.get("bell", False), found.get("osc"), found.get("filter", "")
    if not isinstance(bell, bool) or not isinstance(text, str):
        raise UsageError(f"{path}: [notices] bell is true or false, filter a text")
    if osc is not None and osc not in OSC_CODES:
        raise UsageError(f"{path}: [notices] osc is 9 or 777")
    text = filters.get(text.strip(), text)
    try:
        parse(text, WAIT_FIELDS)
    except BadFilter as error:
        raise UsageError(f"{path}: [notices] filter: {error.message}") from error
    return TerminalNotices(bell, osc, text)
