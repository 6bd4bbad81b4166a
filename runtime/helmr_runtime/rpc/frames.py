"""Frames: a call between two processes of one machine as bytes, and back. Pure.

A frame is a header (length of the body, kind, incarnation of the process that is called, request id) and a body, which
is one value: JSON types, bytes, tuples, sets, aware datetimes (UTC when they arrive), and frozen dataclasses with slots
of `helmr_runtime`. Pickle's C code writes and reads it, the fastest of the codecs tried (decision 0027); but a body can
name only makers of those values, which do nothing else and can't be changed. Malicious bytes can cost memory; sockets
take frames only from processes of this user.
"""

from __future__ import annotations

import importlib
import io
import pickle  # noqa: TID251 - its home: reads only makers of our own values
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import cache, partial
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

FRAME_BYTES_MAX = 32 * 1024 * 1024
"""Longest body, in bytes."""

HEADER = struct.Struct("!IBQQ")
"""Bytes of the body, kind, incarnation, request id."""

NO_INCARNATION = 0
PACKAGE = "helmr_runtime."
PROTOCOL = 5


class FrameKind(IntEnum):
    """The kind of a frame; its number is on the wire."""

    HELLO = 1
    """The client's first: `{version, name}`, its own version and the wanted actor's name."""
    WELCOME = 2
    """The server's answer to it; the header has the server's incarnation."""
    REFUSED = 3
    """The frame was not run; the value is the reason. The connection ends."""
    CALL = 4
    """`(method, args, kwargs)`."""
    ANSWER = 5
    """The method's result, or a `CallFailure`."""
    LARGE = 6
    """The result is too large for a frame; the value is the key to fetch it by."""
    CANCEL = 7
    """The caller of a long poll has given up."""


class Frame(NamedTuple):
    """A received frame; `decode` makes the value of its body."""

    kind: FrameKind
    incarnation: int
    request: int
    body: bytes


class FrameError(ValueError):
    """The bytes are not a frame, or the value can't be sent as one."""


class FrameTooLarge(FrameError):
    """The body has more than `FRAME_BYTES_MAX`."""


class _Model:
    """Takes instances of one class apart; called with the values of the fields, makes one."""

    __slots__ = ("_class", "_setters", "read")

    _class: type
    _setters: list[Callable[[Any, Any], None]]
    read: Callable[[Any], tuple[Any, ...]]

    def __init__(self, cls: type) -> None:
        hints = get_type_hints(cls)
        members = {one.name: _members(hints[one.name]) for one in fields(cls)}
        names = [name if enum is None else f"{name}._value_" for name, enum in members.items()]
        get = attrgetter(*names) if names else lambda value: ()
        keep = partial(object.__setattr__, self)
        keep("read", get if len(names) != 1 else lambda value: (get(value),))
        keep("_class", cls)
        keep("_setters", [_setter(cls, name, enum) for name, enum in members.items()])

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse, since frames can name this object and must not change it."""
        raise FrameError("the maker of a value can't be changed")

    def __call__(self, *values: Any) -> Any:
        """Return an instance without running code of the class."""
        made: Any = object.__new__(self._class)
        for put, value in zip(self._setters, values, strict=True):
            put(made, value)
        return made


def _members(hint: Any) -> dict[str, StrEnum] | None:
    if not (isinstance(hint, type) and issubclass(hint, StrEnum)):
        return None
    return {member.value: member for member in hint}


def _setter(cls: type, name: str, members: dict[str, StrEnum] | None) -> Callable[[Any, Any], None]:
    put: Callable[[Any, Any], None] = getattr(cls, name).__set__
    if members is None:
        return put
    return lambda made, value: put(made, members[value])


@cache
def _model(cls: type) -> _Model:
    """Return the model of a class whose values may be sent.

    Raises:
        FrameError: They may not be sent.
    """
    is_ours = (
        is_dataclass(cls)
        and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        and "__slots__" in vars(cls)
        and cls.__module__.startswith(PACKAGE)
        and "." not in cls.__qualname__
    )
    if not is_ours:
        raise FrameError(f"a {cls.__module__}.{cls.__qualname__} can't cross between processes")
    return _Model(cls)


def _read_datetime(value: datetime) -> tuple[type, tuple[str]]:
    if value.tzinfo is None:
        raise FrameError("a datetime without a time zone can't cross between processes")
    return datetime, (value.astimezone(UTC).isoformat(),)


class _Readers(dict[type, Callable[[Any], tuple[Any, ...]]]):
    """Functions by class that turn an instance into (class, values). Filled when a class is first met."""

    def __missing__(self, cls: type) -> Callable[[Any], tuple[Any, ...]]:
        read = _model(cls).read
        reader = self[cls] = lambda value: (cls, read(value))
        return reader


class _Pickler(pickle.Pickler):
    dispatch_table = _Readers({datetime: _read_datetime})


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("datetime", "datetime"): datetime.fromisoformat
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the maker that this name stands for."""
        return _MAKERS.get((module, name)) or _find_maker(module, name)


