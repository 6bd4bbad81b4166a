"""A newcomer's first minute: the page's commands, typed into terminals, until a prompt of the client is answered."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.default_port import up_arguments
from tests.programs.gate import npm
from tests.programs.gate.claude_code import PROGRAM, ClaudeHome, bash
from tests.programs.gate.model_api import model_api
from tests.programs.gate.runtime import forget_keys
from tests.programs.gate.tmux import TmuxTerminal
from tests.stack.live import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(900),
    npm.needs("claude"),
]

PAGE = Path(__file__).parents[2] / "docs" / "gate-claude-code.md"
COMMANDS_MAX = 6
PROMPT = "bash-"
WITHIN_S = 240.0
"""A bound for what hangs; the figure of a quiet machine is in docs/gate-claude-code.md."""


def commands() -> list[str]:
    """What the page has a newcomer type."""
    found = re.search(r"^## Five commands\n.*?^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found is not None
    return found[1].splitlines()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[TmuxTerminal]]:
    found = [TmuxTerminal(tmp_path / f"tmux-{number}") for number in range(3)]
    try:
        yield found
    finally:
        found[2].end()
        found[1].end()
        first = found[0]
        first.types("C-c")  # `helmr up` ends what it has started
        until(lambda: first.screen().rstrip()[-1:] in ("$", "#", ""), within_s=60, what="its end")
        first.end()
        forget_keys(tmp_path)


def test_the_first_prompt_is_answered_after_five_commands(
    tmp_path: Path,
    terminals: list[TmuxTerminal],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    first, second, third = terminals
    init, up, install, claude, console = typed = commands()
    assert len(typed) <= COMMANDS_MAX
    with model_api([bash("toolu_1", "rm -rf build")]) as api, up_arguments() as arguments:
        client = ClaudeHome(tmp_path / "home", api)
        client.prepare()
        (client.project / "build").mkdir()
        programs = [str(Path(sys.executable).parent), str(PROGRAM.parent), os.environ["PATH"]]
        shell = f"env PATH={os.pathsep.join(programs)} bash --norc"  # tmux gives it another
        for terminal in terminals:
            own = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CONFIG", "STATE")}
            terminal.start(shell, {**client.environ, **own}, client.project)
            terminal.shows(PROMPT)
        began_at = time.monotonic()
        first.enters(init)
        first.shows("Write this?")
        first.enters("y")
        first.shows("is written")
        first.enters(up + arguments)
        until(
            lambda: (client.project / ".helmr" / "credentials.json").exists(),
            within_s=WITHIN_S,
            what="a runtime",
            seen=first.screen,
        )
        first.shows("Ctrl-C", within_s=WITHIN_S)
        second.enters(install)
        second.shows("Write this?")
        second.enters("y")
        second.shows("from its next start")
        second.enters(claude)
        second.shows("auto mode on", within_s=WITHIN_S)
        second.enters("go")
        third.enters(console)
        third.shows("live", "Run rm -rf build", within_s=WITHIN_S)
        third.types("a")
        third.shows("( ) approve")
        third.types("1", "C-s")
        third.shows("^s sends it.")
        third.types("C-s")
        until(lambda: not (client.project / "build").exists(), within_s=60, what="the call")
        took_s = round(time.monotonic() - began_at, 1)
        record_testsuite_property("seconds of a newcomer's first minute", took_s)
