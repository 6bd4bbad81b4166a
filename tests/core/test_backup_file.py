"""A backup's file says by itself which line is not as it was written, and whether its end is there (S-66)."""

from __future__ import annotations

import io
import json
import random
from dataclasses import asdict
from typing import Any

import pytest

from helmr.errors import LedgerDamaged, UsageError
from helmr_runtime.core.session_file import BackupHeader, BackupReader, BackupWriter

HEADER = BackupHeader(helmr="1.0", schema=4, through=3, openings=2, encrypts=False)
FACTS = asdict(HEADER)
ENTRY: list[Any] = ["e", 1, "a", 1, 5, "note.added", None, None, "{}", '{"text":"ö\\n"}', "00ff"]
ROWS = [ENTRY, ["c", 1, "a", 1, "{}"], [*ENTRY[:1], 2, *ENTRY[2:]], [*ENTRY[:1], 3, *ENTRY[2:]]]


def written() -> bytes:
    writer = BackupWriter()
    rows = [json.dumps(row, ensure_ascii=False).replace(", ", ",").encode() for row in ROWS]
    return writer.header(HEADER) + writer.rows(rows[:2]) + writer.rows(rows[2:]) + writer.footer()


def read(data: bytes) -> tuple[BackupHeader, list[list[Any]]]:
    reader = BackupReader(io.BytesIO(data))
    return reader.header, list(reader.rows())


def test_what_was_written_is_read() -> None:
    assert read(written()) == (HEADER, ROWS)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_byte_is_named_by_its_line(seed: int) -> None:
    data, chance = written(), random.Random(seed)
    for place in chance.sample(range(len(data)), min(200, len(data))):
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        line = data[:place].count(b"\n") + 1
        with pytest.raises((LedgerDamaged, UsageError)) as caught:
            read(bytes(changed))
        if isinstance(caught.value, UsageError):
            assert line == 1, "only a changed beginning makes it another kind of file"
        else:
            assert caught.value.facts["line"] == line


def test_a_file_that_is_cut_anywhere_is_none() -> None:
    data = written()
    for end in range(len(data)):
        with pytest.raises((LedgerDamaged, UsageError)):
            read(data[:end])


def test_nothing_may_follow_its_end() -> None:
    with pytest.raises(LedgerDamaged, match="line 7: something follows"):
        read(written() + b"\n")


@pytest.mark.parametrize("left_out", [1, 2, 4])
def test_a_line_that_is_gone_is_missed(left_out: int) -> None:
    lines = written().splitlines(keepends=True)
    del lines[left_out]
    with pytest.raises(LedgerDamaged) as caught:
        read(b"".join(lines))
    assert caught.value.facts["line"] == left_out + 1


def test_a_backup_of_a_newer_format_is_told() -> None:
    first = written().splitlines(keepends=True)[0].replace(b"helmr-backup/1", b"helmr-backup/2")
    with pytest.raises((LedgerDamaged, UsageError)):
        read(first)


def test_what_is_no_backup_is_told() -> None:
    with pytest.raises(UsageError, match="not a backup"):
        read(b'{"format": "helmr-session/1"}\n')
    with pytest.raises(UsageError, match="not a backup"):
        read(b"")


@pytest.mark.parametrize(
    "facts",
    [None, [], {}, {"helmr": "1"}, {**FACTS, "schema": "3"}, {**FACTS, "encrypts": 1}],
    ids=str,
)
def test_a_header_that_somebody_made_is_told(facts: Any) -> None:
    line = BackupWriter()._line(json.dumps(["helmr-backup/1", facts]).encode())
    with pytest.raises(LedgerDamaged, match="line 1: it is not a header"):
        read(line)
