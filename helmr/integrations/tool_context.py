"""Records the changes that a step makes to its context, and applies them at a replay (S-127).

Tools write to a context of their run: a cart, a counter, sources that they have found. A replay does not call them
again, so their changes are stored beside their value: the new value of each attribute that differs, or the tail of a
list that grew. A context is a mapping, a list, a dataclass, a pydantic model or any object with attributes. Attributes
whose names begin with `_` are ignored, and so are changes inside a client or another object that holds no data.

A try that fails leaves the context as it found it, unless another step was at work on it meanwhile.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import threading
from collections.abc import Awaitable, Callable, MutableSet
from types import ModuleType
from typing import Annotated, Any, TypeVar, Unpack, cast, get_type_hints
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from helmr.current import DurableRun, require_run
from helmr.errors import BadDefinition, SchemaMismatch, TooLarge, UsageError
from helmr.models import VALUE_BYTES_MAX
from helmr.steps import StepOptions, step_call
from helmr.wire.schema import Codec, StoredCodec

CHANGED, VALUE = "helmr_context", "value"
"""Keys of a step's value that holds changes."""
ANY: Codec[Any] = StoredCodec(Any, what="a step's value")
NOTHING = object()


async def step_in_context(
    context: Any,
    what: str,
    name: str,
    function: Callable[[], Awaitable[Any]],
    **options: Unpack[StepOptions],
) -> Any:
    """Call a function as a step; what it changes in the context is there after a replay too.

    Args:
        context: The object that the function may change.
        what: Its name for people, such as `deps`.
        name: Name of the step.
        function: Its value has a JSON form. A stand-in gets the arguments of a `functools.partial`.
        options: As of `step`.

    Raises:
        UsageError: It put something into the context that has no JSON form.
        TooLarge: Value and changes have more than 1 MiB of JSON.
    """
    if _attributes(context) is None:
        return await step_call(name, function, **options)
    watch = _watch(context)
    call = _Call(watch, f"step {name}", what)
    watch.begin(call)
    try:
        body = functools.partial(call.body, function)
        if isinstance(function, functools.partial):
            body = with_arguments(body, *function.args, **function.keywords)
        recorded = await step_call(name, body, **options)
    finally:
        watch.calls.discard(call)
    return call.delivered(recorded)


def with_arguments(
    body: Callable[[], Awaitable[Any]], *args: Any, **kwargs: Any
) -> functools.partial[Any]:
    """A step's body, which needs none, with the arguments that its stand-in in a `replay` gets."""

    async def call(*_args: Any, **_kwargs: Any) -> Any:
        return await body()

    return functools.partial(call, *args, **kwargs)


