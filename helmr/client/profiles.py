"""One person's settings: filters and runtimes by name, and notices of waits in a terminal.

People write settings by hand in `console.toml`, for the default profile or for named ones, such as one for the week on
call. Filters saved by a key go into one file per profile in the state folder, beside drafts, the key map and the log.
Console and command line read both. Contexts, which are runtimes by name, stand in `contexts.toml`; `helmr context`
writes it and people may edit it. It holds no secret: a key stays in its file.

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

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helmr.errors import BadFilter, UsageError
from helmr.person.filters import WAIT_FIELDS, parse
from helmr.private_file import write_private


def read_toml(path: Path, *, bytes_max: int) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError: There is none.
        UsageError: It can't be read, is not TOML, or has more than `bytes_max`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error
    if len(raw) > bytes_max:
        raise UsageError(f"{path} has more than {bytes_max} bytes")
    return parse_toml(raw, f"{path}")


def parse_toml(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a text in TOML.

    Args:
        raw: The text, in UTF-8.
        what: Name of the text in the error.

    Raises:
        UsageError: It is not TOML.
    """
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise UsageError(f"{what} can't be read: it is nested too deeply") from error
    except ValueError as error:  # also of a number that has too many digits
        raise UsageError(f"{what} can't be read: {error}") from error


def state_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/helmr/console`."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "helmr" / "console"


def config_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/helmr`; the key map and saved filters are read from here."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "helmr"


CONFIG_BYTES_MAX = 100_000
SAVED_BYTES_MAX = 200_000
FILTERS_MAX = 100
NAME_MAX = 40
DEFAULT = "default"
OSC_CODES = (9, 777)
BUILT_IN: Mapping[str, str] = {"mine": "is:mine", "unassigned": "is:unassigned"}
"""Filters that every profile has."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_MAX - 1}}}")


@dataclass(frozen=True, slots=True)
class TerminalNotices:
    """Announcements of new waits in a terminal.

    Args:
        bell: Ring the bell.
        osc: The escape code of a notification, 9 or 777; None for none.
        filter: The waits that it announces; empty for all.
    """

    bell: bool = False
    osc: int | None = None
    filter: str = ""

    def __bool__(self) -> bool:
        return self.bell or self.osc is not None


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile. `filters` holds built-in filters, those of the settings and those saved by a key, by name."""

    name: str = DEFAULT
    filters: Mapping[str, str] = field(default_factory=lambda: dict(BUILT_IN))
    notices: TerminalNotices = TerminalNotices()

    def meant(self, text: str) -> str:
        """Return the filter of this name; any other text is a filter itself."""
        return self.filters.get(text.strip(), text)


