"""Frames: what goes in comes out, and nothing else comes out of any bytes."""

from __future__ import annotations

import builtins
import copyreg
import functools
import io
import math
import os
import pickle
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from importlib import import_module
from pathlib import Path, PurePath
from types import FunctionType, MethodType
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from helmr.models import AnswerRequest
from helmr_runtime import ports
from helmr_runtime.core import (
    api_keys,
    children,
    claims,
    commands,
    notices,
    public_tokens,
    session_file,
    tokens,
)
from helmr_runtime.core.entries import Entry, EntryKind, Principal
from helmr_runtime.directory.hosts import HostLocation
from helmr_runtime.features import FEATURES
from helmr_runtime.rpc import calls, frames
from helmr_runtime.rpc.frames import Frame, FrameError, FrameKind, FrameReader, FrameTooLarge
from helmr_runtime.security import secrets

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.sampled_from(EntryKind).map(lambda kind: entry(kind=kind))
    | st.builds(Principal, st.text(), st.none() | st.text())
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.lists(inner).map(tuple)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.text())
    ),
    max_leaves=20,
)


def entry(kind: EntryKind = EntryKind.NOTE_ADDED) -> Entry:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    body = {"a": [1, 2.5, None, {"b": "ü\udc80"}], "big": 2**70}
    return Entry(
        "ses_1", 3, at, kind, "run_1", 4, Principal("task", "run_1"), body, "{}", b"h" * 32, 9
    )


def body_of(value: Any) -> bytes:
    return frames.encode(FrameKind.ANSWER, 1, 2, value)[frames.HEADER.size :]


def crossed(value: Any) -> Any:
    return frames.decode(body_of(value))


# --- values that cross ----------------------------------------------------------------------------


@given(values)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    found = crossed(value)
    assert found == value
    assert type(found) is type(value)


def test_an_entry_crosses_whole() -> None:
    found = crossed(
        ports.Flush(
            session_id="ses_1",
            epoch=1,
            first_seq=3,
            previous_hash=b"p",
            entries=(entry(),),
        )
    )
    (one,) = found.entries
    assert one == entry()
    assert one.kind is EntryKind.NOTE_ADDED
    assert one.feed_offset == 9
    assert one.recorded_at.tzinfo is UTC


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert crossed(at) == at


MODULES = (
    api_keys,
    calls,
    children,
    claims,
    commands,
    notices,
    ports,
    public_tokens,
    *(import_module(f"helmr_runtime.features.{one.name}.facts") for one in FEATURES if one.ledger),
    session_file,
    secrets,
    tokens,
)
NEVER_CROSS = (BaseModel, timedelta, PurePath)
LOCAL = {"NoticeEvent", "Outbox", "NoticePace"}
"""Dataclasses of these modules that stay in their process; of features only facts and questions leave it."""


def values_of_the_ports() -> Iterator[type]:
    for module in MODULES:
        is_of_feature = module.__name__.startswith("helmr_runtime.features.")
        crossing = (commands.FeatureFact, commands.FeatureQuestion) if is_of_feature else object
        for cls in vars(module).values():
            is_one = (
                isinstance(cls, type)
                and is_dataclass(cls)
                and cls.__module__ == module.__name__
                and issubclass(cls, crossing)
            )
            if is_one and not cls.__name__.startswith("_") and cls.__name__ not in LOCAL:
                yield cls


def classes_in(hint: Any) -> Iterator[type]:
    """The classes that a type names, however deep."""
    if isinstance(hint, type):
        yield hint
    for inner in get_args(hint):
        yield from classes_in(inner)


@pytest.mark.parametrize("cls", list(values_of_the_ports()), ids=lambda cls: cls.__name__)
def test_every_value_of_the_ports_crosses(cls: Any) -> None:
    hints = get_type_hints(cls)
    named = {one for hint in hints.values() for one in classes_in(hint)}
    assert not [one for one in named if issubclass(one, NEVER_CROSS)], "such values never cross"
    made = object.__new__(cls)
    for one in fields(cls):
        hint = hints[one.name]
        is_enum = isinstance(hint, type) and issubclass(hint, StrEnum)
        object.__setattr__(made, one.name, next(iter(hint)) if is_enum else f"<{one.name}>")
    found = crossed(made)
    assert type(found) is cls
    assert all(getattr(found, one.name) == getattr(made, one.name) for one in fields(cls))


