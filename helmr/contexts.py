"""Runtimes by name, as one person calls them: where each is, which file has its key, for whom one acts there.

They stand in `contexts.toml` in the folder of settings, which `helmr context` writes and people may edit. It holds no
secret: a key stays in its file.

```
[contexts.prod - eu]
url = "https://helmr.eu.example.com"
key_file = "~/.config/helmr/prod-eu.key"
on_behalf_of = "ada"
```
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helmr.errors import UsageError
from helmr.state_dir import config_folder, write_private
from helmr.toml_files import read_toml

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
        on_behalf_of: The person who acts, unless a command says another.
    """

    name: str
    url: str
    key_file: str | None = None
    on_behalf_of: str | None = None


def contexts_path(environ: Mapping[str, str]) -> Path:
    """Where they stand."""
    return config_folder(environ) / "contexts.toml"


def read_contexts(environ: Mapping[str, str]) -> dict[str, Context]:
    """All of them, by name.

    Raises:
        UsageError: The file can't be read, or something in it is no context.
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
    """The one of that name.

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
    """Keep a context, in place of the one of that name; whether there was one.

    Raises:
        UsageError: It is none, or there are too many.
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
    """Forget a context. Its key's file stays.

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
            f"{name[:80]!r} is no name of a context", hint="Letters, digits, . _ - : 40 at most."
        )
    if not isinstance(parts, dict) or not PARTS.issuperset(parts):
        raise UsageError(f"{what} has url, and if wanted key_file and on_behalf_of")
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
