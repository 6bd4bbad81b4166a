"""A session file says by itself whether anything in it was changed, and where first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import SessionFileDamaged, UsageError
from helmr.testing import recorded
from helmr.wire import ids
from helmr_runtime.core.session_file import (
    FORMAT,
    FileReader,
    FileSignature,
    FileWriter,
    read_session,
)

SESSION = ids.new_id(ids.SESSION)
SIGNATURE = FileSignature("ed25519:AAAA", "BBBB")
BODIES: tuple[dict[str, Any], ...] = (
    {"task": "review", "tags": [], "metadata": {}},
    {"text": 'Zoë said "yes",\n\u2028 and more \\ ' + "é" * 40},
    {"value": [1, 1.0, -0.0, 2**53 + 1, None, True, {"chain": "no"}]},
)


def entry(seq: int, body: dict[str, Any], kind: str = "note.added") -> dict[str, Any]:
    return {
        "session_id": SESSION,
        "seq": seq,
        "feed_offset": 7 * seq,
        "recorded_at": f"2026-03-01T12:00:0{seq}.000000Z",
        "kind": kind,
        "run_id": None,
        "op": None,
        "principal": {"type": "api_key", "id": "key_1", "name": "Ada"},
        "body": body,
    }


def written(bodies: Iterable[dict[str, Any]] = BODIES, *, last_seq: int | None = None) -> bytes:
    entries = [entry(seq, body) for seq, body in enumerate(bodies, 1)]
    writer = FileWriter()
    lines = [
        writer.header(
            version="1.2.3",
            session_id=SESSION,
            task="review",
            code_hash="abc",
            last_seq=len(entries) if last_seq is None else last_seq,
            schemas={"payload": True, "result": True, "inputs": {}, "outputs": {}},
        ),
        *map(writer.entry, entries),
    ]
    return b"".join([*lines, writer.footer(SIGNATURE)])


def lines_of(data: bytes) -> list[bytes]:
    """As a file gives them."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def test_what_was_written_is_read() -> None:
    found = read_session(lines_of(written()))
    assert (found.id, found.task, found.header["format"]) == (SESSION, "review", FORMAT)
    assert [one.seq for one in found.entries] == [1, 2, 3]
    assert [one.body for one in found.entries] == list(BODIES)
    assert found.entries[0].principal.name == "Ada"
    assert found.entries[0].recorded_at.isoformat() == "2026-03-01T12:00:01+00:00"


def test_each_line_is_json_and_its_chain_stands_last() -> None:
    for line in lines_of(written()):
        assert list(json.loads(line))[-1] == "chain"


def test_the_same_session_is_the_same_file() -> None:
    assert written() == written()


def test_what_is_signed_depends_on_every_line() -> None:
    def signed(bodies: tuple[dict[str, Any], ...]) -> bytes:
        return FileReader(lines_of(written(bodies))).checked.signed

    assert len({signed(BODIES), signed(BODIES[::-1]), signed(BODIES[:2]), signed(())}) == 4


def test_each_changed_byte_is_found_in_its_line() -> None:
    """Every place of the file, also line feeds and the footer."""
    data = written()
    for place, byte in enumerate(data):
        for other in {byte ^ 1, byte ^ 0x20, ord("\n"), ord("0")} - {byte}:
            changed = data[:place] + bytes([other]) + data[place + 1 :]
            with pytest.raises(SessionFileDamaged) as caught:
                read_session(lines_of(changed))
            assert caught.value.facts["line"] == line_of(data, place), (place, other)


def test_each_missing_or_added_byte_is_found_in_its_line() -> None:
    data = written()
    for place in range(len(data)):
        with pytest.raises(SessionFileDamaged) as caught:
            read_session(lines_of(data[:place] + data[place + 1 :]))
        assert caught.value.facts["line"] == line_of(data, place)
        with pytest.raises(SessionFileDamaged) as caught:
            read_session(lines_of(data[:place] + b" " + data[place:]))
        assert caught.value.facts["line"] == line_of(data, place)


@given(cut=st.integers(0, len(written()) - 1))
@settings(deadline=None)
def test_a_cut_off_file_is_found(cut: int) -> None:
    with pytest.raises(SessionFileDamaged):
        read_session(lines_of(written()[:cut]))


