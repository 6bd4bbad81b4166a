"""The `helmr …` lines of a page or a file, read by the command line itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from typing import Any
from unittest import mock

import typer

from helmr.cli import up_options
from helmr.cli.main import app
from helmr.wire.old_names import GONE_COMMANDS

BLOCK = re.compile(r"^```(?:sh|console)?\n(.*?)^```$", re.M | re.S)
OF_THE_SHELL = {"|", ">", "<", "&", "&&", ";"}
SIGNED = "session file"
"""What signatures of session files begin with, `helmr session file`, is no command."""

COMMANDS: Any = typer.main.get_command(app)
INLINE = re.compile(r"`(helmr [a-z][^`]*)`")


def lines_of(page: str) -> Iterator[list[str]]:
    """The words of each command line in the blocks of a page."""
    for block in BLOCK.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            if (typed := line.removeprefix("$ ")).startswith("helmr "):
                words = shlex.split(typed, comments=True)
                yield [*takewhile(lambda word: word not in OF_THE_SHELL, words)]


def mentions_of(page: str) -> Iterator[list[str]]:
    """The words of each command that a sentence names, as far as it does."""
    for line in INLINE.findall(page):
        if line != f"helmr {SIGNED}":
            yield shlex.split(line)


def read(words: list[str]) -> None:
    """Return if the command line takes these words: a command, its options, its arguments.

    Raises:
        click.UsageError: It does not; says why.
        LookupError: There is no such command.
    """
    command, rest = found(words)
    with mock.patch.object(
        up_options, "options_of_file", return_value={}
    ):  # of the machine that a unit is for
        command.make_context(shlex.join(words), rest)


def read_mention(words: list[str]) -> None:
    """Return if there is that command with these options, or that group of commands; arguments may be left out.

    Raises:
        LookupError: There is not.
    """
    if words[1:2] and words[1] in GONE_COMMANDS:
        return  # an upgrade note speaks of it
    command, rest = found(words, may_be_group=True)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    unknown = {word for word in rest if word.startswith("-")} - known
    if unknown:
        raise LookupError(f"{shlex.join(words)}: there is no {min(unknown)}")


def found(words: list[str], *, may_be_group: bool = False) -> tuple[Any, list[str]]:
    """The command that words name, and the words behind its name.

    Raises:
        LookupError: There is none.
    """
    command, rest = COMMANDS, words[1:]
    while rest and (sub := getattr(command, "commands", {}).get(rest[0])) is not None:
        command, rest = sub, rest[1:]
    if getattr(command, "commands", None) and (rest or not may_be_group):
        raise LookupError(f"{shlex.join(words)}: no such command")
    return command, rest
