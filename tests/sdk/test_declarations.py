"""Declaring tasks, steps and streams: what works, and errors that name the place (S-20)."""

from __future__ import annotations

import enum
import inspect
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import PendingWait, TaskContext, errors, step, streams, task
from helmr.errors import SchemaMismatch
from helmr.wire.schema import Codec

approval = streams.input("approval", schema=bool)
progress = streams.output("progress", schema=str)


# --- streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A1", "0", "a.b_c-d", "x" * 128])
def test_names_of_streams(name: str):
    assert streams.input(name).id == name
    assert streams.output(name).id == name


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "_a", "a b", "a/b", "é", "a\n", "x" * 129, "a\0", "a:b"]
)
def test_what_is_no_name_of_a_stream(name: str):
    with pytest.raises(errors.BadDefinition):
        streams.input(name)


def test_a_stream_knows_where_it_is_declared():
    file, line = approval.declared_in.rsplit(":", 1)
    assert file == __file__
    assert int(line) > 1


def test_a_streams_repr_names_it():
    assert repr(approval) == "InputStream('approval')"


def test_a_schema_that_pydantic_cannot_read_is_a_bad_definition_at_first_use():
    class Opaque:
        pass

    stream = streams.input("opaque", schema=Opaque)
    with pytest.raises(errors.BadDefinition, match="opaque"):
        stream.codec.decode(1)


def test_opening_a_wait_is_lazy():
    assert isinstance(approval.wait(timeout="1h"), PendingWait)


# --- tasks ------------------------------------------------------------------------------------------


def test_a_tasks_streams_are_those_of_its_module_and_the_declared_ones():
    extra = streams.input("extra")

    @task(streams=[extra])
    async def body(payload: Any) -> None: ...

    assert body.streams() == {"approval": approval, "progress": progress, "extra": extra}


@pytest.mark.parametrize(
    "other", [streams.input("approval", schema=str), streams.output("approval", schema=bool)]
)
def test_one_name_with_two_schemas_or_directions_is_an_error_that_names_both_places(other: Any):
    @task(streams=[other])
    async def body(payload: Any) -> None: ...

    with pytest.raises(errors.BadDefinition) as caught:
        body.streams()
    assert approval.declared_in in caught.value.message
    assert other.declared_in in caught.value.message


def test_one_stream_declared_twice_alike_is_one():
    twin = streams.input("approval", schema=bool)

    @task(streams=[twin])
    async def body(payload: Any) -> None: ...

    assert body.streams()["approval"] is approval


def test_a_task_works_bare_and_with_arguments():
    @task
    async def bare(payload: str) -> str:
        """What it does."""
        return payload

    @task(id="named", retries=3, on_idle_input="run", after_run="close", isolated=True)
    async def full(payload: str, ctx: TaskContext) -> str:
        return payload

    assert (bare.id, bare.takes_context, bare.retries) == ("bare", False, 0)
    assert (full.id, full.takes_context, full.retries) == ("named", True, 3)
    assert (full.on_idle_input, full.after_run, full.isolated) == ("run", "close", True)
    assert bare.__doc__ == "What it does."
    assert vars(bare)["__name__"] == "bare"


async def _none() -> None: ...
async def _three(a: Any, b: Any, c: Any) -> None: ...
async def _keyword(payload: Any, *, ctx: Any) -> None: ...
async def _star(*payload: Any) -> None: ...
async def _stars(payload: Any, **more: Any) -> None: ...
def _sync(payload: Any) -> None: ...
async def _generator(payload: Any) -> Any:
    yield payload


@pytest.mark.parametrize(
    "function",
    [_none, _three, _keyword, _star, _stars, _sync, _generator],
    ids=lambda f: f.__name__,
)
def test_what_is_no_task(function: Any):
    with pytest.raises(errors.BadDefinition) as caught:
        task(function)
    assert function.__name__ in caught.value.message


@pytest.mark.parametrize(
    "arguments",
    [
        {"retries": -1},
        {"retries": 1001},
        {"on_idle_input": "drop"},
        {"after_run": "delete"},
        {"backoff": "soon"},
        {"backoff": -1},
    ],
    ids=str,
)
def test_bad_arguments_of_a_task(arguments: dict[str, Any]):
    async def body(payload: Any) -> None: ...

    with pytest.raises((errors.BadDefinition, errors.BadDuration)):
        task(**arguments)(body)


