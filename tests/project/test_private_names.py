"""Private names of other packages: each that is used stands here with its reason, and no other is used.

Found are imports of private modules and names, `getattr` with a private name, and private attributes that nothing of
ours defines. `docs/upstream` says what would make each needless.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.programs.gauges.shape import parsed

PACKAGES = ("helmr", "runtime", "console")
OURS = ("helmr", "helmr_runtime", "helmr_console")
DOCUMENTED = {"_exit", "_getframe", "_current_frames"}
"""Private by their looks: the standard library's pages of `os` and `sys` have them."""

LOOKUPS = {"getattr", "setattr", "hasattr"}

USED = {
    "ray._private.node.Node": "nothing public starts a node on loopback that ends with its parent (docs/upstream)",
    "ray._private.parameter.RayParams": "its parameters",
    "ray._private.services.canonicalize_bootstrap_address": "`ray.init` takes two minutes to say that nothing answers",
    "_register_atexit": "no public hook comes while threads can still be given work (docs/upstream/cpython.md)",
    "_is_protocol": "before Python 3.13 typing has no public name that tells a protocol from another class",
    "_signal": "the module `signal` makes enums first, and Ctrl-C may fall into that",
    "_get_running_loop": "asyncio documents it as the low-level call: the loop of this thread, or none",
    "_message_queue": "Textual does not say whether a widget has handled its messages; no key may overtake them",
    "_callbacks": "Textual does not say whether a screen has calls to make when it is idle",
    "_close_messages_no_wait": "Textual ends on an error only by printing local values, which hold what sessions say",
    "_styles_cache": "Textual lets a closed widget keep the lines that it has drawn",
    "_agent_instance": "the OpenAI Agents SDK does not say of a tool which agent it is",
    "_agent_ref": "nor of a handoff to which agent it leads",
    "_needs_approval_policy": "nor of an MCP server whether calls of its tools are asked about",
    "_build_resolve_tool_config": "what a run's options become is asked of the agent's own code",
}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _defined(tree: ast.AST) -> Iterator[str]:
    """Private names that a module of ours gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).rpartition(".")[2]


def _foreign(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """Private names of other packages that a module uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            if module.split(".")[0] not in OURS:
                for one in node.names:
                    path = f"{module}.{one.name}"
                    if module != "__future__" and any(map(_is_private, path.split("."))):
                        yield path
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if any(map(_is_private, a.name.split("."))))
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in ours:
            yield node.attr
        elif isinstance(node, ast.Call):
            yield from (name for name in _looked_up(node) if name not in ours)


def _looked_up(call: ast.Call) -> Iterator[str]:
    """The private name that a `getattr` and its like is given."""
    is_lookup = isinstance(call.func, ast.Name) and call.func.id in LOOKUPS and len(call.args) > 1
    if (
        is_lookup
        and isinstance(name := call.args[1], ast.Constant)
        and _is_private(str(name.value))
    ):
        yield str(name.value)


def test_each_private_name_of_another_package_is_listed(project_root: Path) -> None:
    files = [path for one in PACKAGES for path in sorted((project_root / one).rglob("*.py"))]
    trees = {path: parsed(path.read_text(encoding="utf-8")) for path in files}
    ours = {name for tree in trees.values() for name in _defined(tree) if _is_private(name)}
    found = {
        name: str(path.relative_to(project_root))
        for path, tree in trees.items()
        for name in _foreign(tree, ours)
        if name not in DOCUMENTED
    }
    more = {name: path for name, path in found.items() if name not in USED}
    assert more == {}, "list it with its reason, or use a public name"
    assert "_register_atexit" in found
