"""What the gate allows, run by the shells themselves: nothing else runs, and no key is read (S-109).

A shell that is not installed is skipped, with its name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from helmr.gate import GateAction, GatedCall
from helmr.gate.reach import OwnFolder
from helmr.matching import STARTER_RULES, DeclaredRule, DeclaredRules
from tests.gate.shell_corpus import COMMANDS, PLAIN, READERS, READS, RUN, spellings

pytestmark = [pytest.mark.long, pytest.mark.allows_blocking, pytest.mark.timeout(600)]

SHELLS = {
    "bash": ("bash", "-c"),
    "zsh": ("zsh", "-fc"),
    "zsh with extended globs": ("zsh", "-f", "-o", "extendedglob", "-c"),
    "dash": ("dash", "-c"),
    "fish": ("fish", "--no-config", "-c"),
}
SECRET = "hlmr_key_planted"
TIMEOUT_S = 3
"""A command that waits for one that never comes has run what it runs by then."""


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    words = SHELLS[request.param]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    return words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent's folder, with the runtime's own directory in it."""
    place = tmp_path / "shop"
    (place / "src").mkdir(parents=True)
    (place / ".helmr").mkdir()
    (place / ".helmr" / "admin.key").write_text(f"{SECRET}\n")
    (place / "f").write_text("x\n")
    (place / "link").symlink_to(".helmr")
    (place / "src" / "link").symlink_to("../.helmr")
    (place / "key").symlink_to(".helmr/admin.key")
    return place


def run(shell: tuple[str, ...], command: str, folder: Path) -> str:
    """What a command prints in a shell, also of what went wrong."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [*shell, command],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
    return said.decode("utf-8", "replace")


def allowing(*globs: str) -> tuple[DeclaredRule, ...]:
    return (DeclaredRule("any", GateAction.ALLOW, ("Bash",), matches={"command": globs}),)


def is_allowed(rules: tuple[DeclaredRule, ...], command: str, folder: Path) -> bool:
    own = OwnFolder(str(folder / ".helmr"))
    call = GatedCall("claude-code", "s", "Bash", {"command": command}, "t", str(folder))
    found = DeclaredRules(rules, own=own).first(call)
    return found is not None and found.action is GateAction.ALLOW


def test_nothing_but_the_command_runs_of_what_is_allowed(
    shell: tuple[str, ...], folder: Path
) -> None:
    planted, bites, allowed = folder / RUN.split()[1], 0, 0
    rules = (*STARTER_RULES, *allowing(*(f"{one}*" for one in COMMANDS)))
    for command in (*spellings(), *PLAIN):
        if "\0" in command:
            assert not is_allowed(rules, command, folder)
            continue
        run(shell, command, folder)
        has_run = planted.exists()
        planted.unlink(missing_ok=True)
        if is_allowed(rules, command, folder):
            allowed += 1
            assert not has_run, command
        bites += has_run
    assert bites >= 100, "the corpus runs what is planted in every shell, or it shows nothing"
    assert allowed >= len(PLAIN)


def test_no_spelling_that_is_allowed_reads_a_key(shell: tuple[str, ...], folder: Path) -> None:
    reads = [one.replace("{folder}", str(folder)) for one in READS]
    spelt = [f"{reader} {one}" for reader in READERS for one in reads]
    assert len(spelt) > 200
    rules = (*STARTER_RULES, *allowing("*", *(f"{one} *" for one in READERS)))
    bites = 0
    for command in spelt:
        has_read = SECRET in run(shell, command, folder)
        bites += has_read
        assert not (has_read and is_allowed(rules, command, folder)), command
    assert bites >= 50
    assert is_allowed(rules, "cat src/a.py", folder)
    assert is_allowed(rules, "grep -r x src", folder)
