"""A step's arguments as text: the same for the same values, in every process (S-126)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr, computed_field

from helmr_runtime.replay.cursor import NO_FORM, arguments_text


class Color(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    number: str
    tags: set[str]


class Letter(BaseModel):
    to: str
    tags: frozenset[str] = frozenset()
    order: Order | None = None


class Broken(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def price(self) -> int:
        raise RuntimeError("no price yet")


class Mailer:
    pass


def ticks() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        ("ä", '"ä"'),
        ([1, (2, None)], "[1,[2,null]]"),
        ({"b": 1, "a": True}, '{"a":true,"b":1}'),
        ({"c", "a", "b"}, r'["\"a\"","\"b\"","\"c\""]'),
        (Point(1, 2), "[1,2]"),
        (Size.BIG, "3"),
        (Color.RED, '"red"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00Z"'),
        (timedelta(hours=1), '"PT1H"'),
        (Decimal("1.50"), '"1.50"'),
        (Path("/tmp/x"), '"/tmp/x"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"\xff", '"ff"'),
        (Order("7", {"b", "a"}), r'{"number":"7","tags":["\"a\"","\"b\""]}'),
        (
            Letter(to="ada", tags=frozenset({"b", "a"}), order=Order("7", set())),
            r'{"order":{"number":"7","tags":[]},"tags":["\"a\"","\"b\""],"to":"ada"}',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_has_one_text(value: Any, expected: str):
    text = arguments_text([value, 1], {"by": value})
    assert text is not None
    assert json.loads(text) == [[expected, "1"], {"by": expected}]


@pytest.mark.parametrize(
    "value",
    [
        Mailer(),
        object(),
        print,
        Mailer,
        ticks(),
        SecretStr("x"),
        Broken(),
        [Mailer()],
        {1: "a", "b": 2},
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_has_no_json_form_is_left_out_and_not_read(value: Any):
    assert arguments_text([value], {}) is None
    assert arguments_text([value, 1], {"by": "ada"}) == f'[["{NO_FORM}","1"],{{"by":"\\"ada\\""}}]'


def test_a_generator_is_still_whole():
    given = ticks()
    arguments_text([given, [given]], {})
    assert list(given) == [1]


def test_what_holds_itself_is_left_out():
    ring: list[Any] = []
    ring.append(ring)
    assert arguments_text([ring], {}) is None


def test_without_arguments_there_is_nothing_to_compare():
    assert arguments_text([], {}) is None


def test_the_text_is_the_same_in_processes_with_other_hash_seeds(project_root: Path):
    program = (
        "from helmr_runtime.replay.cursor import arguments_text as text\n"
        "print(text([{'red', 'green', 'blue', 'black'}], {}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{project_root}:{project_root}/runtime"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
