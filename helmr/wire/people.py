"""Names in lists of people and groups: `ada@example.com`, `ada`, `group:finance`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from helmr.errors import UsageError

PERSON_MAX = 200
"""Characters of a person's or group's name."""

PERSON = "person:"
GROUP = "group:"

STARTER = "starter"
"""Stands in `not_by` for the person who started the session or its run."""

PEOPLE_MAX = 50
"""Names that one list of a wait holds."""

APPROVALS_MAX = 20
"""People that must agree."""

REFUSALS_MAX = 20


def person_key(name: str) -> str:
    """Return a person's name for comparison: without the prefix `person:`, in one case."""
    return name.strip().removeprefix(PERSON).casefold()


def group_key(name: str) -> str:
    """Return a group's name as lists write it."""
    return GROUP + name


def list_key(name: str) -> str:
    """Return a person's or group's name for comparison."""
    text = name.strip()
    return text if text.startswith(GROUP) else person_key(text)


def answered_by(
    answerers: Sequence[str], not_by: Sequence[str], approvals: int, *, signed: bool = False
) -> str:
    """Describe the answerers of a wait: `by 2 people: group finance or ada, but not by starter`. Escapes no name."""
    people = _joined(answerers) if answerers else "any person who is signed in"
    by = f"by {approvals} people: {people}" if approvals > 1 else f"by {people}"
    but = f", but not by {_joined(not_by)}" if not_by else ""
    return f"{by}{but}{', signed by the person who gives it' if signed else ''}"


def checked_people(names: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the people and groups of a list for comparison, each once.

    Args:
        names: Names as given by code.
        what: The list, for messages.

    Raises:
        UsageError: It is a single text, has an invalid name, or has too many.
    """
    listed = checked_list(names, what, "people and groups")
    found = tuple(dict.fromkeys(_checked(name, what) for name in listed))
    if len(found) > PEOPLE_MAX:
        raise UsageError(f"{what} has at most {PEOPLE_MAX} names")
    return found


def checked_list(given: Any, what: str, of: str) -> list[Any]:
    """Return the items of an option that takes a list.

    Raises:
        UsageError: It is a text, which would give its letters, an object, or not iterable.
    """
    if isinstance(given, list | tuple | set | frozenset):
        return list(given)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        shown = repr(given[:64]) if isinstance(given, str) else "…"
        raise UsageError(f"{what} is a list of {of}", hint=f"Write {what}=[{shown}].")
    return list(given)


def _joined(names: Sequence[str]) -> str:
    shown = [name.replace(GROUP, "group ") for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _checked(name: Any, what: str) -> str:
    if not isinstance(name, str):
        raise UsageError(
            f"{what} lists {type(name).__name__}, not names of people and groups",
            hint=f'Write {what}=["{GROUP}finance", "ada@example.com"].',
        )
    text = name.strip()
    is_group = text.startswith(GROUP)
    bare = text.removeprefix(GROUP) if is_group else person_key(text)
    if not is_group and (":" in bare and "@" not in bare):
        raise UsageError(
            f"{name[:64]!r} names no person or group in {what}",
            hint=f"A group is {GROUP}finance, a person ada@example.com or ada.",
        )
    if not 1 <= len(bare) <= PERSON_MAX or not bare.isprintable():
        raise UsageError(
            f"{name[:64]!r} names no person or group in {what}",
            hint="Write ada@example.com, ada or group:finance.",
        )
    return group_key(bare) if is_group else bare
