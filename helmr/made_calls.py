"""What a run's code has called and not awaited, with the place of each call (S-125).

A call that was dropped without an `await` fails the run at its next durable op, before anything of that op leaves; one
that is kept, which the code may still await, fails it at its end. A call that the code has tested for truth counts as
dropped unless it is the next to be awaited: `if approval.wait():` is true whatever the person would have said.
"""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass
from opcode import opmap
from types import FrameType

from helmr.errors import NotAwaited

_POP_TOP = opmap["POP_TOP"]


@dataclass(slots=True)
class Made:
    """A durable call that the code has made.

    Attributes:
        what: As the code would write it: `approval.wait()`.
        module: Where it was made.
        file: There.
        line: There.
        function: In which function.
        handled: The `id` of the exception that was being handled there.
        is_statement: It was dropped where it stood, as a statement of its own.
        is_tested: The code has asked whether it is true.
    """

    what: str
    module: str
    file: str
    line: int
    function: str
    handled: int | None
    is_statement: bool = False
    is_tested: bool = False

    def __str__(self) -> str:
        return f"{self.what} at {_file_of(self.file, self.module)}:{self.line}"

    def error(self) -> NotAwaited:
        """What to tell the developer."""
        what = "tested for truth and not" if self.is_tested else "made and never"
        message = f"{self} was {what} awaited"
        return NotAwaited(message, file=self.file, line=self.line)

    @property
    def traceback(self) -> str:
        """Its line in a traceback."""
        source = linecache.getline(self.file, self.line).strip()
        shown = f"    {source}\n" if source else ""
        return f'  File "{self.file}", line {self.line}, in {self.function}\n{shown}'


class MadeCalls:
    """The durable calls of one run that were made and not awaited yet. Only `lose` is called by other threads."""

    def __init__(self) -> None:
        self._count = 0
        self._made: dict[int, Made] = {}
        self._lost: list[Made] = []
        self._tested: list[int] = []

    def add(self, what: str) -> int:
        """A call is made; its number."""
        self._count += 1
        frame = _caller()
        code, handled = frame.f_code, sys.exc_info()[1]
        self._made[self._count] = Made(
            what,
            frame.f_globals.get("__name__") or "",
            code.co_filename,
            frame.f_lineno,
            code.co_qualname,
            id(handled) if handled is not None else None,
        )
        return self._count

    def what(self, number: int) -> str:
        """The call as the code would write it, with its place."""
        return str(self._made[number])

    def begin(self, number: int) -> None:
        """The call is awaited, or was ended on purpose."""
        self._made.pop(number, None)
        if self._tested:
            self._tested = [one for one in self._tested if one != number]

    def lose(self, number: int, dropped_by: FrameType) -> None:
        """The call is dropped without an `await`, by code in that frame."""
        made = self._made.pop(number, None)
        if made is not None:
            made.is_statement = _is_statement(dropped_by)
            self._lost.append(made)

    def test(self, number: int) -> None:
        """The code asks whether the call is true."""
        if number in self._made:
            self._made[number].is_tested = True
            self._tested.append(number)

    def forgotten(self) -> Made | None:
        """What the next op must not pass by.

        A call that an exception may have kept from being awaited is passed while that exception is handled.
        """
        if not self._lost and not self._tested:
            return None
        handled = sys.exc_info()[1]
        tested = [self._made[number] for number in self._tested if number in self._made]
        for one in (*self._lost, *tested):
            if handled is None or one.is_statement or one.handled == id(handled):
                return one
        return None

    def unawaited(self) -> Made | None:
        """What the end must not pass by: the first call that was never awaited."""
        return next(iter((*self._lost, *self._made.values())), None)


def _caller() -> FrameType:
    """The innermost frame that is not Helmr's own."""
    frame: FrameType = sys._getframe(2)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__") or ""):
        frame = frame.f_back
    return frame


def code_place() -> str:
    """Where the task's code is, which has called Helmr on this stack: `tasks.py:24`."""
    frame: FrameType = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__") or ""
        if not _is_ours(module) and not module.startswith("helmr_runtime."):
            break
        frame = frame.f_back
    file = _file_of(frame.f_code.co_filename, frame.f_globals.get("__name__") or "")
    return f"{file}:{frame.f_lineno}"


def _is_ours(module: str) -> bool:
    return module.startswith("helmr.") and not module.startswith("helmr.examples.")


def _is_statement(frame: FrameType) -> bool:
    """The frame is throwing the value of a statement away. Bytecode of CPython 3.11 to 3.14."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and code[frame.f_lasti] == _POP_TOP


def _file_of(path: str, module: str) -> str:
    """`shop/tasks.py` of the module `shop.tasks`: the same text wherever the code is installed."""
    parts = path.replace(os.sep, "/").split("/")
    depth = module.count(".") + 1 + (parts[-1] == "__init__.py")
    return "/".join(parts[-depth:])
