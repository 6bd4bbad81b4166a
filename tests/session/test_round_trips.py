"""A value that a replay would not give back as it was is refused in a harness and named in the log elsewhere."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_serializer,
)

from helmr import TaskContext, sessions, step, streams, task
from helmr.errors import SchemaMismatch
from helmr.testing import Harness, RunFailed
from helmr_runtime.replay import outside_steps
from helmr_runtime.replay.round_trips import comparing, difference

T = TypeVar("T")

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()

go = streams.input("go")
out = streams.output("out")


class Login(BaseModel):
    user: str = "ada"
    password: SecretStr = SecretStr("s3cret")


class Hidden(BaseModel):
    note: str = Field(default="lost", exclude=True)


class Private(BaseModel):
    _raw: str = PrivateAttr(default="lost")


class Base(BaseModel):
    x: int = 1


class Sub(Base):
    y: str = "kept"


@dataclasses.dataclass
class Cached:
    a: int
    cache: dict[str, int] = dataclasses.field(default_factory=dict, init=False)


def private() -> Private:
    made = Private()
    made._raw = "kept"
    return made


def cached() -> Cached:
    made = Cached(1)
    made.cache["k"] = 1
    return made


BERLIN = datetime(2026, 10, 24, 9, tzinfo=ZoneInfo("Europe/Berlin"))

CHANGED: dict[str, tuple[Any, Callable[[], Any], str]] = {
    "secret": (Login, Login, "`password` is a secret and comes back masked"),
    "secret in a list": (list[Login], lambda: [Login()], "`[0].password` is a secret"),
    "secret without annotation": (Any, Login, "`password` is a secret"),
    "secret alone": (Any, lambda: SecretStr("s3cret"), "it is a secret"),
    "excluded": (Hidden, lambda: Hidden(note="kept"), "`note` is excluded and does not come back"),
    "excluded, no annotation": (Any, lambda: Hidden(note="kept"), "`note` is excluded"),
    "private": (Private, private, "`_raw` is private and does not come back"),
    "subclass": (Base, Sub, "it is a Sub and comes back as Base"),
    "subclass in a dict": (dict[str, Base], lambda: {"a": Sub()}, "`['a']` is a Sub"),
    "a dataclass's cache": (Cached, cached, "`cache['k']` is gone"),
    "zone": (datetime, lambda: BERLIN, "it has the zone Europe/Berlin, of which only the offset"),
    "int keys": (Any, lambda: {1: "a"}, "`[1]` comes back under '1'"),
    "int keys in a model": (
        dict[str, Any],
        lambda: {"a": {1: 2}},
        "`['a'][1]` comes back under '1'",
    ),
}


class Colour(Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


class Box(BaseModel, Generic[T]):
    held: T


class Rich(BaseModel):
    """What an ordinary model has."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(default="a", alias="theName")
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    tags: set[str] = {"a", "b"}
    money: Decimal = Decimal("1.10")
    place: tuple[float, float] = (0.1, 1e-9)
    colour: Colour = Colour.RED
    url: HttpUrl = HttpUrl("https://example.com")
    nested: Box[int] = Box[int](held=1)
    hidden: str = Field(default="default", exclude=True)
    _count: int = PrivateAttr(default=0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.name.upper()

    @field_serializer("money")
    def _as_text(self, value: Decimal) -> str:
        return str(value)


class Told(BaseModel):
    """Its author has it write the secret."""

    password: SecretStr = SecretStr("s3cret")

    @field_serializer("password")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


KEPT: dict[str, tuple[Any, Callable[[], Any]]] = {
    "model": (Rich, lambda: Rich.model_validate({"theName": "x", "more": [1, 2]})),
    "model without annotation": (Any, Rich),
    "told": (Told, Told),
    "generic": (Box[Base], lambda: Box[Base](held=Base())),
    "generic by its plain class": (Box[int], lambda: Box(held=1)),
    "floats": (list[float], lambda: [0.1, 1e300, 5e-324, -0.0, 1]),
    "any": (Any, lambda: {"a": (1, 2), "b": {"x"}, "c": date(2026, 1, 1), "d": Path("/tmp")}),
    "tuples": (tuple[int, ...], lambda: (1, 2)),
    "pair": (Pair, lambda: Pair(1, "a")),
    "pair without annotation": (Any, lambda: Pair(1, "a")),
    "sets": (frozenset[int], lambda: frozenset({1, 2})),
    "int keys": (dict[int, str], lambda: {1: "a"}),
    "enum keys": (dict[Colour, int], lambda: {Colour.RED: 1}),
    "uuid": (uuid.UUID, uuid.uuid4),
    "utc": (datetime, lambda: datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
    "offset": (datetime, lambda: datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    "zone that never changes": (
        datetime,
        lambda: datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo")),
    ),
    "naive": (datetime, lambda: datetime(2026, 1, 1)),  # noqa: DTZ001
    "delta": (timedelta, lambda: timedelta(days=1, microseconds=1)),
    "bytes": (bytes, lambda: b"\xff\x00"),
    "text that is coerced": (int, lambda: "5"),
    "array": (list[float], lambda: np.array([1.0, 2.0])),
    "none": (None, lambda: None),
}


def returning(annotation: Any, make: Callable[[], Any]) -> Any:
    def give() -> Any:
        return make()

    give.__annotations__["return"] = annotation
    return step(give)


def tried(annotation: Any, make: Callable[[], Any]) -> Any:
    given = returning(annotation, make)

    @task(id="tried")
    async def tries(payload: None) -> str:
        await given()
        return "kept"

    return tries


@pytest.mark.parametrize("kind", CHANGED)
async def test_a_step_whose_value_would_come_back_otherwise_is_refused(kind: str) -> None:
    annotation, make, said = CHANGED[kind]
    tries = tried(annotation, make)
    async with Harness(tries) as harness:
        session = await harness.start(tries)
        with pytest.raises(RunFailed) as refused:
            await session.result()
    text = str(refused.value)
    assert said in text
    assert f"{__file__}:" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("kind", KEPT)
async def test_what_comes_back_as_it_was_passes(kind: str) -> None:
    tries = tried(*KEPT[kind])
    async with Harness(tries) as harness:
        assert await (await harness.start(tries)).result() == "kept"


@task(id="continues")
async def continues(payload: Login, ctx: TaskContext) -> None:
    if payload.user == "ada":
        await ctx.continue_as(Login(user="bob"))


@task(id="appends")
async def appends(payload: None) -> None:
    await out.append(Hidden(note="kept"))


@task(id="ends")
async def ends(payload: None) -> Base:
    return Sub()


@task(id="child")
async def child(payload: Login) -> None:
    pass


@task(id="parent")
async def parent(payload: None) -> None:
    await sessions.start(child, Login())


@pytest.mark.parametrize(
    ("task_id", "payload", "line"),
    [
        ("continues", {"user": "ada", "password": "x"}, 'ctx.continue_as(Login(user="bob"))'),
        ("appends", None, 'out.append(Hidden(note="kept"))'),
        ("ends", None, '@task(id="ends")'),
        ("parent", None, "sessions.start(child, Login())"),
    ],
)
async def test_payloads_outputs_and_results_are_compared_where_they_are_made(
    task_id: str, payload: Any, line: str
) -> None:
    async with Harness(continues, appends, ends, child, parent) as harness:
        session = await harness.start(task_id, payload)
        with pytest.raises(RunFailed) as refused:
            await session.result()
    number = next(i for i, one in enumerate(LINES, 1) if one.strip().removeprefix("await ") == line)
    assert f"{__file__}:{number}: " in str(refused.value)


async def test_the_payload_that_a_test_starts_with_is_compared_too() -> None:
    async with Harness(child) as harness:
        with pytest.raises(SchemaMismatch, match="`password` is a secret"):
            await harness.start(child, Login())


# --- arguments ---------------------------------------------------------------------------------------


class Cart(BaseModel):
    items: list[str] = []


@step
async def fills_a_list(found: list[int]) -> None:
    found.append(1)


@step
def fills_a_cart(item: str, *, cart: Cart) -> None:
    cart.items.append(item)


@step
async def looks(found: list[int], cart: Cart, client: object) -> int:
    vars(client)["calls"] = 1
    return len(found) + len(cart.items)


@task(id="by-list")
async def by_list(payload: None) -> None:
    await fills_a_list([])


@task(id="by-cart")
async def by_cart(payload: None) -> None:
    await fills_a_cart("book", cart=Cart())


class OfAClient:
    pass


@task(id="by-looking")
async def by_looking(payload: None) -> int:
    return await looks([1], Cart(items=["a"]), OfAClient())


@pytest.mark.parametrize(("task_id", "name"), [("by-list", "found"), ("by-cart", "cart")])
async def test_a_step_that_changes_an_argument_is_refused(task_id: str, name: str) -> None:
    async with Harness(by_list, by_cart) as harness:
        session = await harness.start(task_id)
        with pytest.raises(RunFailed, match=f"its body has changed the argument `{name}`"):
            await session.result()


async def test_arguments_that_are_left_alone_and_clients_pass() -> None:
    async with Harness(by_looking) as harness:
        assert await (await harness.start(by_looking)).result() == 2


# --- where nothing is refused --------------------------------------------------------------------------


async def test_elsewhere_a_difference_is_named_once_with_its_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside_steps.forget()
    monkeypatch.setattr("helmr.testing.harness.comparing", lambda refuses: comparing(refuses=False))
    tries = tried(Login, Login)
    with caplog.at_level(logging.WARNING, "helmr.run"):
        async with Harness(tries, by_list) as harness:
            for _ in range(2):
                assert await (await harness.start(tries)).result() == "kept"
                assert await (await harness.start(by_list)).result() is None
    secret, argument = [one.getMessage() for one in caplog.records if one.name == "helmr.run"]
    assert secret.startswith(f"{__file__}:")
    assert "result of step give: `password` is a secret and comes back masked" in secret
    assert "read its value inside the step" in secret
    assert "step fills_a_list: its body has changed the argument `found`" in argument
    assert "Have the step return it" in argument


def test_nothing_is_compared_where_no_one_watches() -> None:
    from helmr.wire import schema

    assert schema.on_encoded is None
    login: schema.Codec[Login] = schema.Codec(Login, what="a login")
    assert login.encode(Login())["password"] == "**********"


def test_an_object_that_says_nothing_of_itself_is_no_difference() -> None:
    assert difference(OfAClient(), OfAClient()) is None
