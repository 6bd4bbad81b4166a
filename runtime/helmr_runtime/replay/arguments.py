"""A step's arguments as text: the same for the same values in every process. Never a `repr`, never an address."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from helmr_runtime.core.asked import data_text

NO_FORM = "?"
"""In place of an argument that has no JSON form: a client, a function, what the code made of its own."""

SINGLE = (date, time, timedelta, Decimal, Enum, IPv4Address, IPv6Address, PurePath, UUID)
"""What pydantic writes as one value."""


def arguments_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The arguments that have a JSON form, each in its place; None if none has, or there are none."""
    found = [_argument(one) for one in args]
    named = {name: _argument(one) for name, one in kwargs.items()}
    if all(one == NO_FORM for one in (*found, *named.values())):
        return None
    return data_text([found, named])


def _argument(value: Any) -> str:
    try:
        return _text(value)
    except Exception:  # noqa: BLE001 - whatever an object of the task's own does when it is read, it has no form then
        return NO_FORM


def _text(value: Any) -> str:
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    """One level of a value that JSON does not know; what it does not know either is refused."""
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    if isinstance(value, set | frozenset):
        return sorted(map(_text, value))
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, SINGLE):
        return to_jsonable_python(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_plain
)
