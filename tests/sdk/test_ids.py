"""Ids: TypeIDs of one spelling each, sorted by time."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadId
from helmr.wire import ids


@pytest.mark.parametrize("prefix", ids.PREFIXES)
def test_a_fresh_id_is_one_of_its_kind_and_survives_its_uuid(prefix: str):
    value = ids.new_id(prefix)
    assert value.startswith(f"{prefix}_")
    assert ids.check_id(value, prefix) == value
    assert ids.from_uuid(prefix, ids.to_uuid(value)) == value
    assert ids.to_uuid(value).version == 7


def test_an_id_tells_when_it_was_made():
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made_at = ids.made_at(ids.new_id(ids.OPERATION))
    assert made_at is not None
    assert before <= made_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    "value",
    [
        ids.from_uuid(ids.OPERATION, uuid.UUID(int=0, version=4)),
        ids.from_uuid(ids.OPERATION, uuid.UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")),
        "op_1",
        "",
    ],
    ids=["random", "after the last year", "none", "empty"],
)
def test_an_id_that_tells_no_time_is_said_to_tell_none(value: str):
    assert ids.made_at(value) is None


def test_ids_are_unique_and_made_in_order():
    made = [ids.new_id(ids.SESSION) for _ in range(5000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_a_minted_id_ends_in_the_byte_of_its_cell():
    made = [ids.new_id(prefix) for prefix in ids.PREFIXES for _ in range(50)]
    assert {ids.to_uuid(one).bytes[-1] for one in made} == {ids.CELL} == {0}


def test_an_id_of_another_kind_is_refused_and_says_which_was_expected():
    with pytest.raises(BadId) as caught:
        ids.check_id(ids.new_id(ids.RUN), ids.SESSION)
    assert "ses_" in caught.value.message


def _changed(change: str) -> str:
    value = ids.new_id(ids.SESSION)
    changes = {
        "upper": value.upper(),
        "upper suffix": "ses_" + value[4:].upper(),
        "space": value + " ",
        "newline": value + "\n",
        "short": value[:-1],
        "long": value + "0",
        "letter": value[:-1] + "u",
        "overflow": "ses_8" + value[5:],
        "no prefix": value[4:],
        "empty": "",
        "prefix": "ses_",
        "dash": value.replace("_", "-"),
        "unicode": value[:-1] + "é",
        "nul": value[:-1] + "\0",
    }
    return changes[change]


@pytest.mark.parametrize(
    "change",
    [
        "upper",
        "upper suffix",
        "space",
        "newline",
        "short",
        "long",
        "letter",
        "overflow",
        "no prefix",
        "empty",
        "prefix",
        "dash",
        "unicode",
        "nul",
    ],
)
def test_what_is_not_an_id(change: str):
    with pytest.raises(BadId):
        ids.check_id(_changed(change), ids.SESSION)


@pytest.mark.parametrize("value", [None, 5, b"ses_01h455vb4pex5vsknk084sn02q"])
def test_what_is_no_text_is_no_id(value: object):
    with pytest.raises(BadId, match="is not an id"):
        ids.check_id(value, ids.SESSION)  # type: ignore[arg-type]  # as untyped code does


@given(st.text())
def test_any_text_is_an_id_of_one_spelling_or_a_bad_id(text: str):
    with pytest.raises(BadId):
        ids.check_id(text, ids.SESSION)


@given(st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26))
def test_a_well_formed_id_has_one_spelling(suffix: str):
    value = f"ses_{suffix}"
    try:
        ids.check_id(value, ids.SESSION)
    except BadId:
        assert suffix[0] > "7"
        return
    assert ids.from_uuid(ids.SESSION, ids.to_uuid(value)) == value


@given(st.uuids())
def test_any_uuid_has_an_id(value: uuid.UUID):
    assert ids.to_uuid(ids.from_uuid(ids.WAIT, value)) == value


def test_the_system_session_is_an_id():
    assert ids.to_uuid(ids.SYSTEM_STREAM) == uuid.UUID(int=0)
    assert ids.check_id(ids.SYSTEM_STREAM, ids.SESSION)
