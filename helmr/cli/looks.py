"""How help looks: whole sentences, arguments as they are typed, examples as they are, and a first screen."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

HELP_NAMES = ["-h", "--help"]

FIRST_SCREEN = """\
Durable sessions of agent tasks that stop for people.

Start here:
  helmr demo          See a session wait for a person, lose its runtime, and go on.
  helmr dev tasks.py  Write tasks: a runtime that starts again when they change.
  helmr up tasks.py   Run a runtime with your tasks.
  helmr console       See what waits for people, and answer it.

`helmr -h` lists all commands; -h behind a command says what it takes."""


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, whole: cut, it would say nothing."""
    paragraph = inspect.cleandoc(text or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


class Command(TyperCommand):
    """A command whose help ends with its examples, line by line."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The line in the list of commands."""
        return first_sentence(self.help)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind `Usage:`; required arguments without braces."""
        return [
            piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)
        ]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, which wrapping would break."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))


ALIASES = {"ls": "list"}
"""Names that hands know from elsewhere."""


class Group(TyperGroup):
    """A group whose line in the list of commands is whole."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, or by an alias of it that help does not show."""
        found = super().get_command(ctx, cmd_name)
        return found or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def get_short_help_str(self, limit: int = 45) -> str:
        """The line in the list of commands."""
        return first_sentence(self.help)
