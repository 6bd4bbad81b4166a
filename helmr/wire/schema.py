"""A pydantic-compatible type as the codec of JSON values: decode, encode, JSON Schema.

JSON has text and no bytes. UTF-8 bytes become that text, as pydantic writes them. Results of steps, which only the code
reads again, have a codec of their own: it stores other bytes as Base64, in an envelope that lists their places, so
that any bytes come back unchanged:

```
{
    "$bytes": [["thumbnail"], ["pages", 0]],
    "$value": {"thumbnail": "_9j_4A==", "pages": ["AP8="], "name": "a.jpg"},
}
```
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from copy import deepcopy
from functools import cached_property
from types import GenericAlias
from typing import Any, Generic, TypeVar

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr.errors import BadDefinition, SchemaMismatch

T = TypeVar("T")

on_encoded: Callable[[Codec[Any], Any, Any], None] | None = None
"""Called with codec, value and JSON of each encoded value, while `helmr_runtime.replay.round_trips` watches."""


class Codec(Generic[T]):
    """Translates between a Python type and JSON values.

    The adapter is built at first use, so declaring a stream or step costs nothing at import.

    Args:
        type_: Any pydantic-compatible type; `Any` takes all JSON.
        what: Name of the thing with this type, for messages: `input stream approval`.
        declared: The function that is annotated with it, if one is.
    """

    def __init__(
        self, type_: Any, *, what: str, declared: Callable[..., Any] | None = None
    ) -> None:
        self.type = type_
        self.what = what
        self.declared = declared

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        try:
            return TypeAdapter(self.type)
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            if getattr(error, "code", None) == "typed-dict-version":
                raise BadDefinition(
                    f"{self.what}: on Python before 3.12 `from typing_extensions import TypedDict`, "
                    f"typing's own lacks what {self.type!r} is checked by"
                ) from error
            raise BadDefinition(
                f"{self.what}: {self.type!r} is not a type pydantic can read",
                hint="Use a BaseModel, a dataclass, a TypedDict or a builtin type.",
            ) from error

    @cached_property
    def _encoder(self) -> TypeAdapter[list[T]]:
        """Keeps NaN and infinities, which `Any` would turn into null, so that JSON can refuse them (S-4).

        In a list, because a model takes no configuration from outside; the outermost one counts.
        """
        in_list: Any = GenericAlias(list, (self.type,))
        return TypeAdapter(in_list, config=ConfigDict(ser_json_inf_nan="constants"))

    def require(self) -> None:
        """Refuse a type that pydantic can't read.

        Raises:
            BadDefinition: Pydantic can't read it.
        """
        _ = self._adapter

    def decode(self, value: Any) -> T:
        """Return the Python value of JSON types. It shares no containers with `value`, so the caller may change it.

        Raises:
            SchemaMismatch: `errors` names the failing paths.
        """
        try:
            return self._adapter.validate_python(own_json(value))
        except ValidationError as error:
            raise SchemaMismatch(
                f"{self.what}: {summary(error)}",
                hint="Send data that fits the schema.",
                errors=problems(error),
            ) from error
        except RecursionError as error:
            raise SchemaMismatch(f"{self.what}: nested too deeply") from error

    def encode(self, value: T) -> Any:
        """The JSON types of a Python value.

        Raises:
            SchemaMismatch: The value is not of the type, or has no JSON form.
        """
        if isinstance(value, Coroutine):
            value.close()
            raise SchemaMismatch(
                f"{self.what}: it is a coroutine, which was not awaited: return `await …`, from an `async def`"
            )
        checked, encoded = self._encoded(value)
        if on_encoded is not None:
            on_encoded(self, checked, encoded)
        return encoded

    def _encoded(self, value: T) -> tuple[T, Any]:
        """The value as its type has checked it, and its JSON."""
        try:
            checked = self._adapter.validate_python(value)
            [encoded] = self._encoder.dump_python(
                [checked], mode="json", by_alias=True, warnings="error"
            )
            return checked, encoded
        except ValidationError as error:
            raise SchemaMismatch(
                f"{self.what}: {summary(error)}", errors=problems(error)
            ) from error
        except UnicodeDecodeError as error:
            raise SchemaMismatch(
                f"{self.what}: bytes have no JSON form unless they are UTF-8: {error}",
                hint="Annotate them as pydantic.Base64Bytes, which is text in JSON, or keep a reference to them.",
            ) from error
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise SchemaMismatch(f"{self.what}: no JSON form: {error}") from error

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema that data must fit, draft 2020-12; each caller may change its own."""
        return deepcopy(self._schema)

    @cached_property
    def _schema(self) -> dict[str, Any]:
        """Cached, because it takes a millisecond or two and each catalog asks every codec for it."""
        return self._adapter.json_schema(mode="validation")

    @cached_property
    def digest(self) -> str:
        """Names the JSON Schema; equal for equal ones."""
        return schema_digest(self.json_schema())


