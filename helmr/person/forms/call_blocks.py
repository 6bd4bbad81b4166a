"""Renders a tool's call for people: the command, the diff. Pure.

A UI shows these in place of the arguments they render. The gate writes the same blocks into a wait's body; `without`
removes them where the call itself is shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

_FENCED: Final = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)\n\1$\n*", re.MULTILINE | re.DOTALL)
DIFF: Final = "diff"
"""Language of a block that shows an edit."""

_TEXTS: Final = frozenset(("old_string", "new_string"))
_TAIL: Final = re.compile(r"\n\\ the (?:old|new) text has no line break at its end\Z")
_HEAD: Final = re.compile(r"\A--- [^\n]*\n\+\+\+ [^\n]*\n")


@dataclass(frozen=True, slots=True)
class CallBlock:
    """A command or a diff. `names` are the arguments that need not be shown beside it; session text."""

    language: str
    text: str
    names: frozenset[str]


def blocks(given: Mapping[str, Any], hidden: Collection[str] = ()) -> Iterator[CallBlock]:
    """The command and the edits of a call with these arguments, none of which is left out.

    Args:
        given: The arguments, by name.
        hidden: Those that no one is shown.
    """
    command = given.get("command")
    if isinstance(command, str) and "command" not in hidden:
        yield CallBlock("sh", command, frozenset(("command",)))
    where = next((name for name in ("file_path", "notebook_path") if given.get(name)), "")
    path, edits = given.get(where), given.get("edits")
    if not isinstance(path, str) or not path.isprintable() or where in hidden:
        return
    if not isinstance(edits, list):
        if (one := _edit(path, given, hidden)) is not None:
            yield replace(one, names=one.names | {where})
    elif "edits" not in hidden:
        found = [_edit(path, one, hidden) for one in edits if _is_edit(one)]
        diffs = [replace(one, names=frozenset(("edits", where))) for one in found if one]
        if len(diffs) == len(edits):  # else they would not say all of it
            yield from diffs


def _is_edit(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() <= _TEXTS


def _edit(path: str, edit: Mapping[str, Any], hidden: Collection[str]) -> CallBlock | None:
    """The diff of an edit, if it says all that its texts say."""
    old_name, new_name = "old_string", "new_string"
    if "old_string" not in edit and "new_string" not in edit:
        old_name, new_name = "", "content" if "content" in edit else "new_source"
    old, new = edit.get(old_name, "" if not old_name else None), edit.get(new_name)
    names = frozenset(name for name in (old_name, new_name) if name)
    if not isinstance(old, str) or not isinstance(new, str) or names & set(hidden):
        return None
    if not (_is_plain(old) and _is_plain(new)) or old == new:
        return None
    text = diff(path, old, new)
    if old.endswith("\n") != new.endswith("\n"):
        which = "old" if new.endswith("\n") else "new"
        text += f"\n\\ the {which} text has no line break at its end"
    return CallBlock(DIFF, text, names)


def _is_plain(text: str) -> bool:
    """True if only line feeds end its lines: a diff shows no other line endings."""
    return text.splitlines() == text.removesuffix("\n").split("\n") or not text


def diff(name: str, old: str, new: str) -> str:
    """A unified diff of two texts."""
    before = name if old else "/dev/null"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), before, name, lineterm="")
    return "\n".join(lines)


def without(body: str, told: Collection[str], lines: Collection[str] = ()) -> str:
    """The body without its blocks that are these texts, whatever file their diffs name, and without these lines."""
    known = {_HEAD.sub("", _TAIL.sub("", text)) for text in told}

    def kept(found: re.Match[str]) -> str:
        return "" if _HEAD.sub("", found[3]) in known else found[0]

    left = _FENCED.sub(kept, body)
    if lines:
        left = "\n".join(line for line in left.split("\n") if line not in lines)
    return left.strip("\n")
