"""Sections of pages about features: their routes, commands, methods of clients, words. `make tables` writes them.

Each follows from the feature's value in `helmr.features` and from texts of its code: summaries of operations, help of
commands, docstrings of methods. So a new feature needs no line on these pages.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import util
from pkgutil import resolve_name
from typing import Any

import typer.main

from helmr.cli.main import app
from helmr.client.calls import UNSET
from helmr.feature import Feature
from helmr.features import FEATURES
from tests.docs.test_cli_page import HELP, SHARED

OF_LISTS = ("--limit", "--cursor", "--all", "--output", "--json")
"""Options that the top of the page of commands explains."""


def named(one: Feature) -> str:
    """The feature's heading inside of a sentence: `the gate`, but `MCP`."""
    return _lower(one.heading)


def more_on(one: Feature) -> str:
    """A sentence that leads to its page."""
    return f"More on [{named(one)}]({one.page})."


# --- commands ---------------------------------------------------------------------------------------


def command_sections() -> str:
    """The commands of each feature, as the page of the command line has them."""
    tree: Any = typer.main.get_command(app)
    parts: list[str] = []
    for one in FEATURES:
        if one.commands:
            parts += [f"## {one.heading}", f"{one.about} {more_on(one)}"]
        for name in one.commands:
            for path, command in _leaves(tree.commands[name], f"helmr {name}"):
                parts += [f"### {path}", *_command(path, command)]
    return "\n\n".join(parts) + "\n"


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from _leaves(one, f"{path} {name}")


def _command(path: str, command: Any) -> Iterator[str]:
    """Its paragraphs, its examples and a table of what it takes."""
    params = [one for one in command.params if not one.hidden and not {*one.opts} & (SHARED | HELP)]
    options = [one for one in params if one.opts[0].startswith("-")]
    arguments = [one for one in params if one not in options]
    common = [one for one in options if {*one.opts} & {*OF_LISTS}]
    text, *more = (" ".join(one.split()) for one in inspect.cleandoc(command.help).split("\n\n"))
    needed = [f"{_flags(one)[0]} {one.metavar}" for one in options if one.required]
    if arguments or needed:
        text = f"`{' '.join([path, *map(_argument, arguments), *needed])}`. {text}"
    if common:
        text += f" {', '.join(f'`{_flags(one)[0]}`' for one in common)}."
    yield text
    yield from map(_marked, more)
    if command.epilog and command.epilog != path:
        yield f"```\n{command.epilog}\n```"
    shown = [one for one in options if one not in common]
    if shown or len(arguments) > 1:
        cells = [*((f"`{_escaped(_argument(one))}`", one.help) for one in arguments)]
        cells += [(_option(one), _option_help(one)) for one in shown]
        rows = "\n".join(f"| {left} | {_sentence(right)} |" for left, right in cells)
        yield f"| | |\n|---|---|\n{rows}"


def _argument(one: Any) -> str:
    name = str(one.metavar or one.name.upper())
    return name if one.required else f"[{name}]"


def _flags(one: Any) -> list[str]:
    return [name for name in (*one.opts, *one.secondary_opts) if name.startswith("--")]


def _option(one: Any) -> str:
    names = _flags(one)
    if isinstance(one.default, Enum):
        return ", ".join(f"`{names[0]} {value.value}`" for value in type(one.default))
    taken = "" if one.is_flag else f" {one.metavar or one.name.upper()}"
    return ", ".join(f"`{name}{_escaped(taken)}`" for name in names)


def _option_help(one: Any) -> str:
    default = one.default.value if isinstance(one.default, Enum) else one.default
    if default in (None, False, True, ()) or "if not given" in one.help:
        return str(one.help)
    return f"{_sentence(one.help)} `{default}` if not given."


def _marked(text: str) -> str:
    """With options as code."""
    return re.sub(r"(?<![`\w-])--[a-z][a-z-]*", r"`\g<0>`", text)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    text = _escaped(_marked(text[:1].upper() + text[1:]))
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


# --- the clients ------------------------------------------------------------------------------------


def method_sections() -> str:
    """The methods of each part of the client that a feature adds, as the page of the SDK has them."""
    parts: list[str] = []
    for one in FEATURES:
        for noun, (awaited, blocking) in one.client.items():
            rows = "\n".join(_methods(resolve_name(awaited), resolve_name(blocking)))
            about = f"{_about(resolve_name(blocking))} {more_on(one)}"
            parts += [f"### client.{noun}", about, f"| call | |\n|---|---|\n{rows}"]
    return "\n\n".join(parts) + "\n"


def _methods(awaited: type, blocking: type) -> Iterator[str]:
    for name, method in vars(blocking).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            said = _first_paragraph(getattr(awaited, name)).removesuffix(".")
            yield f"| `{rendered(method)}` | {_escaped(_lower(said))} |"


def client_table() -> str:
    """The parts of a client that features add, as the reference of the API has them."""
    lines = ["| on a client | does |", "|---|---|"]
    for one in FEATURES:
        for noun, (_, blocking) in one.client.items():
            part = resolve_name(blocking)
            place = f"[`{part.__name__}`][{part.__module__}.{part.__name__}]"
            lines.append(f"| `client.{noun}` | {place}: {_lower(_about(part)).removesuffix('.')} |")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Modules of features that the reference of the API shows: their parts of the client, and models of their own."""
    modules = {
        module
        for one in FEATURES
        for module in (
            *(blocking.partition(":")[0] for _, blocking in one.client.values()),
            f"helmr.features.{one.name}.models",
        )
    }
    found = sorted(one for one in modules if util.find_spec(one) is not None)
    return "".join(f"::: {module}\n" for module in found)


def _about(part: type) -> str:
    return re.sub(r" \(S-\d+\)", "", _first_paragraph(part))


def _first_paragraph(thing: Any) -> str:
    return " ".join(inspect.cleandoc(thing.__doc__).partition("\n\n")[0].split())


def rendered(function: Callable[..., Any], name: str | None = None) -> str:
    """A signature as the page writes it: names and defaults, no types, no self."""
    parts: list[str] = []
    keyword_only = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}")
            keyword_only = True
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        parts.append(parameter.name + _default(parameter.default))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parts.append("/")
    return f"{name or function.__name__}({', '.join(parts)})"


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    if value is UNSET:
        return "=UNSET"
    return f"={getattr(value, '__name__', None) or repr(value)}".replace("typing.", "")


# --- words ------------------------------------------------------------------------------------------


def glossary(table: str) -> str:
    """The glossary with the words of features at their places: a row that leads to a page is a feature's."""
    found = re.findall(r"^\| (.+?) \| (.+) \|$", table, flags=re.M)
    rows = [(word, sense) for word, sense in found if not sense.endswith(".md))")]
    for one in FEATURES:
        for word, sense in one.words.items():
            later = (at for at, (other, _) in enumerate(rows) if at and other > word)
            row = (word, f"{sense} ([{named(one)}](docs/{one.page}))")
            rows.insert(next(later, len(rows)), row)
    head, *lines = (f"| {word} | {sense} |" for word, sense in rows)
    return "\n".join([head, "|---|---|", *lines]) + "\n"


def _lower(text: str) -> str:
    """With a small first letter, unless the first word is all capitals."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