def codec_of(schema: Any, *, what: str) -> Codec[Any]:
    """Return the codec of a type; a JSON Schema (a dict or bool) names no Python type, so its codec takes any JSON."""
    return Codec(Any if schema is None or isinstance(schema, dict | bool) else schema, what=what)


def json_schema(schema: Any) -> Any:
    """The JSON Schema of a type; a dict or bool is one already, None is none."""
    if schema is None or isinstance(schema, dict | bool):
        return schema
    return Codec(schema, what="a schema").json_schema()


def schema_digest(schema: Any) -> str:
    """Hex SHA-256 over a JSON Schema's content, whatever the order of its keys."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_json(value: Any) -> bool:
    """Return True for values made only of JSON's own types: no models, no subclasses that a codec writes its own way.

    A value that contains itself or is nested too deeply gives False; its codec then raises the error.
    """
    try:
        return _is_json(value, set())
    except RecursionError:
        return False


def _is_json(value: Any, around: set[int]) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind not in (dict, list) or id(value) in around:
        return False
    if kind is dict and not all(type(key) is str for key in value):
        return False
    around.add(id(value))
    parts = value.values() if kind is dict else value
    found = all(_is_json(part, around) for part in parts)
    around.discard(id(value))
    return found


_SCALARS = frozenset({type(None), bool, int, float, str})


def problems(error: ValidationError) -> list[dict[str, str]]:
    """The failing paths of a validation error, without the input values."""
    return [
        {"path": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def summary(error: ValidationError) -> str:
    """The first failing path in words, and how many there are."""
    found = problems(error)
    first = found[0]
    where = f"{first['path']}: " if first["path"] else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}{first['message']}{more}"


PLACES, VALUE = "$bytes", "$value"
_LISTS = (list, tuple, set, frozenset, deque)
_BYTES = (bytes, bytearray, memoryview)

Place = tuple[str | int, ...]


class StoredCodec(Codec[T]):
    """The codec of a step's result, which restores any bytes exactly."""

    @cached_property
    def _holds_bytes(self) -> bool:
        return "'type': 'bytes'" in repr(self._adapter.core_schema)

    def _encoded(self, value: T) -> tuple[T, Any]:
        try:
            checked, encoded = super()._encoded(value)
        except SchemaMismatch:
            if not self._holds_bytes:
                raise
            checked, sealed = self._sealed(value)
            if not sealed[PLACES]:
                raise
            return checked, sealed
        if self._holds_bytes and _is_sealed(encoded):
            return checked, {PLACES: [], VALUE: encoded}
        return checked, encoded

    def decode(self, value: Any) -> T:
        """Decode like `Codec.decode`, and restore sealed bytes."""
        if self._holds_bytes and _is_sealed(value):
            places = {tuple(place) for place in value[PLACES]}
            value = _opened(value[VALUE], places, ())
        return super().decode(value)

    def _sealed(self, value: T) -> tuple[T, dict[str, Any]]:
        places: list[Place] = []
        try:
            checked = self._adapter.validate_python(value)
            dumped = self._adapter.dump_python(checked, by_alias=True, warnings="error")
            plain = to_jsonable_python(_texts(dumped, (), places), inf_nan_mode="constants")
        except (ValidationError, PydanticSerializationError, ValueError, RecursionError) as error:
            raise SchemaMismatch(f"{self.what}: no JSON form: {error}") from error
        return checked, {PLACES: [list(place) for place in places], VALUE: plain}


def own_json(value: Any) -> Any:
    """Copy the containers of a JSON value, because types such as `Any` or `dict` keep the ones that they get."""
    if isinstance(value, dict):
        return {key: own_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [own_json(inner) for inner in value]
    return value


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {PLACES, VALUE}


def _texts(value: Any, here: Place, places: list[Place]) -> Any:
    """Return the value with Base64 for its bytes, and append their places to `places`."""
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
    """Return the value with the bytes restored at these places."""
    if here in places:
        return base64.urlsafe_b64decode(value)
    if isinstance(value, dict):
        return {key: _opened(part, places, (*here, key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_opened(part, places, (*here, number)) for number, part in enumerate(value)]
    return value
