"""What users build on is broken on purpose only: names, arguments, routes, fields, commands and options of the release.

docs/versions.md says what is promised; `make release` records one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.version import version
from tests.programs import surface
from tests.programs.surface.lines import SURFACES, breaks, record_before, record_of

RECORDS = Path(surface.__file__).parent
RELEASED = record_before(version(), (one.name for one in RECORDS.glob("*.*") if one.is_dir()))
"""The newest earlier minor version that has a record."""

ALLOWED: dict[str, set[str]] = {
    # A plain client or a load balancer takes a 4xx for the last word; ours go by the code, as they did.
    "python": {"gone: error ledger_superseded exit 5 status 409"},
    "http": set(),
    "cli": set(),
}
"""Breaks since then, with their reasons and lines in the changelog: from 1.0 on only a major version may have some."""


@pytest.mark.parametrize("name", SURFACES)
def test_nothing_that_was_released_is_broken(name: str) -> None:
    before = (RECORDS / RELEASED / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert len(before) > 100
    assert {*breaks(before, SURFACES[name]())} == ALLOWED[name]


BEFORE = ["f", "f 1:a required", "f b", "POST /x", "POST /x body n required", "helmr up --port"]
BEFORE += ["POST /x body p", "POST /x body.p q", "POST /x body.n r required"]


@pytest.mark.parametrize(
    ("gone", "come", "told"),
    [
        ("helmr up --port", "helmr up --listen", ["gone: helmr up --port"]),
        ("f b", "f c", ["gone: f b"]),
        ("f b", "f b required", ["asked for now: f b required"]),
        ("", "f c required", ["asked for now: f c required"]),
        ("", "POST /x body m required", ["asked for now: POST /x body m required"]),
        ("f 1:a required", "f 2:a required", ["gone: f 1:a required", "asked for now: f 2:a required"]),
        ("f 1:a required", "f 1:a", []),
        ("", "f c", []),
        ("", "g", []),
        ("", "g a required", []),  # of a call that no one has yet
        ("", "POST /x body.new a required", []),
        ("", "POST /x body.p.new[] a required", []),
        ("", "POST /x body.p a required", ["asked for now: POST /x body.p a required"]),
        ("", "POST /x body.n a required", ["asked for now: POST /x body.n a required"]),
        ("", "POST /x body.p.q[] a required", ["asked for now: POST /x body.p.q[] a required"]),
        ("", "POST /y body m required", []),
    ],
)  # fmt: skip
def test_a_break_is_told_and_an_addition_is_none(gone: str, come: str, told: list[str]) -> None:
    after = [one for one in BEFORE if one != gone] + [come]
    assert breaks(BEFORE, after) == told


@pytest.mark.parametrize(("name", "count"), [("python", 5), ("http", 5), ("cli", 5)])
def test_what_is_planted_in_the_real_surface_is_told(name: str, count: int) -> None:
    now = SURFACES[name]()
    for at in range(0, len(now), len(now) // count):
        assert breaks(now, [*now[:at], *now[at + 1 :]]) == [f"gone: {now[at]}"]


@pytest.mark.parametrize(
    ("own", "record", "before"),
    [
        ("0.9.0", "0.9", "0.8"),
        ("0.9.3", "0.9", "0.8"),
        ("0.10.0", "0.10", "0.9"),
        ("1.0.0rc1", "1.0", "0.10"),
        ("1.0.0", "1.0", "0.10"),
        ("1.1.0", "1.1", "1.0"),
    ],
)
def test_a_version_is_held_against_the_record_before_its_own(
    own: str, record: str, before: str
) -> None:
    assert record_of(own) == record
    assert record_before(own, ["0.10", "0.8", "1.0", "0.9", "1.1"]) == before
