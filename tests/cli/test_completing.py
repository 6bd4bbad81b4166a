"""Tab completes commands, and what the runtime has; where there is no runtime, nothing is said."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helmr.cli import arguments
from tests.cli.conftest import Said, process
from tests.client.gateway import Gateway


def offered(line: str) -> Said:
    """What bash is told when Tab is pressed behind this line."""
    words = line.split(" ")
    environment = {
        "_HELMR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return process(env=environment)


def test_commands_are_completed_without_a_runtime(nowhere: Path) -> None:
    said = offered("helmr wait an")
    assert (said.code, said.out.split(), said.err) == (0, ["answer"], "")


@pytest.mark.parametrize(
    "command", ["wait get", pytest.param("wait answer", marks=pytest.mark.long)]
)
def test_ids_are_what_the_runtime_has(here: Gateway, command: str) -> None:
    first, second = (here.wait(here.session(), subject="Mine?")["id"] for _ in range(2))
    assert offered(f"helmr {command} wait_").out.split() == [first, second]
    assert offered(f"helmr {command} {second[:-1]}").out.split() == [second]
    assert offered(f"helmr {command} nothing").out.split() == []


def test_the_runtime_that_was_named_is_asked(gateway: Gateway, nowhere: Path) -> None:
    (nowhere / "key").write_text("test-key\n")
    session_id = gateway.session()
    line = f"helmr --url {gateway.url} --key-file key session get ses_"
    assert offered(line).out.split() == [session_id]


@pytest.mark.parametrize(
    "line", ["helmr wait get ", "helmr session start ", "helmr output read x "]
)
def test_without_a_runtime_nothing_is_offered_and_nothing_said(nowhere: Path, line: str) -> None:
    said = offered(line)
    assert (said.code, said.out.strip(), said.err) == (0, "", "")


def test_bash_completes_with_the_script_that_is_shown(nowhere: Path) -> None:
    command = nowhere / "helmr"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m helmr.cli "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(./helmr --show-completion)"
        COMP_WORDS=(helmr session fol) COMP_CWORD=2
        _helmr_completion ./helmr
        echo "${COMPREPLY[@]}"
        complete -p helmr
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=nowhere, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [
        "follow",
        "complete -o default -F _helmr_completion helmr",
    ]


# --- values of options, and other shells

HOSTILE = "\\$(touch evil) `touch evil` $(touch evil) \"; touch evil; ' [/b] [red]"
"""A wait's subject may be anyone's text, and zsh evaluates what it is offered."""


def test_what_a_shell_shows_beside_an_id_is_only_text() -> None:
    shown = HOSTILE.translate(arguments.AS_TEXT)
    assert not {*shown} & {*"\\$`'\"[]"}
    assert arguments.OFFERED.fullmatch("wait_01:a.b/c@d+e-f")
    for name in ("$(touch evil)", "a b", "a'b", "a\\b", "`a`", ""):
        assert arguments.OFFERED.fullmatch(name) is None


def test_values_of_options_are_completed(nowhere: Path) -> None:
    assert offered("helmr wait list --status c").out.split() == ["cancelled"]


@pytest.mark.parametrize(
    ("shell", "begins"), [("zsh", "_arguments '*: :((\"wait_"), ("fish", "wait_")]
)
def test_zsh_and_fish_show_what_each_id_is(here: Gateway, shell: str, begins: str) -> None:
    here.wait(here.session(), subject=HOSTILE)
    environment = {
        "_HELMR_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "helmr wait get ",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    said = process(env=environment)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(begins)
    assert "touch evil" in said.out


@pytest.fixture
def bin_(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the command `helmr`, and an empty home."""
    command = nowhere / "bin" / "helmr"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m helmr.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(nowhere))
    return command.parent


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.long
def test_fish_completes_with_the_script_that_is_shown(here: Gateway, bin_: Path) -> None:
    wait_id = here.wait(here.session(), subject=HOSTILE)["id"]
    script = 'helmr --show-completion | source; complete -C "helmr wait get wait_"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"{wait_id}\t")
    assert list(Path.cwd().glob("evil")) == []


@pytest.mark.long  # test_zsh_and_fish_show_what_each_id_is
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.pty
def test_zsh_completes_with_the_script_that_is_shown(here: Gateway, bin_: Path) -> None:
    """It evaluates what it is offered, so that hostile texts are tried on it itself."""
    for _ in range(2):
        here.wait(here.session(), subject=HOSTILE)
    first, second = here.waits
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        _type(terminal, 'PS1="ready> "; autoload -U compinit; compinit -u -D\r')
        _type(terminal, 'eval "$(helmr --show-completion)"; echo is-"set"\r')
        _read_until(terminal, "is-set")
        _type(terminal, "helmr wait get wait_\t\t")
        shown = _read_until(terminal, "touch evil", second[-4:])
        assert first[-4:] in shown
        _type(terminal, "\x15exit\r")
        _read_until(terminal)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert list(Path.cwd().glob("evil")) == []


def _type(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def _read_until(terminal: int, *texts: str) -> str:
    """What the terminal shows until it has shown all of these; without any, until its program ends."""
    read, ends_at_s = "", time.monotonic() + 60
    while not texts or not all(one in read for one in texts):
        assert time.monotonic() < ends_at_s, read
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            found = os.read(terminal, 65_536)
        except OSError:  # Linux says so when the program has ended
            break
        if not found:
            break
        read += found.decode(errors="replace")
    return read