def read_settings(environ: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    """Return the contents of `console.toml`, empty without one, and its path.

    Raises:
        UsageError: It can't be read.
    """
    path = config_folder(environ) / "console.toml"
    try:
        return read_toml(path, bytes_max=CONFIG_BYTES_MAX), path
    except FileNotFoundError:
        return {}, path


def person(environ: Mapping[str, str], named: str | None) -> str:
    """Return the person who answers at this machine: `named`, else the settings' `identity`, else `$USER`.

    Raises:
        UsageError: The settings can't be read.
    """
    if named:
        return named
    return str(read_settings(environ)[0].get("identity", "")) or environ.get("USER") or "operator"


def read_profile(environ: Mapping[str, str], name: str | None = None) -> Profile:
    """A profile.

    Args:
        name: None for the one that the settings name, else the default one.

    Raises:
        UsageError: No profile has that name, or a setting in it is invalid.
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
    """Return the path of the profile's filters that were saved by a key, in the state folder."""
    return folder / "profiles" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', profile)}.json"


def save_filter(path: Path, name: str, text: str) -> None:
    """Keep a filter under this name in place of the one before; an empty one forgets it.

    Raises:
        UsageError: The name can't be one, is built in, or there are too many.
        BadFilter: The text is not a filter.
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
    """Read saved filters. An unreadable file counts as empty, and stays until the next filter is saved."""
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


FILE_BYTES_MAX = 100_000
CONTEXTS_MAX = 200
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
PARTS = frozenset(("url", "key_file", "on_behalf_of"))
HEAD = "# Runtimes by name, for `helmr --at NAME`. Written by `helmr context`; comments are not kept.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One runtime.

    Attributes:
        key_file: File with its API key; without it the key is found as for any URL.
        on_behalf_of: The person who acts, unless a command names another.
    """

    name: str
    url: str
    key_file: str | None = None
    on_behalf_of: str | None = None


def contexts_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the file of contexts."""
    return config_folder(environ) / "contexts.toml"


def read_contexts(environ: Mapping[str, str]) -> dict[str, Context]:
    """Read all contexts, by name.

    Raises:
        UsageError: The file can't be read, or something in it is not a context.
    """
    path = contexts_path(environ)
    try:
        found = read_toml(path, bytes_max=FILE_BYTES_MAX).get("contexts", {})
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{path}: a context is a table [contexts.NAME]")
    return {
        name: _context(name, parts, f"{path}: [contexts.{name}]") for name, parts in found.items()
    }


def find_context(environ: Mapping[str, str], name: str) -> Context:
    """Return the context of that name.

    Raises:
        UsageError: There is none, or the file can't be read.
    """
    known = read_contexts(environ)
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"Did you mean {close[0]}? " if close else ""
    there = f"Contexts: {', '.join(sorted(known))}. " if known else ""
    raise UsageError(
        f"there is no context {name[:80]!r}",
        hint=f"{guess}{there}`helmr context add NAME --url URL --key-file FILE` makes one.",
    )


def add_context(environ: Mapping[str, str], context: Context) -> bool:
    """Save a context, and return True if it replaced one of that name.

    Raises:
        UsageError: It is not a context, or there are too many.
        OSError: It can't be written.
    """
    parts = {"url": context.url, "key_file": context.key_file, "on_behalf_of": context.on_behalf_of}
    given = {name: part for name, part in parts.items() if part is not None}
    _context(context.name, given, f"context {context.name}")
    known = read_contexts(environ)
    was_there = context.name in known
    if len(known) >= CONTEXTS_MAX and not was_there:
        raise UsageError(f"there are {CONTEXTS_MAX} contexts, and no more are kept")
    _write(environ, {**known, context.name: context})
    return was_there


def remove_context(environ: Mapping[str, str], name: str) -> None:
    """Remove a context. Its key's file stays.

    Raises:
        UsageError: There is none of that name.
        OSError: It can't be written.
    """
    find_context(environ, name)
    known = read_contexts(environ)
    del known[name]
    _write(environ, known)


def _write(environ: Mapping[str, str], contexts: Mapping[str, Context]) -> None:
    lines = [HEAD]
    for name, one in sorted(contexts.items()):
        lines.append(f"\n[contexts.{json.dumps(name)}]\nurl = {json.dumps(one.url)}\n")
        if one.key_file is not None:
            lines.append(f"key_file = {json.dumps(one.key_file)}\n")
        if one.on_behalf_of is not None:
            lines.append(f"on_behalf_of = {json.dumps(one.on_behalf_of, ensure_ascii=False)}\n")
    write_private(contexts_path(environ), "".join(lines))


def _context(name: str, parts: Any, what: str) -> Context:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is not a name of a context", hint="Letters, digits, . _ - : 40 at most."
        )
    if not isinstance(parts, dict) or not PARTS.issuperset(parts):
        raise UsageError(f"{what} takes url, and optionally key_file and on_behalf_of")
    if not all(isinstance(part, str) and part and part.isprintable() for part in parts.values()):
        raise UsageError(f"{what}: each is a text")
    url = urlsplit(parts.get("url", ""))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(
            f"{what}: the URL is none of a runtime", hint="As in https://helmr.example.com:4356."
        )
    if url.username is not None or url.password is not None:
        raise UsageError(f"{what}: the URL has a user or password in it", hint="--key-file FILE")
    return Context(name=name, **parts)
