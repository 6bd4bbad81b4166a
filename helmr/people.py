"""How lists of people and groups name them: `ada@example.com`, `ada`, `group:finance`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helmr.errors import UsageError
from helmr.models import PERSON_MAX

PERSON = "person:"
GROUP = "group:"

STARTER = "starter"
"""In `not_by`: the person who started the session or its run."""

PEOPLE_MAX = 50
"""Names that one list of a wait holds."""

APPROVALS_MAX = 20
"""People that must agree."""

REFUSALS_MAX = 20


def person_key(name: str) -> str:
    """A person's name as it is compared: without `person:` in front, and without regard to case."""
    return name.strip().removeprefix(PERSON).casefold()


def group_key(name: str) -> str:
    """A group's name as lists write it."""
    return GROUP + name


def list_key(name: str) -> str:
    """A person's or group's name as it is compared."""
    text = name.strip()
    return text if text.startswith(GROUP) else person_key(text)


def answered_by(
    answerers: Sequence[str], not_by: Sequence[str], approvals: int, *, signed: bool = False
) -> str:
    """Who may answer a wait: `by 2 people: group finance or ada, but not by starter`. The names are not made safe."""
    people = _joined(answerers) if answerers else "any person who is signed in"
    by = f"by {approvals} people: {people}" if approvals > 1 else f"by {people}"
    but = f", but not by {_joined(not_by)}" if not_by else ""
    return f"{by}{but}{', signed by the person who gives it' if signed else ''}"


def checked_people(names: Iterable[str], what: str) -> tuple[str, ...]:
    """The people and groups of a list as they are compared, each once.

    Args:
        names: As code gave them.
        what: The list, for messages.

    Raises:
        UsageError: It is one text, a name is none, or there are too many.
    """
    if isinstance(names, str):
        raise UsageError(
            f"{what} is a list of people and groups", hint=f"Write {what}=[{names[:64]!r}]."
        )
    found = tuple(dict.fromkeys(_checked(name, what) for name in names))
    if len(found) > PEOPLE_MAX:
        raise UsageError(f"{what} has at most {PEOPLE_MAX} names")
    return found


def _joined(names: Sequence[str]) -> str:
    shown = [name.replace(GROUP, "group ") for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _checked(name: str, what: str) -> str:
    text = name.strip()
    is_group = text.startswith(GROUP)
    bare = text.removeprefix(GROUP) if is_group else person_key(text)
    if not 1 <= len(bare) <= PERSON_MAX or not bare.isprintable():
        raise UsageError(
            f"{name[:64]!r} names no person or group in {what}",
            hint="Write ada@example.com, ada or group:finance.",
        )
    return group_key(bare) if is_group else bare