# --- steps ------------------------------------------------------------------------------------------


def test_a_step_works_bare_and_with_arguments():
    @step
    def bare() -> int:
        """What it does."""
        return 1

    @step(name="named", retries=3, backoff="2s", retry_on=ValueError, timeout="1m")
    async def full() -> int:
        return 1

    assert (bare.name, bare.is_async, bare.retry_on) == ("bare", False, (Exception,))
    assert (full.name, full.is_async, full.retry_on) == ("named", True, (ValueError,))
    assert (full.retries, full.backoff_s, full.timeout_s) == (3, 2.0, 60.0)
    assert bare.__doc__ == "What it does."


@pytest.mark.parametrize(
    "arguments",
    [{"retries": -1}, {"retries": 1001}, {"timeout": 0}, {"timeout": "x"}, {"backoff": -1}],
    ids=str,
)
def test_bad_arguments_of_a_step(arguments: dict[str, Any]):
    with pytest.raises((errors.BadDefinition, errors.BadDuration)):
        step(**arguments)(_sync)


async def test_a_call_of_a_sync_step_is_awaited_too():
    @step
    def add(a: int, *, b: int) -> int:
        return a + b

    call = add(1, b=2)
    assert inspect.iscoroutine(call)
    assert await call == 3


# --- codecs -----------------------------------------------------------------------------------------


ANYTHING: Codec[Any] = Codec(Any, what="x")


class Inner(BaseModel):
    number: int


class Outer(BaseModel):
    inner: list[Inner]


def test_a_mismatch_names_the_failing_paths_without_the_values():
    codec: Codec[Outer] = Codec(Outer, what="input stream x")
    with pytest.raises(errors.SchemaMismatch) as caught:
        codec.decode({"inner": [{"number": 1}, {"number": "s3cret"}, {}]})
    assert [e["path"] for e in caught.value.errors] == ["inner.1.number", "inner.2.number"]
    assert "s3cret" not in caught.value.message + str(caught.value.errors)
    assert "and 1 more" in caught.value.message


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, 2**80),
        (list[tuple[int, str]], [(1, "a")]),
        (Outer, Outer(inner=[Inner(number=1)])),
        (dict[str, Inner], {"a": Inner(number=1)}),
        (bytes, b"bytes"),
        (Any, {"a": [1, 1.0, None, True]}),
        (int | None, None),
    ],
    ids=str,
)
def test_what_is_encoded_is_decoded(type_: Any, value: Any):
    codec: Codec[Any] = Codec(type_, what="x")
    assert codec.decode(codec.encode(value)) == value


def test_nested_too_deeply_is_a_mismatch():
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(errors.SchemaMismatch):
        ANYTHING.encode(value)

    class Node(BaseModel):
        next: Node | None = None

    deep: Any = None
    for _ in range(5000):
        deep = {"next": deep}
    Node.model_rebuild(_types_namespace={"Node": Node})
    with pytest.raises(errors.SchemaMismatch):
        Codec(Node, what="x").decode(deep)


def test_a_streams_json_schema_says_what_may_be_sent():
    assert streams.input("x", schema=Inner).codec.json_schema()["required"] == ["number"]
    assert streams.input("x").codec.json_schema() == {}


class Colour(enum.StrEnum):
    RED = "red"


class Paint(BaseModel):
    colour: Colour
    amount: int = 1


@task
async def paints(payload: dict[str, Any]) -> None: ...


@task
async def paints_one(paint: Paint) -> None: ...


def test_plain_json_is_sent_as_it_is_and_anything_else_by_the_annotation():
    raw = {"colour": "red", "extra": [1, {"deep": None}]}
    assert paints_one.encode_payload(raw) is raw
    assert paints_one.encode_payload(Paint(colour=Colour.RED)) == {"colour": "red", "amount": 1}
    encoded = paints_one.encode_payload({"colour": Colour.RED})
    assert type(encoded["colour"]) is str
    shared = [1]
    assert paints.encode_payload({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def test_a_payload_that_has_no_json_is_refused():
    itself: dict[str, Any] = {}
    itself["itself"] = [itself, itself]
    for payload in (itself, {"deep": _nested(100_000)}, {"object": object()}, {1: "a"}):
        with pytest.raises(SchemaMismatch):
            paints.encode_payload(payload)
