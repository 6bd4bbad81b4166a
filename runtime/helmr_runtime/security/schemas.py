"""JSON Schemas from outside: checked once, then used to validate a token's completions (S-43).

The schema is untrusted: it may refer to files and hosts, hold patterns that take a backtracking
engine for ever, or refer to itself. So references are never fetched, patterns run in a linear
engine (look-around and back-references are refused), and size and depth are bounded.

A text fits a format if tasks' types take it: of dates and times as `helmr.person.forms.moments` says, of other formats
by their RFC or by pydantic, which takes more of some. So an answer is the same answer on a page, in the console, on the
command line and in a program.

`complete` checks a token's data against the schemas it must fit, then asks the ledger (S-41, S-43).

Source: JSON Schema 2020-12; jsonschema-rs fetches http and file references unless configured not to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import IPv6Address
from typing import Any
from uuid import UUID

from jsonschema_rs import (
    Draft202012Validator,
    ReferencingError,
    RegexOptions,
    ValidationError,
    ValidationErrorKind,
)
from pydantic import AnyUrl, TypeAdapter
from pydantic import ValidationError as NotOfType

from helmr.errors import BadSchema, SchemaMismatch, Unavailable
from helmr.person.forms import moments
from helmr_runtime.core import jsontext
from helmr_runtime.core.tokens import CompleteToken, check_completion_size

SCHEMA_BYTES_MAX = 64 * 1024
PROBLEMS_MAX = 50
"""Problems that one answer lists; the rest would not be read."""
_MESSAGE_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """One place where data does not fit: a path of keys and indexes, and a sentence for people."""

    path: tuple[str | int, ...]
    message: str


class DataSchema:
    """A checked JSON Schema.

    Raises:
        BadSchema: Not a schema, too large, a remote reference, or a pattern that is not linear.
    """

    def __init__(self, schema: Any) -> None:
        # The validator would parse a string as the schema's text.
        if not isinstance(schema, dict | bool):
            raise BadSchema("a schema is an object, true or false")
        if len(json.dumps(schema)) > SCHEMA_BYTES_MAX:
            raise BadSchema(f"a schema may have at most {SCHEMA_BYTES_MAX} bytes")
        try:
            self._validator = Draft202012Validator(
                schema,
                retriever=_refuse,
                pattern_options=RegexOptions(),
                formats=_FORMATS,
                validate_formats=True,
                ignore_unknown_formats=True,
            )
        except (ValidationError, ReferencingError) as error:
            reason = getattr(error, "message", None) or str(error)
            raise BadSchema(f"the schema can't be used: {reason[:_MESSAGE_CHARS_MAX]}") from error

    def problems(self, data: Any) -> list[SchemaProblem]:
        """List the places where the data does not fit, with reasons; empty if it fits."""
        found: list[SchemaProblem] = []
        for error in self._validator.iter_errors(data):
            found.extend(_problems(error))
            if len(found) >= PROBLEMS_MAX:
                break
        return found[:PROBLEMS_MAX]

    def check(self, data: Any) -> None:
        """Return if the data fits.

        Raises:
            SchemaMismatch: With the failing paths (S-21).
        """
        problems = self.problems(data)
        if problems:
            errors = [{"path": dotted(p.path), "message": p.message} for p in problems]
            raise SchemaMismatch(
                f"the data does not fit the schema: {errors[0]['path'] or 'it'} "
                f"{errors[0]['message'][:1].lower()}{errors[0]['message'][1:]}",
                errors=errors,
            )


def _fits(format: str, of: Any) -> Callable[[str], bool]:
    """Return a check that a text fits a format, by its RFC or by the tasks' own type."""

    def fits(text: str) -> bool:
        return _by_rfc(format).is_valid(text) or _is_of(of, text)

    return fits


@cache
def _by_rfc(format: str) -> Draft202012Validator:
    return Draft202012Validator({"format": format}, validate_formats=True)


def _is_of(of: Any, text: str) -> bool:
    try:
        _adapter(of).validate_python(text)
    except NotOfType:
        return False
    return True


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


_FORMATS: dict[str, Callable[[str], bool]] = {
    **moments.FORMATS,
    "uri": _fits("uri", AnyUrl),
    "uuid": _fits("uuid", UUID),
    "ipv6": _fits("ipv6", IPv6Address),
    "regex": _fits("regex", re.Pattern),
    # What pydantic takes, which it needs another package for.
    "email": lambda text: _by_rfc("email").is_valid(text) or _by_rfc("idn-email").is_valid(text),
}


def dotted(path: tuple[str | int, ...]) -> str:
    """The path as errors show it: `items.0.name`."""
    return ".".join(str(part) for part in path)


def read_path(text: str) -> tuple[str | int, ...]:
    """The path that errors show so, as far as its names hold no dots."""
    return tuple(int(part) if part.isdecimal() else part for part in text.split(".") if part)


def _refuse(uri: str, /) -> Any:
    raise ValueError(f"references are not fetched: {uri[:100]}")


def _problems(error: ValidationError) -> Iterator[SchemaProblem]:
    path = tuple(error.instance_path)
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Required):
        yield SchemaProblem((*path, kind.property), "Is needed.")
    elif isinstance(kind, ValidationErrorKind.AdditionalProperties):
        yield from (SchemaProblem((*path, name), "Is not known here.") for name in kind.unexpected)
    elif isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        meant = [branch for branch in kind.context if _may_be_meant(branch, path)]
        if len(meant) == 1:
            for inner in meant[0]:
                yield from _problems(inner)
        else:
            yield SchemaProblem(path, "Fits none of the forms it may have.")
    else:
        yield SchemaProblem(path, _sentence(kind) or error.message[:_MESSAGE_CHARS_MAX])


