"""Since when the operator was away, by the keys they press, also over the end of the console."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helmr_console.ended import AWAY, LastHere

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ada" / "last-here.json"


def ended_and_opened(here: LastHere, path: Path, at: datetime) -> LastHere:
    """As it is after the console ended and was opened again then."""
    asyncio.run(here.keep(at))
    return LastHere(path)


def test_who_was_never_here_was_not_away(path: Path) -> None:
    here = LastHere(path)
    assert here.pressed(NOW) is None
    assert here.since is None


def test_who_presses_no_key_for_a_while_was_away_since_the_last_one(path: Path) -> None:
    here = LastHere(path)
    here.pressed(NOW)
    assert here.pressed(NOW + AWAY - MINUTE) is None, "reading is being here"
    back = NOW + 3 * AWAY
    assert here.pressed(back) == 2 * AWAY + MINUTE
    assert here.since == NOW + AWAY - MINUTE
    assert here.pressed(back + MINUTE) is None
    assert here.since == NOW + AWAY - MINUTE, "it stays until they are away again"


def test_it_outlives_the_console(path: Path) -> None:
    here = LastHere(path)
    here.pressed(NOW)
    here = ended_and_opened(here, path, NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    here.pressed(NOW + timedelta(hours=8))
    assert here.since == NOW
    again = ended_and_opened(here, path, NOW + timedelta(hours=8))
    assert again.pressed(NOW + timedelta(hours=8, minutes=1)) is None
    assert again.since == NOW, "to open it once more is not to come back"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"last": 5, "since": null}',
        '{"last": "2026-11-26T14:00:00", "since": null}',
    ],
)
def test_a_file_that_says_nothing_is_none(path: Path, said: str) -> None:
    path.parent.mkdir()
    path.write_text(said)
    assert LastHere(path).since is None
    assert LastHere(path).pressed(NOW) is None
