"""Shows the blocking client in the API reference with the words of the awaited one.

`blocking(AsyncWaits.answer)` makes a method when it runs, so a reader of the source sees an attribute without text.
Here it becomes a method again: the parameters and the docstring are the awaited method's, and the call returns what is
awaited there. A function under `@described(…)` gets the docstring alone.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

BLOCKING = "client.sync"
CALL = re.compile(r"(?:blocking|described)\((Async\w+\.\w+)(?:, gives=lambda \w+: (\w+)\()?")
RETURNS = (
    (r"^AsyncGenerator\[(.*), None\]$", r"Generator[\1, None, None]"),
    (r"\bAsync(?=[A-Z])", ""),
)


class BlockingMethods(griffe.Extension):
    """Runs once the package is read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.path != "helmr":
            return
        of_features = (one for one in pkg["features"].modules.values() if "blocking" in one.modules)
        for module in (pkg[BLOCKING], *(one["blocking"] for one in of_features)):
            self._described(module)

    def _described(self, module: Any) -> None:
        for part in module.classes.values():
            for name, member in list(part.members.items()):
                if member.is_attribute and (found := CALL.match(str(member.value))):
                    part.set_member(name, _method(module[found[1]], member, found[2]))
                elif member.is_function and not member.docstring:
                    for decorator in member.decorators:
                        if found := CALL.match(str(decorator.value)):
                            member.docstring = module[found[1]].docstring


def _method(awaited: griffe.Function, member: griffe.Object, gives: str | None) -> griffe.Function:
    returns = gives or str(awaited.returns)
    for pattern, text in RETURNS:
        returns = re.sub(pattern, text, returns)
    return griffe.Function(
        member.name,
        lineno=member.lineno,
        endlineno=member.endlineno,
        parameters=awaited.parameters,
        returns=returns,
        docstring=awaited.docstring,
        parent=member.parent,
    )
