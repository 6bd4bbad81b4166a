"""The codec of values that nobody but the code reads again, the results of steps: any bytes come back as they were.

JSON has text and no bytes. Bytes that are UTF-8 stand in it as that text, as pydantic writes them. Where a value holds
others, they stand in it as Base64, and the value in an envelope that says where:

```
{
    "$bytes": [["thumbnail"], ["pages", 0]],
    "$value": {"thumbnail": "_9j_4A==", "pages": ["AP8="], "name": "a.jpg"},
}
```
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr.errors import SchemaMismatch
from helmr.schema import Codec

T = TypeVar("T")

PLACES, VALUE = "$bytes", "$value"
_LISTS = (list, tuple, set, frozenset, deque)
_BYTES = (bytes, bytearray, memoryview)

Place = tuple[str | int, ...]


class StoredCodec(Codec[T]):
    """See the module."""

    @cached_property
    def _holds_bytes(self) -> bool:
        return "'type': 'bytes'" in repr(self._adapter.core_schema)

    def encode(self, value: T) -> Any:
        """As `Codec.encode`."""
        try:
            encoded = super().encode(value)
        except SchemaMismatch:
            if not self._holds_bytes:
                raise
            sealed = self._sealed(value)
            if not sealed[PLACES]:
                raise
            return sealed
        if self._holds_bytes and _is_sealed(encoded):
            return {PLACES: [], VALUE: encoded}
        return encoded

    def decode(self, value: Any) -> T:
        """As `Codec.decode`."""
        if self._holds_bytes and _is_sealed(value):
            places = {tuple(place) for place in value[PLACES]}
            value = _opened(value[VALUE], places, ())
        return super().decode(value)

    def _sealed(self, value: T) -> dict[str, Any]:
        places: list[Place] = []
        try:
            checked = self._adapter.validate_python(value)
            dumped = self._adapter.dump_python(checked, by_alias=True, warnings="error")
            plain = to_jsonable_python(_texts(dumped, (), places), inf_nan_mode="constants")
        except (ValidationError, PydanticSerializationError, ValueError, RecursionError) as error:
            raise SchemaMismatch(f"{self.what}: no JSON form: {error}") from error
        return {PLACES: [list(place) for place in places], VALUE: plain}


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {PLACES, VALUE}


def _texts(value: Any, here: Place, places: list[Place]) -> Any:
    """The value with Base64 for its bytes, whose places are noted."""
    if isinstance(value, _BYTES):
        places.append(here)
        return base64.urlsafe_b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {key: _texts(part, (*here, key), places) for key, part in _named(value)}
    if isinstance(value, _LISTS):
        return [_texts(part, (*here, number), places) for number, part in enumerate(value)]
    return value


def _named(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        yield key if type(key) is str else next(iter(to_jsonable_python({key: None}))), part


def _opened(value: Any, places: set[Place], here: Place) -> Any:
    """The value with its bytes."""
    if here in places:
        return base64.urlsafe_b64decode(value)
    if isinstance(value, dict):
        return {key: _opened(part, places, (*here, key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_opened(part, places, (*here, number)) for number, part in enumerate(value)]
    return value
