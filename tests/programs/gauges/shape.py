"""Counts over the sources: modules, lines by what they hold, constructors, class names, inheritance, private names.

All from the syntax trees; a line that holds a signature and code counts as signature.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

from tests.programs.gauges.names import names

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {"helmr": ".", "helmr_runtime": "runtime", "helmr_console": "console"}
ROOT_ERROR = "HelmrError"
SMALL_LINES = 60
"""A module below that many lines is rarely a noun of its own."""


KERNEL = {
    "helmr": (
        *("client", "errors", "models", "wire"),
        *("approvals.py", "auth.py", "context.py", "current.py", "escalation.py", "evidence.py"),
        *("hash_seed.py", "limits.py", "matching.py", "platform.py", "private_file.py"),
        *("sessions.py", "steps.py", "streams.py", "tasks.py", "timers.py", "tokens.py"),
        *("version.py", "wait_details.py", "wait_options.py", "__init__.py"),
    ),
    "helmr_runtime": (
        *("core", "replay", "session", "ledger", "directory", "rpc", "ports", "service", "http"),
        *("security", "catalog.py", "clock.py", "faults.py", "host_status.py", "__init__.py"),
    ),
}
"""What the kernel is, by package: folders, and modules beside them. Of `helmr` what task code imports, what goes over
the wire, and the client. What a feature has in these stands in the kernel until it has left the folder."""

PARSED_MAX = 5


def parsed(text: str) -> ast.Module:
    """The syntax tree of a module.

    Before 3.11.8 Python keeps one depth for all threads: a tree that is made while another thread makes one may end in
    a SystemError (gh-106905).
    """
    for _ in range(PARSED_MAX):
        with suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


@dataclass(frozen=True)
class Source:
    """A module of ours."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Its path from the checkout."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return parsed(self.text)

    @cached_property
    def line_count(self) -> int:
        """Lines of the file."""
        return self.text.count("\n")

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that its code holds."""
        return frozenset(names(self.tree))

    @property
    def classes(self) -> Iterator[ast.ClassDef]:
        """All classes in it, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))


def sources() -> list[Source]:
    """Every module of the three packages, by path."""
    folders = [ROOT / folder / package for package, folder in PACKAGES.items()]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [Source(path, path.read_text(encoding="utf-8")) for path in paths]


def kinds_of_lines(source: Source) -> Counter[str]:
    """How many lines hold code, signatures, docstrings, imports, comments, and nothing."""
    kinds = ["blank"] * source.line_count
    lines = source.text.splitlines()

    def mark(first: int, last: int | None, kind: str) -> None:
        for number in range(first - 1, last or first):
            kinds[number] = kind

    for number, line in enumerate(lines):
        if line.strip():
            kinds[number] = "comment" if line.lstrip().startswith("#") else "code"
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(source.tree):
        if isinstance(node, functions):
            mark(node.lineno, max(node.lineno, node.body[0].lineno - 1), "signature")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            mark(node.lineno, node.end_lineno, "import")
        elif _is_text(node):
            mark(node.lineno, node.end_lineno, "docstring")
    return Counter(kinds)


def _is_text(node: ast.AST) -> TypeGuard[ast.Expr]:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def kernel(modules: Sequence[Source]) -> list[Source]:
    """The modules of the kernel."""
    houses = {
        package: f"{folder}/{package}/".removeprefix("./") for package, folder in PACKAGES.items()
    }
    places = tuple(
        f"{houses[package]}{part}" + ("" if part.endswith(".py") else "/")
        for package, parts in KERNEL.items()
        for part in parts
    )
    return [one for one in modules if one.name.startswith(places)]


def lines_of(modules: Sequence[Source]) -> dict[str, int]:
    """Lines of these modules, and how many hold what."""
    lines: Counter[str] = sum(map(kinds_of_lines, modules), Counter())
    return {"lines": sum(lines.values())} | dict(lines.most_common())


def constructors(modules: Sequence[Source]) -> dict[str, int]:
    """How many arguments each written `__init__` takes, by class."""
    return {
        f"{node.name} ({module.name})": len(made.args.args) + len(made.args.kwonlyargs) - 1
        for module in modules
        for node in module.classes
        for made in node.body
        if isinstance(made, ast.FunctionDef) and made.name == "__init__"
    }


def shared_names(modules: Sequence[Source]) -> dict[str, list[str]]:
    """The class names that more than one class bears, and where these are."""
    found = defaultdict(list)
    for module in modules:
        for node in module.classes:
            found[node.name].append(module.name)
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


def ancestors(modules: Sequence[Source]) -> dict[str, int]:
    """How many classes of ours stand above each class; by their names. The root of all errors is not one."""
    bases: dict[str, set[str]] = {}
    for module in modules:
        for node in module.classes:
            bases.setdefault(node.name, set()).update(map(_name_of, node.bases))

    def above(name: str, seen: frozenset[str]) -> frozenset[str]:
        ours = {base for base in bases.get(name, ()) if base in bases} - seen - {ROOT_ERROR}
        return seen.union(ours, *(above(base, seen | ours) for base in ours))

    return {name: len(above(name, frozenset()) - {name}) for name in bases}


def _name_of(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        base = base.value
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def private_names(modules: Sequence[Source]) -> dict[str, set[str]]:
    """Names with a leading underscore that are taken from packages which are not ours, and the modules that take them.

    Imports, attributes of what was imported, `getattr` by a text, and attributes of anything else that no class or
    module of ours defines: Textual's `_message_queue`, say. One that we define too is not seen.
    """
    ours = {name for module in modules for name in _defined(module.tree)}
    found = defaultdict(set)
    for module in modules:
        for name in _taken(module.tree, ours):
            found[name].add(module.name)
    return dict(sorted(found.items()))


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and _name_of(node.value) in ("self", "cls")
        ):
            yield node.attr


def _taken(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package = (node.module or "").split(".")[0]
            if package not in PACKAGES and package != "__future__":
                for part in [*(node.module or "").split("."), *(one.name for one in node.names)]:
                    if _is_private(part):
                        yield f"{node.module}.{part}"
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in ours:
            yield node.attr
        elif isinstance(node, ast.Call) and _name_of(node.func) in (
            "getattr",
            "setattr",
            "attrgetter",
        ):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    for part in argument.value.split("."):
                        if _is_private(part) and part not in ours:
                            yield part


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def table(rows: Mapping[str, object]) -> str:
    """Names and values, a line each."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def report() -> str:
    """What `make gauges` prints of the shape."""
    modules = sources()
    whole, inner = lines_of(modules), lines_of(kernel(modules))
    wide = {name: count for name, count in constructors(modules).items() if count > 7}
    deep = {name: count for name, count in ancestors(modules).items() if count > 2}
    return table(
        {
            "modules": len(modules),
            f"modules under {SMALL_LINES} lines": sum(
                module.line_count < SMALL_LINES for module in modules
            ),
            "lines, and of them the kernel's": f"{whole['lines']:7} {inner['lines']:7}",
            **{
                f"  {kind}": f"{count:7} {inner[kind]:7}"
                for kind, count in whole.items()
                if kind != "lines"
            },
            "constructors over 7 arguments": wide or 0,
            "class names borne twice": list(shared_names(modules)) or 0,
            "classes below more than two of ours": deep or 0,
            "private names of others": {
                name: sorted(places) for name, places in private_names(modules).items()
            },
        }
    )


if __name__ == "__main__":
    sys.stdout.write(f"{report()}\n")
