"""Tab completes commands, and what the runtime has; where there is no runtime, nothing is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
