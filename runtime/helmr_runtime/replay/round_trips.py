"""Finds values that a replay would not return unchanged: for development only.

Step values, payloads, outputs and results go through JSON. In a harness and under `helmr dev`, each is decoded again
and compared with the original, and a step's arguments are compared before and after its body. A harness refuses a
difference; `helmr dev` names it once with its line. Elsewhere nothing is compared (decision 0159).

Usual effects of JSON without an annotation are no difference: a tuple becomes a list, a date becomes text. A library's
classes are compared without their private attributes and excluded fields, which are the library's affair.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import TzInfo

from helmr.current import StepCall
from helmr.errors import SchemaMismatch
from helmr.wire import schema
from helmr.wire.schema import Codec
from helmr_runtime.replay.cursor import argument_text
from helmr_runtime.replay.outside_steps import Place, is_library, is_new, place_of

SECRETS = SecretStr, SecretBytes, Secret
JSON_KINDS = (type(None), bool, int, float, str, list, dict)
FIXED = timezone, TzInfo
"""Time zones that are a fixed offset."""

SEEN_DAYS = range(0, 390, 30)
"""Days of a year at which offsets of zones are compared."""

RETURN_IT = "Have the step return it: a replay does not execute the body, and leaves the argument as it was."
ANNOTATE = (
    "Record what JSON brings back: see https://docs.pydantic.dev for a serializer, or record less."
)
REFERENCE = "Record the secret's name, and read its value inside the step."

log = logging.getLogger("helmr.run")

_watching: list[bool] = []
"""One for each watcher: true if it refuses a difference."""


@contextmanager
def comparing(*, refuses: bool) -> Iterator[None]:
    """Compare values meanwhile; a difference is refused, or named in the log."""
    _watching.append(refuses)
    schema.on_encoded = _look
    try:
        yield
    finally:
        _watching.remove(refuses)
        if not _watching:
            schema.on_encoded = None


def _look(codec: Codec[Any], value: Any, encoded: Any) -> None:
    place = place_of(sys._getframe(2))
    if place is None:
        return
    try:
        found = difference(value, codec.decode(encoded))
    except (SchemaMismatch, RecursionError):
        return  # the reader's error says why
    if found is not None:
        _tell(place if place.file else _place_of(codec.declared), codec.what, found)


def _tell(place: Place, what: str, found: str, hint: str = "") -> None:
    message = f"{place}: {what}: {found}"
    hint = hint or (REFERENCE if MASKED in found else ANNOTATE)
    if any(_watching):
        raise SchemaMismatch(message, hint=hint)
    if is_new(place, f"{what} {found}"):
        log.warning("%s. %s", message, hint)


def _place_of(function: Any) -> Place:
    """Return the place where a function is declared."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return Place(code.co_filename, code.co_firstlineno) if code is not None else Place()


# --- arguments of steps ----------------------------------------------------------------------------


def arguments_of(call: StepCall) -> Sequence[tuple[str, str]] | None:
    """Return a step's arguments before its body, as text by name; None if nothing watches."""
    if not _watching or call.arguments is None:
        return None
    args, kwargs = call.arguments
    names = _parameters(call, len(args))
    return [
        *((name, argument_text(one)) for name, one in zip(names, args, strict=True)),
        *((name, argument_text(one)) for name, one in kwargs.items()),
    ]


def check_unchanged(call: StepCall, before: Sequence[tuple[str, str]] | None) -> None:
    """Check after its body that the step left its arguments unchanged.

    Raises:
        SchemaMismatch: It changed them, in a harness.
    """
    if before is None:
        return
    for (name, text), (_, now) in zip(before, arguments_of(call) or before, strict=True):
        if text != now:
            found = f"its body has changed the argument `{name}`, which a replay leaves as it was"
            _tell(_place_of(_function_of(call)), f"step {call.name}", found, RETURN_IT)
            return


def _function_of(call: StepCall) -> Any:
    return getattr(call.call, "func", call.call)


def _parameters(call: StepCall, count: int) -> list[str]:
    try:
        names = list(inspect.signature(_function_of(call)).parameters)[:count]
    except (TypeError, ValueError):
        names = []
    return [*names, *(str(number) for number in range(len(names) + 1, count + 1))]


# --- comparing -------------------------------------------------------------------------------------

MASKED = "comes back masked"


def difference(value: Any, back: Any, at: str = "") -> str | None:
    """Describe where and how a decoded value differs; None if it does not, or if that is unknown.

    Never shows a value: its author may keep it out of logs.
    """
    if value is back:
        return None
    for kinds, compare in COMPARED:
        if isinstance(value, kinds):
            return compare(value, back, at)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _of_dataclass(value, back, at)
    if isinstance(back, JSON_KINDS) and not isinstance(value, JSON_KINDS):
        return None  # its JSON form, without an annotation
    return None if _may_be_equal(value, back) else _otherwise(at)


def _otherwise(at: str, how: str = "comes back otherwise") -> str:
    return f"`{at}` {how}" if at else f"it {how}"


def _may_be_equal(value: Any, back: Any) -> bool:
    own: Any = type(value).__eq__
    if own is object.__eq__:
        return True
    try:
        return bool(value == back)
    except Exception:  # noqa: BLE001 - an object of the task's own, or an array, may raise anything
        return True


