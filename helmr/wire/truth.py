"""Results that refuse a test for truth: `if await ask_approval(…):` would pay after "decline".

Any object is true unless its class says otherwise. So a result of ours raises when it is tested for truth, searched
with `in` or compared with a text, a bool or a number, and the error names the attribute to use instead. Type checkers
refuse the same: pyright the condition, pyright and mypy the comparison.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from helmr.errors import UsageError


def no_truth(of: object, ask: str) -> NoReturn:
    """Refuse a test of an object for truth; `ask` names the attribute to use instead.

    Raises:
        UsageError: Always.
    """
    raise UsageError(f"{type(of).__name__} is neither true nor false: ask {ask}")


class NoTruth:
    """Base of results that can't be tested for truth; `_ask` names the attribute to use instead."""

    __slots__ = ()
    _ask: ClassVar[str]

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it refuses
        no_truth(self, self._ask)

    def _refuse(self, why: str) -> NoReturn:
        raise UsageError(f"{type(self).__name__} {why}: ask {self._ask}")

    if not TYPE_CHECKING:  # a checker that sees these allows any comparison and any `in`

        def __contains__(self, item: object) -> NoReturn:
            self._refuse("holds nothing that `in` could find")

        def __eq__(self, other: object) -> bool:
            if isinstance(other, str | int | float):
                self._refuse(f"is never equal to {other!r:.60}")
            return super().__eq__(other)

        __hash__ = None


class Ending(NoTruth):
    """Base of the dataclasses for ends of waits and children. Declare them with `eq=False`: it defines equality."""

    __slots__ = ()
    _ask = ".ok, then .value, or write `await ….unwrap()` for the value itself"

    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            if type(other) is type(self):
                return _parts(self) == _parts(other)
            if isinstance(other, list | dict) or hasattr(type(other), "model_fields"):
                self._refuse(f"can't be equal to {type(other).__name__}, only its value can")
            return super().__eq__(other)

        def __hash__(self) -> int:
            return hash(_parts(self))

        def __getattr__(self, name: str) -> Any:
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name == "unwrap":
                said += ": the wait has it, write `await ….wait().unwrap()`"
            elif not name.startswith("_") and name not in self.__dataclass_fields__:
                said += ": ask .ok, then .value, which is what came"
            raise AttributeError(said, name=name, obj=self)


def _parts(ending: Any) -> tuple[Any, ...]:
    return tuple(getattr(ending, one.name) for one in fields(ending))
