"""Checks the paths that a call can touch: the agent's folder, and the runtime's own directory.

Paths are compared as they really are, symbolic links resolved. Where the runtime does not see the agent's files, on
another machine, a path is compared as it is written.

Invariants: S-109 (nothing allows what touches the runtime's own directory).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from helmr.gate import GatedCall
from helmr.gate.shell_words import COMMAND_MAX, plain_words

SHELL_ARGUMENT = "command"
"""The argument that a shell reads."""

PATH_MAX = 4_096
"""A longer text is no path."""

LISTS_NAMES = "Glob"
"""The tool that searches names and reads no file."""

SEARCHES = ("pattern", "regex", "query")
"""Arguments of tools that read everything below a folder; without `path` below the agent's own."""

WALKS = frozenset(
    "grep egrep fgrep zgrep rg ag ack find fd tar cp rsync scp zip mv rm chmod chown".split()  # noqa: SIM905 - reads better
)
"""Programs that reach everything below the folders they are given."""


def real_path(text: str, base: str) -> str | None:
    """The path that a text means to an agent which is in `base`; None if it is none, or that can't be known."""
    text = unquote(text[7:]) if text.startswith("file://") else text
    if not text or len(text) > PATH_MAX or "\0" in text or text.startswith("~"):
        return None
    if not text.startswith("/"):
        if not base.startswith("/"):
            return None
        text = f"{base}/{text}"
    return os.path.realpath(text)


def is_below(path: str, folder: str) -> bool:
    """True if a real path is this folder or below it, ignoring case, as some file systems do."""
    path, folder = path.casefold(), folder.casefold().rstrip("/")
    return path == folder or path.startswith(f"{folder}/")


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """The runtime's data directory: keys, secrets and everyone's sessions.

    Attributes:
        path: Path as given to the runtime.
    """

    path: str

    def resolved(self) -> OwnFolder:
        """With its real path; looks at files, as all of this does."""
        return OwnFolder(os.path.realpath(self.path))

    def is_named(self, call: GatedCall) -> bool:
        """True if the call names a path in it: as an argument, inside one, or as a word of a shell command."""
        base = call.folder or call.home
        if SHELL_ARGUMENT in call.input and base and is_below(os.path.realpath(base), self.path):
            return True
        return any(
            self._is_own(text, base)
            for name, value in call.input.items()
            for text in _texts(name, value)
        )

    def is_searched(self, call: GatedCall) -> bool:
        """True if the call reads everything below a folder that contains it."""
        base = call.folder or call.home
        command = call.input.get(SHELL_ARGUMENT)
        if isinstance(command, str):
            return self._is_walked(command, base)
        if call.tool == LISTS_NAMES or not any(name in call.input for name in SEARCHES):
            return False
        path = call.input.get("path")
        root = real_path(path if isinstance(path, str) and path else base, base)
        return root is None or is_below(self.path, root)

    def _is_walked(self, command: str, base: str) -> bool:
        words = plain_words(command) or tuple(command.split())
        if not words or words[0].rpartition("/")[2] not in WALKS:
            return False
        roots = [real_path(word, base) for word in words[1:] if not word.startswith("-")]
        there = [one for one in roots if one is not None and os.path.exists(one)]
        return any(is_below(self.path, one) for one in there or [os.path.realpath(base or "/")])

    def _is_own(self, text: str, base: str) -> bool:
        """True if a text may mean a path here. A text that a shell or a tool would expand is compared part by part."""
        name = os.path.basename(self.path)
        parts = re.split(r"[/{},]", text)
        if name.startswith(".") and any(part.casefold() == name.casefold() for part in parts):
            return True
        if any(char in text for char in "*?["):
            return self._is_like(text, base)
        path = real_path(text, base)
        return path is not None and is_below(path, self.path)

    def _is_like(self, text: str, base: str) -> bool:
        text, _, below = text.partition("**")
        name = os.path.basename(self.path)
        if any(part.strip("*?") and fnmatchcase(name, part) for part in below.split("/")):
            return True
        whole = os.path.normpath(text if text.startswith("/") else f"{base}/{text}")
        own = self.path.split("/")
        given = whole.split("/")
        is_long = len(given) >= len(own)
        return is_long and all(map(_fits, own, given))


def _fits(name: str, glob: str) -> bool:
    """Match as shells do: a star takes no name that begins with a dot."""
    is_hidden = name.startswith(".") and not glob.startswith((".", "["))
    return not is_hidden and fnmatchcase(name.casefold(), glob.casefold())


def _texts(name: str, value: Any) -> Iterator[str]:
    """Yield the parts of an argument that may be paths."""
    if isinstance(value, str):
        if name == SHELL_ARGUMENT:
            yield from _shell_texts(value)
        elif len(value) <= PATH_MAX and "\n" not in value:
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(str(key), one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(name, one)


def _shell_texts(command: str) -> Iterator[str]:
    """Words of a command, and what stands in them behind an option's name or another path."""
    words = plain_words(command)
    if words is None:
        words = tuple(re.sub(r"[\"'\\]", "", command[:COMMAND_MAX]).split())
    for word in words:
        yield word
        found = [one for one in re.split(r"[=:,@;&|()<>{}$`]+", word) if one]
        if len(found) > 1 or found != [word]:
            yield from found
        if word.startswith("-") and len(word) > 2:
            yield word[2:]