def _of_secret(value: Any, back: Any, at: str) -> str | None:
    is_same = type(back) is type(value) and value == back
    return None if is_same else _otherwise(at, f"is a secret and {MASKED}")


def _of_time(value: datetime, back: Any, at: str) -> str | None:
    if not isinstance(back, datetime):
        return None
    if value != back:
        return _otherwise(at)
    if value.tzinfo is None or isinstance(value.tzinfo, FIXED):
        return None
    try:
        offsets = {(value + timedelta(days=days)).utcoffset() for days in SEEN_DAYS}
    except OverflowError:
        return None
    if len(offsets) == 1:
        return None
    return _otherwise(at, f"has the zone {value.tzinfo}, of which only the offset comes back")


def _of_mapping(value: Mapping[Any, Any], back: Any, at: str) -> str | None:
    if not isinstance(back, Mapping):
        return None if isinstance(back, JSON_KINDS) else _otherwise(at)
    for key, part in value.items():
        here = f"{at}[{key!r}]"
        if key not in back:
            how = "is gone" if isinstance(key, str) else f"comes back under {str(key)!r}"
            return _otherwise(here, how)
        if (found := difference(part, back[key], here)) is not None:
            return found
    return None


def _of_sequence(value: Sequence[Any], back: Any, at: str) -> str | None:
    if not isinstance(back, list | tuple | deque):
        return None if _may_be_equal(value, back) else _otherwise(at)
    if len(value) != len(back):
        return _otherwise(at, f"has {len(value)} items, of which {len(back)} come back")
    parts = enumerate(zip(value, back, strict=True))
    found = (difference(one, other, f"{at}[{number}]") for number, (one, other) in parts)
    return next((one for one in found if one is not None), None)


def _of_set(value: set[Any] | frozenset[Any], back: Any, at: str) -> str | None:
    if isinstance(back, set | frozenset) and not _may_be_equal(value, back):
        return _otherwise(at)
    return None


def _of_model(value: BaseModel, back: Any, at: str) -> str | None:
    if isinstance(value, RootModel) and not isinstance(back, BaseModel):
        return difference(value.root, back, at)
    if isinstance(back, dict):
        return None if _has_own_form(type(value)) else _of_fields(value, back, at)
    if not isinstance(back, BaseModel):
        return None
    if _origin(type(value)) is not _origin(type(back)):
        return _otherwise(
            at, f"is a {type(value).__name__} and comes back as {type(back).__name__}"
        )
    return _of_fields(value, back, at) or _of_hidden(value, back, at)


def _has_own_form(kind: type[BaseModel]) -> bool:
    return bool(kind.__pydantic_decorators__.model_serializers)


def _origin(kind: type[BaseModel]) -> type:
    return kind.__pydantic_generic_metadata__["origin"] or kind


def _of_fields(value: BaseModel, back: Any, at: str) -> str | None:
    is_own = not _is_of_library(type(value))
    for name, declared in type(value).model_fields.items():
        if declared.exclude and not is_own:
            continue
        here = f"{at}.{name}".lstrip(".")
        kept, found = getattr(value, name, None), _field(back, name, declared)
        if declared.exclude and difference(kept, found) is not None:
            return _otherwise(here, "is excluded and does not come back")
        if found is not _MISSING and (said := difference(kept, found, here)) is not None:
            return said
    return None


_MISSING = object()


def _field(back: Any, name: str, declared: FieldInfo) -> Any:
    """Return the field in a model or in its JSON; for an excluded field, the value that a reader would use."""
    if not isinstance(back, dict):
        return getattr(back, name, _MISSING)
    names = (declared.serialization_alias, declared.alias, name)
    if declared.exclude and not declared.is_required():
        return declared.get_default(call_default_factory=True, validated_data=back)
    return next((back[one] for one in names if one in back), _MISSING)


def _of_hidden(value: BaseModel, back: BaseModel, at: str) -> str | None:
    """Compare the extra fields and private attributes of a model."""
    extra = value.__pydantic_extra__ or {}
    if (found := _of_mapping(extra, back.__pydantic_extra__ or {}, at)) is not None:
        return found
    if _is_of_library(type(value)):
        return None
    others = back.__pydantic_private__ or {}
    for name, kept in (value.__pydantic_private__ or {}).items():
        if difference(kept, others.get(name)) is not None:
            return _otherwise(f"{at}.{name}".lstrip("."), "is private and does not come back")
    return None


def _of_dataclass(value: Any, back: Any, at: str) -> str | None:
    if _is_of_library(type(value)) or isinstance(back, JSON_KINDS):
        return None
    if type(back) is not type(value):
        return _otherwise(
            at, f"is a {type(value).__name__} and comes back as {type(back).__name__}"
        )
    for one in dataclasses.fields(value):
        here = f"{at}.{one.name}".lstrip(".")
        found = difference(getattr(value, one.name, None), getattr(back, one.name, None), here)
        if found is not None:
            return found
    return None


def _is_of_library(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and is_library(file)


COMPARED: tuple[tuple[Any, Callable[[Any, Any, str], str | None]], ...] = (
    (SECRETS, _of_secret),
    (BaseModel, _of_model),
    (datetime, _of_time),
    (Mapping, _of_mapping),
    (list | tuple | deque, _of_sequence),
    (set | frozenset, _of_set),
)