# --- values that do not ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Foreign:
    a: int


@pytest.mark.parametrize(
    "value",
    [
        Foreign(1),
        object(),
        EntryKind.NOTE_ADDED,
        datetime(2026, 1, 1),  # noqa: DTZ001 - that is what is refused
        date(2026, 1, 1),
        Path("/"),
        ValueError("x"),
        AnswerRequest(data=1),
        [{"deep": (Foreign(1),)}],
        lambda: None,
        iter([1].__iter__, 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_another_value_is_refused_where_it_is_sent(value: Any) -> None:
    with pytest.raises(FrameError):
        body_of(value)


def test_a_value_that_holds_itself_too_deeply_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(FrameError):
        body_of(value)


# --- bytes that were made on purpose --------------------------------------------------------------


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


class State:
    """Pickles as an object with a state that is set."""

    def __init__(self, made: Any, state: Any) -> None:
        self.made = (*made, state)

    def __reduce__(self) -> Any:
        return self.made


MARK = "hostile-was-here"
HOSTILE = [
    Calls(os.system, f"touch {MARK}"),
    Calls(subprocess.check_output, ["touch", MARK]),
    Calls(builtins.eval, f"open({MARK!r}, 'w')"),
    Calls(builtins.exec, f"open({MARK!r}, 'w')"),
    Calls(open, MARK, "w"),
    Calls(getattr, Principal, "to_json"),
    Calls(functools.partial, os.system, f"touch {MARK}"),
    Calls(copyreg._reconstructor, Principal, object, None),  # type: ignore[attr-defined]
    Calls(type, "Made", (), {}),
    Calls(__import__, "antigravity"),
    Calls(bytearray.fromhex, "00"),
    Calls(frames.decode, b""),
    Calls(HostLocation.__init__, None),
    Calls(Foreign, 1),
    Calls(AnswerRequest),
    Calls(Path, MARK),
    Calls(math.factorial, 10),
    Calls(timedelta, 1, 2, 3, 4),
    State((EntryKind, ("note.added",)), {"_value_": "other"}),
    State((datetime.fromisoformat, ("2026-01-01",)), {"a": 1}),
    [Calls(os.unlink, "x"), 1],
    {"key": Calls(os._exit, 3)},
]


@pytest.mark.parametrize("protocol_number", range(6))
@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_what_would_call_something_is_refused(
    value: Any, protocol_number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError):
        frames.decode(pickle.dumps(value, protocol_number))
    assert not (tmp_path / MARK).exists()


PRINCIPAL = b"chelmr_runtime.core.entries\nPrincipal\n"
KIND = b"chelmr_runtime.core.entries\nEntryKind\n"
RAW = {
    "a class as a value of its own": PRINCIPAL + b"}U\x01aK\x01sb.",
    "an attribute of a class": PRINCIPAL + b"(N}U\x07to_jsonK\x01stb.",
    "an instance without its maker": PRINCIPAL + b")\x81.",
    "an instance by name": b"(ihelmr_runtime.core.entries\nPrincipal\n.",
    "an object": b"(chelmr_runtime.core.entries\nPrincipal\no.",
    "a path through a class": b"\x80\x04\x8c\x1bhelmr_runtime.core.entries\x8c\x11Principal.to_json\x93.",
    "a function of ours": b"chelmr_runtime.core.entries\ntask_principal\n(U\x01atR.",
    "a module of ours": b"chelmr_runtime.rpc.frames\nos\n.",
    "the unpickler itself": b"chelmr_runtime.rpc.frames\n_Unpickler\n.",
    "an enumeration": KIND + b"(U\x0cnote.addedtR.",
    "an extension": b"\x82\x01.",
    "a persistent id": b"Pa\n.",
    "a buffer elsewhere": b"\x97.",
    "too few fields": PRINCIPAL + b"(U\x01atR.",
    "too many fields": PRINCIPAL + b"(U\x01aNNNNNtR.",
    "a time that is none": b"cdatetime\ndatetime\n(U\x03nextR.",
    "a state on a time": b"cdatetime\ndatetime\n}U\x01aK\x01sb.",
    "nothing": b"",
    "no end": b"N",
    "something behind it": b"N.N.",
    "a module that is not there": b"chelmr_runtime.nothing\nX\n.",
    "a name with a dot in front": b"c.helmr_runtime\nX\n.",
}


@pytest.mark.parametrize("body", list(RAW.values()), ids=list(RAW))
def test_what_is_put_together_by_hand_is_refused_and_changes_nothing(body: bytes) -> None:
    before = dict(vars(Principal)), dict(vars(EntryKind.NOTE_ADDED))
    try:
        found = frames.decode(body)
    except FrameError:
        pass
    else:
        assert not isinstance(found, type | FunctionType | MethodType)
    assert before == (dict(vars(Principal)), dict(vars(EntryKind.NOTE_ADDED)))
    assert Principal("a").to_json() == {"type": "a"}


@contextmanager
def little_more_memory() -> Iterator[None]:
    """Damaged bytes can ask for as much memory as they please: a number of four bytes is how much pickle remembers."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


REMEMBERED = b"Nr\xff\xff\xff\x7f."
"""None, to be remembered as the two thousand millionth value."""


@given(st.binary(max_size=200))
@example(REMEMBERED)
def test_of_any_bytes_comes_a_value_or_a_refusal(body: bytes) -> None:
    with little_more_memory(), suppress(FrameError):
        frames.decode(body)


@given(st.data())
def test_of_damaged_bytes_comes_a_value_or_a_refusal(data: st.DataObject) -> None:
    body = bytearray(body_of([entry(), {"a": (1, b"2")}]))
    for _ in range(3):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with little_more_memory(), suppress(FrameError):
        frames.decode(bytes(body))


def test_no_part_of_a_body_is_taken_for_it() -> None:
    body = body_of(entry())
    for end in range(len(body)):
        with pytest.raises(FrameError):
            frames.decode(body[:end])


@pytest.mark.parametrize("value", [None, ("m", [], {}), (1, (), {}), ("m", (), {1: 2})])
def test_a_call_is_a_method_and_its_arguments(value: Any) -> None:
    with pytest.raises(FrameError):
        frames.decode_call(body_of(value))


# --- frames ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=30), max_size=6), st.lists(st.integers(1, 40)))
def test_frames_are_cut_wherever_the_bytes_are(bodies: list[bytes], sizes: list[int]) -> None:
    sent = b"".join(frames.encode(FrameKind.CALL, 7, at, body) for at, body in enumerate(bodies))
    stream, reader = io.BytesIO(sent), FrameReader()
    found: list[Frame] = []
    for size in [*sizes, len(sent) + 1]:
        found.extend(reader.feed(stream.read(size)))
    assert [(one.kind, one.incarnation, one.request) for one in found] == [
        (FrameKind.CALL, 7, at) for at in range(len(bodies))
    ]
    assert [frames.decode(one.body) for one in found] == bodies


def test_a_frame_has_at_most_32_mib() -> None:
    room = frames.FRAME_BYTES_MAX
    assert len(frames.encode(FrameKind.ANSWER, 1, 1, bytes(room - 100))) < room + frames.HEADER.size
    with pytest.raises(FrameTooLarge):
        frames.encode(FrameKind.ANSWER, 1, 1, bytes(room))
    header = frames.HEADER.pack(room + 1, FrameKind.CALL, 1, 1)
    with pytest.raises(FrameTooLarge):
        list(FrameReader().feed(header))


def test_a_frame_of_no_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="kind 99"):
        list(FrameReader().feed(frames.HEADER.pack(0, 99, 1, 1)))
