"""What steps return, and what tasks print and log."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import typing_extensions
from pydantic import BaseModel

from helmr import TaskContext, step, task
from tests.ordinary.moments import Places, go_on, thrice

log = logging.getLogger("mine")


@dataclass(frozen=True)
class Line:
    text: str
    price: Decimal
    marks: tuple[int, ...] = ()
    tags: set[str] = field(default_factory=set)


class Color(Enum):
    RED = 1


class Size(StrEnum):
    LARGE = "large"


class Place(NamedTuple):
    x: int
    y: int


class Typed(typing_extensions.TypedDict):
    name: str
    size: typing_extensions.NotRequired[int]


class TypedOfTyping(TypedDict):
    name: str


class Opened(BaseModel):
    kind: Literal["opened"] = "opened"


class Closed(BaseModel):
    kind: Literal["closed"] = "closed"
    reason: str


@step
async def line() -> Line:
    return Line("otters", Decimal("4.20"), (1, 2), {"a"})


@step
async def enums() -> tuple[Color, Size]:
    return Color.RED, Size.LARGE


@step
async def decimal() -> Decimal:
    return Decimal("0.10")


@step
async def uuid() -> UUID:
    return UUID(int=7)


@step
async def typed() -> Typed:
    return {"name": "ada"}


@step
async def typed_of_typing() -> TypedOfTyping:
    return {"name": "ada"}


@step
async def collections() -> tuple[tuple[int, str], set[int], dict[str, list[bytes]]]:
    return (1, "a"), {3}, {"b": [b"c"]}


@step
async def named() -> Place:
    return Place(1, 2)


@step
async def times() -> tuple[datetime, date, timedelta]:
    return datetime(2030, 1, 2, tzinfo=UTC), date(2030, 1, 2), timedelta(seconds=90)


@step
async def union() -> Opened | Closed:
    return Closed(reason="done")


@step
async def path() -> Path:
    return Path("a") / "b"


@step
async def unannotated():
    return {"a": [1, None, "x"]}


@step
async def no_json() -> object:
    return object()


@step
async def says(text: str) -> None:
    print(f"print in a step: {text}", flush=True)
    log.warning("log in a step: %s", text)


async def dataclasses(places: Places) -> Any:
    value = await line()
    return [type(value).__name__, str(value.price), list(value.marks), sorted(value.tags)]


async def enumerations(places: Places) -> Any:
    return [str(value) for value in await enums()]


async def decimals(places: Places) -> Any:
    return str(await decimal() + Decimal("0.20"))


async def uuids(places: Places) -> Any:
    return (await uuid()).int


async def typed_dicts(places: Places) -> Any:
    return await typed()


async def typed_dicts_of_typing(places: Places) -> Any:
    return await typed_of_typing()


async def tuples_sets_and_bytes(places: Places) -> Any:
    return repr(await collections())


async def named_tuples(places: Places) -> Any:
    return repr(await named())


async def dates_and_times(places: Places) -> Any:
    moment, day, duration = await times()
    return [moment.isoformat(), day.isoformat(), duration.total_seconds()]


async def unions_of_models(places: Places) -> Any:
    return type(await union()).__name__


async def paths(places: Places) -> Any:
    return str(await path())


async def without_annotation(places: Places) -> Any:
    return await unannotated()


async def value_without_json(places: Places) -> Any:
    return await no_json()


async def prints_and_logs(places: Places) -> Any:
    await says("hello")
    print("print in a task", flush=True)
    return "said"


HABITS = (
    dataclasses,
    enumerations,
    decimals,
    uuids,
    typed_dicts,
    typed_dicts_of_typing,
    tuples_sets_and_bytes,
    named_tuples,
    dates_and_times,
    unions_of_models,
    paths,
    without_annotation,
    value_without_json,
    prints_and_logs,
)


@task(id="values", streams=[go_on])
async def values(places: Places, ctx: TaskContext) -> dict[str, list[Any]]:
    ctx.log.warning("log of the task's context")
    return await thrice("values", HABITS, places)