def _may_be_meant(branch: list[ValidationError], path: tuple[str | int, ...]) -> bool:
    """False for a form that the data is visibly not: of another type, or with another tag."""
    for error in branch:
        depth = len(error.instance_path) - len(path)
        if isinstance(error.kind, ValidationErrorKind.Type) and depth == 0:
            return False
        if isinstance(error.kind, ValidationErrorKind.Constant) and depth <= 1:
            return False
    return True


def _sentence(kind: ValidationErrorKind) -> str | None:
    match kind:
        case ValidationErrorKind.Type():
            return f"Must be {_type_words(kind.types)}."
        case ValidationErrorKind.Enum():
            options = [json.dumps(option, ensure_ascii=False) for option in kind.options]
            return f"Must be one of {', '.join(options)}."[:_MESSAGE_CHARS_MAX]
        case ValidationErrorKind.Constant():
            return f"Must be {json.dumps(kind.expected_value, ensure_ascii=False)}."
        case ValidationErrorKind.MinLength():
            return f"Must have at least {_count(kind.limit, 'character')}."
        case ValidationErrorKind.MaxLength():
            return f"Must have at most {_count(kind.limit, 'character')}."
        case ValidationErrorKind.Minimum():
            return f"Must be {kind.limit} or more."
        case ValidationErrorKind.Maximum():
            return f"Must be {kind.limit} or less."
        case ValidationErrorKind.ExclusiveMinimum():
            return f"Must be more than {kind.limit}."
        case ValidationErrorKind.ExclusiveMaximum():
            return f"Must be less than {kind.limit}."
        case ValidationErrorKind.MultipleOf():
            return f"Must be a multiple of {kind.multiple_of:g}."
        case ValidationErrorKind.MinItems():
            return f"Must have at least {_count(kind.limit, 'item')}."
        case ValidationErrorKind.MaxItems():
            return f"Must have at most {_count(kind.limit, 'item')}."
        case ValidationErrorKind.UniqueItems():
            return "Must not hold the same item twice."
        case ValidationErrorKind.Format():
            return f"Must be {_FORMAT_WORDS.get(kind.format, 'of format ' + kind.format)}."
        case ValidationErrorKind.OneOfMultipleValid():
            return "Fits more than one of the forms it may have."
        case ValidationErrorKind.FalseSchema():
            return "May not be given."
        case ValidationErrorKind.Pattern():
            return f"Must match the pattern {kind.pattern}"[:_MESSAGE_CHARS_MAX]
        case _:
            return None


_TYPE_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
    "object": "an object",
    "array": "a list",
    "null": "empty",
}
_FORMAT_WORDS = {
    "date": f"a date such as {moments.EXAMPLES['date']}",
    "time": f"a time such as {moments.EXAMPLES['time']}",
    "date-time": f"a date and time such as {moments.EXAMPLES['date-time']}",
    "duration": f"a duration such as {moments.DURATION_EXAMPLE}",
    "email": "an e-mail address",
    "uri": "a web address such as https://example.com",
    "uuid": "a UUID",
}


def _type_words(types: list[str]) -> str:
    return " or ".join(_TYPE_WORDS.get(name, name) for name in types)


def _count(limit: int, noun: str) -> str:
    return f"{limit} {noun}" if limit == 1 else f"{limit} {noun}s"


CHECKS_MAX = 5
"""A schema may be pinned while the data is checked; so often it is checked again."""

SCHEMAS_KEPT_MAX = 512

Json = Mapping[str, Any]


async def complete(
    get_token: Callable[[], Awaitable[Json]],
    write: Callable[[CompleteToken], Awaitable[Json]],
    make: Callable[[tuple[int, ...]], CompleteToken],
) -> Json:
    """The receipt of a completion: `{token_id, outcome, completed_at}`.

    Args:
        get_token: Reads the token in full.
        write: Asks the ledger.
        make: The fact, for the offsets of the schemas that the data was checked against.

    Raises:
        SchemaMismatch: The data does not fit; nothing happened.
        TokenCompleted, TokenExpired, TokenCancelled, TokenNotFound: S-41.
        Unavailable: Its schema changes too fast to be checked.
    """
    token: Json = {}
    token_id = make(()).token_id
    for _ in range(CHECKS_MAX):
        token = await get_token()
        checked: tuple[int, ...] = ()
        if token["status"] == "pending":
            checked = check(token, make(()).data)
        receipt = await write(make(checked))
        if receipt["outcome"] != "recheck":
            return receipt
    raise Unavailable(f"{token_id}: its schema changes while data is checked")


def check(token: Json, data: Any) -> tuple[int, ...]:
    """The offsets of the token's schemas, all of which the data fits.

    Raises:
        SchemaMismatch: With the failing paths (S-21).
        TooLarge: Over the limit of a record.
    """
    check_completion_size(data)
    for item in token["schemas"]:
        data_schema(item["schema"]).check(data)
    return tuple(item["offset"] for item in token["schemas"])


def data_schema(schema: Any) -> DataSchema:
    """The checked schema; compiling one is costly, so some are kept."""
    return _schema(jsontext.encode(schema))


@lru_cache(SCHEMAS_KEPT_MAX)
def _schema(text: str) -> DataSchema:
    return DataSchema(jsontext.decode(text))