def _find_maker(module: str, name: str) -> Callable[..., Any]:
    if not module.startswith(PACKAGE):
        raise FrameError(f"{module}.{name} can't cross between processes")
    found = vars(sys.modules.get(module) or importlib.import_module(module)).get(name)
    if not isinstance(found, type):
        raise FrameError(f"{module}.{name} is not a class")
    maker = _MAKERS[module, name] = _model(found)
    return maker


def encode(kind: FrameKind, incarnation: int, request: int, value: Any = None) -> bytes:
    """Return a whole frame.

    Raises:
        FrameTooLarge: The value takes too many bytes.
        FrameError: It holds a value that may not be sent.
    """
    file = io.BytesIO()
    file.write(bytes(HEADER.size))
    try:
        _Pickler(file, PROTOCOL).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise FrameError(f"this value can't cross between processes: {error}") from error
    size_bytes = file.tell() - HEADER.size
    if size_bytes > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"{size_bytes} bytes; a frame has at most {FRAME_BYTES_MAX}")
    HEADER.pack_into(file.getbuffer(), 0, size_bytes, kind, incarnation, request)
    return file.getvalue()


def decode(body: bytes) -> Any:
    """Return the value of a body.

    Raises:
        FrameError: It is damaged, or names a value that may not be sent.
    """
    file = io.BytesIO(body)
    try:
        value = _Unpickler(file).load()
    except FrameError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        ImportError,
        LookupError,
        MemoryError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise FrameError(f"a body can't be read: {error}") from error
    if file.tell() != len(body):
        raise FrameError("a body has something behind its value")
    return value


def decode_call(body: bytes) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return method, arguments and named arguments.

    Raises:
        FrameError: It is something else.
    """
    match decode(body):
        case (str() as method, tuple() as args, dict() as kwargs) if all(
            type(name) is str for name in kwargs
        ):
            return method, args, kwargs
        case _:
            raise FrameError("a call is a method and its arguments")


class FrameReader:
    """Cuts received bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with `data`, in order.

        Raises:
            FrameError: The bytes are not a frame; nothing after them can be read.
        """
        self._rest += data
        start, rest = 0, self._rest
        while len(rest) - start >= HEADER.size:
            size_bytes, kind, incarnation, request = HEADER.unpack_from(rest, start)
            if size_bytes > FRAME_BYTES_MAX:
                raise FrameTooLarge(f"a frame of {size_bytes} bytes")
            end = start + HEADER.size + size_bytes
            if len(rest) < end:
                break
            try:
                known = FrameKind(kind)
            except ValueError as error:
                raise FrameError(f"a frame of kind {kind}") from error
            yield Frame(known, incarnation, request, bytes(rest[start + HEADER.size : end]))
            start = end
        del rest[:start]