class _Watch:
    """One context in one run, and the steps that have it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.calls: set[_Call] = set()
        self.lock = threading.Lock()
        self.count = 0
        """Number of steps whose changes were collected, live or recorded."""
        self.put_back: dict[str, int] = {}
        """That number for the newest change that a replay applied, by attribute."""

    def begin(self, call: _Call) -> None:
        """Register a call; calls side by side share the context, so no change can be assigned to one of them."""
        self.calls.add(call)
        if len(self.calls) > 1:
            for one in self.calls:
                one.is_alone = False


_watches: WeakKeyDictionary[DurableRun, dict[int, _Watch]] = WeakKeyDictionary()


def _watch(context: Any) -> _Watch:
    run = require_run("a step with a context")
    return _watches.setdefault(run, {}).setdefault(id(context), _Watch(context))


class _Call:
    """One step's call."""

    def __init__(self, watch: _Watch, name: str, what: str) -> None:
        self._watch, self._name, self._what = watch, name, what
        self.is_alone = True
        self._was_executed = False

    async def body(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Call the function, and return its value with the changes to the context."""
        context = self._watch.context
        before = undisturbed(lambda: copied(_attributes(context) or {}))
        try:
            value = await function()
        except BaseException:
            if self.is_alone:
                _restore(context, before)
            raise
        with self._watch.lock:
            self._watch.count += 1
            found = undisturbed(lambda: self._found(before))
            found["count"] = self._watch.count
        self._was_executed = True
        if len(found) > 1:
            return self._fitting(found, value)
        return {CHANGED: {}, VALUE: value} if _has_changes(value) else value

    def _found(self, before: dict[str, Any]) -> dict[str, Any]:
        after = _attributes(self._watch.context) or {}
        changes: dict[str, Any] = {}
        for name in {**before, **after}:
            old, new = before.get(name, NOTHING), after.get(name, NOTHING)
            if same(old, new):
                continue
            try:
                changes[name] = self._change(name, old, new)
            except SchemaMismatch as error:
                return {"refused": f"{self._called(name)}: {error}"}
        pairs = [pair for pair in _shared(after) if any(path[0] in changes for path in pair)]
        return {"changes": changes, **({"shared": pairs} if pairs else {})} if changes else {}

    def _change(self, name: str, old: Any, new: Any) -> dict[str, Any]:
        """Return the change of an attribute, as JSON.

        Raises:
            SchemaMismatch: It has no JSON form from which a replay could make it again.
        """
        if new is NOTHING:
            return {"gone": True}
        codec = _codec(cast("Any", type(self._watch.context)), name)
        if self.is_alone and type(new) is type(old):
            if isinstance(new, list) and len(new) > len(old) > 0 and same(old, new[: len(old)]):
                change = {"from": len(old), "more": codec.encode(new[len(old) :])}
                return self._proven(codec, change, old, new)
            if isinstance(new, dict) and len(new) >= len(old) > 0:
                more = {
                    key: one for key, one in new.items() if not same(old.get(key, NOTHING), one)
                }
                if len(more) < len(new) and old.keys() <= new.keys():
                    return self._proven(codec, {"keys": codec.encode(more)}, old, new)
        return self._proven(codec, {"to": codec.encode(new)}, old, new)

    def _proven(
        self, codec: Codec[Any], change: dict[str, Any], old: Any, new: Any
    ) -> dict[str, Any]:
        if not same(_applied(codec, change, copied(old)), new):
            raise SchemaMismatch(f"a {type(new).__name__} does not come back from JSON as it was")
        return change

    def _fitting(self, found: dict[str, Any], value: Any) -> Any:
        """Keep the changes even if the value is too large."""
        whole = {CHANGED: found, VALUE: value}
        try:
            if _size(whole) <= VALUE_BYTES_MAX:
                return whole
        except SchemaMismatch:  # the value, which fails the step
            return whole
        if _size(found) > VALUE_BYTES_MAX // 2:
            changed = ", ".join(map(self._called, found.get("changes", ())))
            found = {"count": found["count"], "refused": f"{changed}: too large to be recorded"}
        return {CHANGED: {**found, "too_large": True}, VALUE: None}

    def delivered(self, recorded: Any) -> Any:
        """Return the function's value, and leave the context as the function left it."""
        if not _has_changes(recorded):
            return recorded
        found = recorded[CHANGED]
        if "refused" in found:
            raise UsageError(
                f"{self._name} changed {found['refused']}",
                hint=f"What tools change in {self._what} is recorded: annotate it with a type that pydantic can read, "
                "or give it a name that begins with _ if the run can do without it after a restart.",
            )
        if not self._was_executed:
            self._put_back(found)
        if "too_large" in found:
            raise TooLarge(f"{self._name}: its value and what it changed are too large")
        return recorded[VALUE]

    def _put_back(self, found: dict[str, Any]) -> None:
        watch = self._watch
        count = found.get("count", 0)
        watch.count = max(watch.count, count)
        for name, change in found.get("changes", {}).items():
            if watch.put_back.get(name, 0) > count:
                continue  # a step beside it has looked later, and its outcome came before
            watch.put_back[name] = count
            old = (_attributes(watch.context) or {}).get(name, NOTHING)
            codec = _codec(cast("Any", type(watch.context)), name)
            try:
                new = _applied(codec, change, old)
            except SchemaMismatch as error:
                raise UsageError(
                    f"{self._name} has changed {self._called(name)} into what the code does not take now: {error}",
                    hint="Let the type take what was recorded, or rewind the run to before that step.",
                ) from error
            _set(watch.context, name, new)
        for path, other in found.get("shared", ()):
            _share(watch.context, path, other)

    def _called(self, name: str) -> str:
        return f"{self._what}.{name}" if name else self._what


def undisturbed(look: Callable[[], T]) -> T:
    """Retry a read of the context while code beside it changes what it iterates over."""
    for _ in range(LOOKS_MAX):
        try:
            return look()
        except RecursionError:
            raise
        except RuntimeError:  # "dictionary changed size during iteration"
            continue
    return look()


T = TypeVar("T")
LOOKS_MAX = 20


def _has_changes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {CHANGED, VALUE}


def _size(value: Any) -> int:
    return len(json.dumps(ANY.encode(value), ensure_ascii=False, separators=(",", ":")).encode())


def _applied(codec: Codec[Any], change: dict[str, Any], old: Any) -> Any:
    """Apply a change to an attribute; lists, mappings, sets and data objects stay the same object."""
    if "gone" in change:
        return NOTHING
    if "more" in change:
        old[change["from"] :] = codec.decode(change["more"])
        return old
    if "keys" in change:
        return merged(old, {**old, **codec.decode(change["keys"])})
    return merged(old, codec.decode(change["to"]))


# --- contexts and their attributes


def _attributes(context: Any) -> dict[str, Any] | None:
    """Return the watched attributes of a context; a list is its own only attribute. None if nothing can change."""
    if isinstance(context, type | ModuleType) or type(context).__module__ == "unittest.mock":
        return None  # a mock notes all that is asked of it
    if isinstance(context, dict):
        return dict(context) if all(isinstance(key, str) for key in context) else {"": context}
    if isinstance(context, list | MutableSet):
        return {"": context}
    parts = _parts(context)
    if parts is None and hasattr(context, "__dict__"):
        kind = type(context)
        # What a descriptor keeps there, `cached_property` for one, is not a state of the object's own.
        parts = {
            n: v for n, v in vars(context).items() if not hasattr(getattr(kind, n, None), "__get__")
        }
    return None if parts is None else {n: v for n, v in parts.items() if not n.startswith("_")}


def _parts(value: Any) -> dict[str, Any] | None:
    """The fields of a data object; None of anything else."""
    kind = type(value)
    if issubclass(kind, BaseModel):
        fields = {n: one for n, one in vars(value).items() if n in kind.__pydantic_fields__}
        return {**fields, **value.__pydantic_extra__} if value.__pydantic_extra__ else fields
    if dataclasses.is_dataclass(kind) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    return None


def _set(context: Any, name: str, value: Any) -> None:
    """Give a context's attribute a value, or take it away."""
    if not name:
        return  # the context itself, changed in place
    if isinstance(context, dict):
        context.pop(name, None) if value is NOTHING else context.__setitem__(name, value)
    elif isinstance(context, BaseModel) and name not in type(context).model_fields:
        extra = context.__pydantic_extra__
        assert extra is not None
        extra.pop(name, None) if value is NOTHING else extra.__setitem__(name, value)
    elif value is NOTHING:
        object.__delattr__(context, name)
    else:
        if isinstance(context, BaseModel) and not same(getattr(context, name, NOTHING), value):
            context.__pydantic_fields_set__.add(name)
        object.__setattr__(context, name, value)


def _restore(context: Any, before: dict[str, Any]) -> None:
    now = _attributes(context) or {}
    for name in {**now, **before}:
        old, new = now.get(name, NOTHING), before.get(name, NOTHING)
        if not same(old, new):
            _set(context, name, merged(old, new))


@functools.lru_cache(maxsize=512)
def _codec(kind: type, name: str) -> Codec[Any]:
    """Return the codec of an attribute, by its annotation if pydantic can read that."""
    try:
        hint = _hints(kind).get(name, Any)
        codec: Codec[Any] = StoredCodec(hint, what=f"a {getattr(hint, '__name__', hint)}")
        codec.require()
    except (BadDefinition, NameError, TypeError):
        return ANY
    return codec


def _hints(kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {
            name: Annotated[field.annotation, *field.metadata]
            if field.metadata
            else field.annotation
            for name, field in kind.model_fields.items()
        }
    return get_type_hints(kind, include_extras=True)


Path = list[str | int]


def _shared(attributes: dict[str, Any]) -> list[tuple[Path, Path]]:
    """Find pairs of places that hold the same object: JSON would make two of it."""
    places: dict[int, Path] = {}
    found: list[tuple[Path, Path]] = []

    def walk(value: Any, path: Path) -> None:
        parts = _children(value)
        if parts is None:
            return
        if id(value) in places:
            found.append((places[id(value)], path))
            return
        places[id(value)] = path
        for name, one in parts:
            walk(one, [*path, name])

    for name, value in attributes.items():
        walk(value, [name])
    return found


def _children(value: Any) -> list[tuple[str | int, Any]] | None:
    """Return the replaceable values inside a value, by name or place; None if it holds none."""
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return [(key, one) for key, one in value.items() if isinstance(key, str)]
    if isinstance(value, MutableSet):
        return []
    parts = _parts(value)
    return None if parts is None else [*parts.items()]


def _share(context: Any, path: Path, other: Path) -> None:
    """Put the object at one place at the other, too. A later change may have removed either."""
    try:
        value, holder = _at(context, path), _at(context, other[:-1])
    except (KeyError, IndexError, AttributeError, TypeError):
        return
    last = other[-1]
    if isinstance(last, int):
        holder[last] = value
    else:
        _set(holder, last, value)


def _at(context: Any, path: Path) -> Any:
    for step in path:
        if step == "" and not isinstance(context, dict):
            continue  # a list is its own attribute
        is_inside = isinstance(step, int) or isinstance(context, dict)
        context = context[step] if is_inside else getattr(context, str(step))
    return context


# --- values


def copied(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Copy a value's containers and data objects; other objects in them stay the same."""
    if type(value) in PLAIN:
        return value
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, tuple):
        parts = [copied(one, known) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list | dict | MutableSet | bytearray):
        made = known[id(value)] = copy.copy(value)
        if isinstance(made, list):
            made[:] = [copied(one, known) for one in made]
        elif isinstance(made, dict):
            made.update({key: copied(one, known) for key, one in made.items()})
        return made
    fields = _parts(value)
    if fields is None:
        return value
    made = known[id(value)] = copy.copy(value)
    for name, one in fields.items():
        if type(one) not in PLAIN and (part := copied(one, known)) is not one:
            _set(made, name, part)
    return made


def same(one: Any, other: Any, around: set[tuple[int, int]] | None = None) -> bool:
    """True if two values are the same data, or the same object if they are not data."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) in PLAIN:
        return bool(one == other) or (one != one and other != other)
    around = set() if around is None else around
    pair = id(one), id(other)
    if pair in around:
        return True  # as far as it is known: the rest is being compared
    around.add(pair)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            same(a, b, around) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, MutableSet | bytearray):
        return bool(one == other)
    parts = one if isinstance(one, dict) else _parts(one)
    if parts is not None:
        others = other if isinstance(other, dict) else _parts(other) or {}
        return parts.keys() == others.keys() and all(
            same(part, others[name], around) for name, part in parts.items()
        )
    kind: Any = type(one)
    is_value = kind.__eq__ is not object.__eq__ and kind.__hash__ not in (None, object.__hash__)
    return is_value and bool(one == other)


PLAIN = frozenset((str, int, float, bool, bytes))


def merged(old: Any, new: Any, around: frozenset[int] = frozenset()) -> Any:
    """Merge the new value into the old one's objects of the same kind, so that other references see it too."""
    if old is new or id(new) in around:
        return old
    into = functools.partial(merged, around=around | {id(new)})
    if isinstance(old, dict) and isinstance(new, dict):
        put = {key: into(old.get(key, NOTHING), one) for key, one in new.items()}
        old.clear()
        old.update(put)
    elif isinstance(old, list) and isinstance(new, list):
        # Elements stay the objects that they are where they are the same, or where none came or went.
        is_grown = len(old) != len(new)
        old[:] = [
            one if place >= len(old) else _element(old[place], one, is_grown, into)
            for place, one in enumerate(new)
        ]
    elif isinstance(old, MutableSet) and isinstance(new, MutableSet):
        old.clear()
        for one in new:
            old.add(one)
    else:
        parts = _parts(new)
        if parts is None or type(old) is not type(new):
            return new
        for name, one in parts.items():
            _set(old, name, into(getattr(old, name, NOTHING), one))
    return old


def _element(old: Any, new: Any, is_grown: bool, into: Callable[[Any, Any], Any]) -> Any:
    if same(old, new):
        return old
    return new if is_grown else into(old, new)
