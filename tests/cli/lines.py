"""What tests of every command type, as data.

Lines of the kernel stand in these tests, those of a feature in `tests/features/NAME/lines.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.of_features import of_features

if TYPE_CHECKING:
    from tests.cli.option_world import World
    from tests.service.stack import Stack


@dataclass(frozen=True)
class Line:
    """What is typed behind `helmr`; `$NAME` is a thing of that name in the runtime, a `$NEW_…` one for this line alone.

    Attributes:
        words: As in a shell.
        says: A pattern of what stands on stdout, with and without --json.
        code: How it ends.
        has_form: It has a form of its own, which is not JSON.
        stdin: What it reads.
    """

    words: str
    says: str = ""
    code: int = 0
    has_form: bool = False
    stdin: str = ""


Post = Callable[[str, Any], Awaitable[dict[str, Any]]]
"""Posts a body to a path of the runtime; its answer."""


@dataclass(frozen=True, kw_only=True)
class FeatureLines:
    """`LINES` of `tests/features/NAME/lines.py`: how the commands of a feature are tried.

    `tests/cli/test_every_option.py` fails for a command or an option that stands neither in `run` nor in `alone` nor in
    `elsewhere`, `tests/cli/test_hostile.py` for a command that stands neither in `walked` nor in `not_walked`.

    Attributes:
        run: Lines that run one after the other in the process of the test.
        alone: Lines that run in a process of their own, as those that read all of stdin.
        elsewhere: Commands and options that other tests run for real, and the function in which each stands.
        names: Makers of what the names in `run` and `alone` stand for, by name.
        config: Its part of the runtime's `helmr.toml`.
        walked: Commands, and the lines each is tried with in a runtime that is full of hostile text.
        silent: Those of `walked` that say only ids and words of Helmr's own.
        not_walked: Other commands, and the reason.
        fill: Puts hostile text into what the feature keeps; returns what the names in `walked` stand for.
    """

    run: tuple[Line, ...] = ()
    alone: tuple[Line, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Callable[[World], str]] = field(default_factory=dict)
    config: str = ""
    walked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    not_walked: Mapping[str, str] = field(default_factory=dict)
    fill: Callable[[Stack, Post], Awaitable[dict[str, str]]] | None = None


def lines_of_features() -> list[FeatureLines]:
    """Those of the features that are in use and have commands."""
    return [one.LINES for one in of_features("lines")]