@pytest.mark.parametrize("gone", range(5))
def test_a_line_that_is_missing_is_found(gone: int) -> None:
    lines = lines_of(written())
    rest = lines[:gone] + lines[gone + 1 :]
    with pytest.raises(SessionFileDamaged) as caught:
        read_session(rest)
    assert caught.value.facts["line"] == gone + 1


@pytest.mark.parametrize("first", range(4))
def test_lines_in_another_order_are_found(first: int) -> None:
    lines = lines_of(written())
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    with pytest.raises(SessionFileDamaged) as caught:
        read_session(lines)
    assert caught.value.facts["line"] == first + 1


def test_what_stands_behind_the_footer_is_found() -> None:
    with pytest.raises(SessionFileDamaged, match="line 6: something stands behind"):
        read_session(lines_of(written() + b"\n"))


def test_lines_of_two_files_do_not_fit_together() -> None:
    one, other = lines_of(written()), lines_of(written(({"text": "else"}, *BODIES[1:])))
    with pytest.raises(SessionFileDamaged, match="line 3"):
        read_session([*one[:2], *other[2:]])


def test_a_gap_that_was_made_before_the_chain_is_found() -> None:
    """Whoever makes a chain anew still tells of fewer entries than there were, or numbers them otherwise."""
    with pytest.raises(SessionFileDamaged, match="3 entries came before the footer"):
        read_session(lines_of(written(last_seq=4)))


@pytest.mark.parametrize("text", [b"", b"{}\n", b'{"a": 1}\n', b"\x89PNG\r\n\x1a\n", b"\n" * 9])
def test_another_file_is_none(text: bytes) -> None:
    with pytest.raises((UsageError, SessionFileDamaged)):
        read_session(lines_of(text))


def chained(*values: Any) -> list[bytes]:
    writer = FileWriter()
    return [writer._line(one) for one in values]


HEADER = {
    "format": FORMAT,
    "helmr": "1",
    "session_id": SESSION,
    "task": "t",
    "code_hash": "c",
    "last_seq": 1,
    "schemas": None,
}
ENTRY = {
    name: part for name, part in entry(1, {}).items() if name not in ("session_id", "feed_offset")
}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([{**HEADER, "format": "helmr-session/9"}], "not of the format"),
        ([{"format": FORMAT}], "line 1: it is not a header"),
        ([{**HEADER, "session_id": 1}], "line 1: it is not a header"),
        ([{**HEADER, "last_seq": True}], "line 1: it is not a header"),
        ([HEADER, {**ENTRY, "seq": True}], "line 2: entry 1 is missing"),
        ([HEADER, {"seq": 1}], "line 2: it is neither an entry nor a footer"),
        (
            [HEADER, {"entries": 1, "end": "00", "key": "", "signature": ""}],
            "not that of the chain",
        ),
    ],
)
def test_a_file_that_somebody_made_is_refused_in_words(values: list[Any], told: str) -> None:
    with pytest.raises((UsageError, SessionFileDamaged), match=told):
        read_session(chained(*values))


@pytest.mark.parametrize(
    "part",
    [
        *({"kind": "later.kind"}, {"recorded_at": "soon"}, {"principal": []}, {"recorded_at": 3}),
        *({"recorded_at": "2026-03-01"}, {"principal": {"type": 1}}, {"op": True}, {"body": []}),
    ],
    ids=str,
)
def test_an_entry_of_a_newer_version_is_named(part: dict[str, Any]) -> None:
    writer = FileWriter()
    header = writer.header(
        version="9", session_id=SESSION, task="t", code_hash="c", last_seq=1, schemas=None
    )
    line = writer.entry({**entry(1, {}), **part})
    with pytest.raises(UsageError, match=r"entry 1 .* can't be read by this version"):
        read_session([header, line, writer.footer(SIGNATURE)])


def test_an_entry_that_can_not_follow_is_named(tmp_path: Path) -> None:
    """Whoever makes a file with a right chain may have written anything into it."""
    opened = entry(1, {"wait_id": 1}, "wait.opened")
    writer = FileWriter()
    header = writer.header(
        version="9", session_id=SESSION, task="t", code_hash="c", last_seq=1, schemas=None
    )
    file = tmp_path / "made.session"
    file.write_bytes(header + writer.entry(opened) + writer.footer(SIGNATURE))
    found = recorded.read(file)
    with pytest.raises(UsageError, match=r"entry 1 \(wait.opened\) can't follow"):
        recorded.state_of(found.id, found.entries)
