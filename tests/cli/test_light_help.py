"""`--help` loads nothing heavy, and every command has its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from helmr.cli import main
from helmr.cli.main import app, invoke
from helmr.cli.start import data_dir_of
from helmr.features import FEATURES
from tests.longer import long_but

HEAVY = (
    "ray",
    "duckdb",
    "textual",
    "httpx",
    "fastapi",
    "uvicorn",
    "cryptography",
    "rich",
    "runtime",
    "console",
)
SCRIPT = """
import sys
from helmr.cli.main import invoke
codes = {invoke([*words.split(), "--help"]) for words in sys.argv[2:]}
assert codes == {0}, codes
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & set(sys.argv[1].split())), file=sys.stderr)
"""

COMMANDS = {
    "": "init doctor upgrade-check up check experiment dev down takeover status logs demo config console inbox-link "
    "next listen waiting query "
    "export backup "
    "restore verify repair prune log login logout whoami "
    "session run wait input output token public-token key person rule limit notices context",
    "session": "start list get tree transcript follow close cancel note fork export verify replay what-if",
    "run": "list get retry cancel rewind",
    "wait": "list get answer claim release assign link links unlink dry-run amend withdraw files",
    "input": "send",
    "output": "read follow",
    "token": "create list get complete cancel",
    "public-token": "create list revoke",
    "key": "create list revoke rotate-master public",
    "person": "list show disable add-key revoke-key signers delegate delegations undelegate enable unbind",
    "limit": "list",
    "notices": "list test retry",
    "rule": "test",
    "context": "list add remove",
    "log": "move",
}
"""Of the kernel, by group."""

OF_FEATURES = {name for one in FEATURES for name in one.commands}


def groups() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each group of commands by its words, and what it has."""
    found: list[tuple[str, Any]] = [("", typer.main.get_command(app))]
    for above, group in found:
        yield above, dict(group.commands)
        below = ((name, one) for name, one in group.commands.items() if hasattr(one, "commands"))
        found += [(f"{above} {name}".strip(), one) for name, one in below]


ALL = [f"{above} {name}".strip() for above, commands in groups() for name in commands]


def test_help_of_every_command_is_light(nowhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, " ".join(HEAVY), "", *ALL],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_no_help_has_signs_that_are_meant_for_python(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line's end written out as backslash and n, two backticks, a reference of a docstring."""
    odd = {}
    for words in ("", *ALL):
        assert invoke([*words.split(), "--help"]) == 0
        if found := re.findall(r"\\[nt]|``|:\w+:`", capsys.readouterr().out):
            odd[words] = found
    assert odd == {}


INTERRUPT = """
import os, signal, sys
wanted = sys.argv[1]

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from helmr.cli.start import main
sys.argv = ["helmr", "status", "--url", "http://127.0.0.1:9"]
main()
"""


@long_but(
    2,
    "module",
    ["helmr.cli.main", "typer", "helmr.errors", "helmr.cli.status", "helmr.models", "httpx"],
)
def test_ctrl_c_while_the_command_line_is_being_imported_is_quiet(
    nowhere: Path, module: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT, module], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_ctrl_c_is_heeded_before_anything_that_takes_time(nowhere: Path) -> None:
    script = "import os, sys; before = set(sys.modules); import helmr.cli.start; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    ours = {"helmr", "helmr.cli", "helmr.cli.start", "__future__", "_signal"}
    assert set(done.stdout.split()) <= ours


@pytest.mark.parametrize(
    ("options", "data_dir"),
    [
        ("", ".helmr"),
        ("--in-process tasks.py", ".helmr"),
        ("--data-dir d --port 0", "d"),
        ("tasks.py --data-dir=a=b", "a=b"),
        ("--data-dir", None),
        ("--data-dir=", None),
        ("--data-dirs d", None),
        ("--data-dir a --data-dir b", None),
        ("--data-dir a -- tasks.py", None),
    ],
)
def test_the_data_directory_is_told_where_it_takes_no_parser(
    options: str, data_dir: str | None
) -> None:
    assert data_dir_of(options.split()) == data_dir


STARTS = """
import os, sys

class Tells:
    def find_spec(self, name, path=None, target=None):
        if name == "helmr.cli.main":
            print("imports it with", os.environ.get("PYTHONHASHSEED"), flush=True)

sys.meta_path.insert(0, Tells())
from helmr.cli.start import main
sys.argv = ["helmr", *sys.argv[1:]]
main()
"""


@long_but(
    1,
    ("command", "seeds"),
    [
        ("up --in-process --data-dir d", ["7"]),
        ("dev --data-dir=d", ["7"]),
        ("up", ["None"]),  # over Ray the processes that it starts have the seed
        ("--data-dir d dev", ["None", "7"]),
    ],
)
def test_a_runtime_in_one_process_imports_the_command_line_once(
    nowhere: Path, command: str, seeds: list[str]
) -> None:
    """Python takes a hash seed at its start only, so the program starts again with it."""
    (nowhere / "d").mkdir(mode=0o700)
    (nowhere / "d" / "hash-seed").write_text("7")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, "-c", STARTS, *command.split(), "tasks.py", "--host", "203.0.113.1"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    told = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("imports")]
    assert (told, done.returncode) == (seeds, 2)
    assert "'203.0.113.1' is not an address of this machine" in done.stderr


def test_the_commands_are_these() -> None:
    seen = {}
    for above, found in groups():
        assert {one.name for one in found.values()} == {*found}
        if above.partition(" ")[0] in OF_FEATURES:
            continue
        below = {name for name, one in found.items() if hasattr(one, "commands")}
        seen[above] = sorted(found.keys() - (below if above else OF_FEATURES))
    assert seen == {above: sorted(names.split()) for above, names in COMMANDS.items()}


def test_a_command_imports_no_other(nowhere: Path) -> None:
    code = (
        "import sys; from helmr.cli.main import invoke; invoke(sys.argv[1:]); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "wait", "list", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = {*done.stdout.splitlines()[-1].split()}
    assert "helmr.cli.wait" in loaded
    places = {place.partition(":")[0] for place in main.COMMANDS.values()}
    used = {"helmr.cli.wait", "helmr.cli.next"}  # the walk through several waits
    assert loaded & places <= used


def test_alone_it_says_where_to_start(helmr) -> None:
    said = helmr()
    assert said.code == 2
    starts = [line.split()[:2] for line in said.out.splitlines() if line.startswith("  helmr ")]
    assert [word for _, word in starts] == ["demo", "init", "dev", "up", "console"]


@long_but(12, "words", ["", *ALL])
def test_help_is_whole_and_short_for_h(helmr, words: str) -> None:
    said = helmr(*words.split(), "-h")
    assert said == helmr(*words.split(), "--help")
    assert said.code == 0
    usage, *rest = said.out.split("\n\n")
    for several in ("[ARGS]...", "[KEY=VALUE]...", "[TASKS…]...", " FILE...", " TASKS..."):
        usage = usage.replace(several, "")
    assert "..." not in "\n".join([usage, *rest]).replace("[ARGS]...", "")
    assert "{" not in said.out.splitlines()[0]


MAIN = ["up", "session start", "wait list", "wait answer", "input send", "token create", "query"]


@pytest.mark.parametrize("words", MAIN)
def test_main_commands_show_examples_on_lines_of_their_own(helmr, words: str) -> None:
    _, _, examples = helmr(*words.split(), "--help").out.partition("Examples:\n")
    assert examples
    assert all(line.startswith(f"  helmr {words} ") for line in examples.splitlines())


@pytest.mark.parametrize("words", ["session", "run", "wait", "input", "output"])
def test_without_a_command_the_help_is_shown_and_the_call_was_wrong(helmr, words: str) -> None:
    said = helmr(*words.split())
    assert said.code == 2
    assert "Commands:" in said.out
    assert helmr(*words.split(), "--help").out == said.out


READS = [
    "status", "session list", "session get", "session transcript", "session follow", "run list",
    "run get", "wait list", "wait get", "output read", "output follow",
]  # fmt: skip


@pytest.mark.parametrize("words", READS)
@pytest.mark.parametrize("option", ["--json", "--url", "--data-dir"])
def test_every_read_takes_the_common_options(helmr, words: str, option: str) -> None:
    assert option in helmr(*words.split(), "--help").out


def test_the_version_is_said_without_the_command_line(nowhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "helmr.cli", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("helmr ")
    assert "helmr.version" in done.stderr
    assert "typer" not in done.stderr
    assert "pydantic" not in done.stderr
    assert done.stderr.count("import time:") <= 180  # the interpreter's own are 26


def test_the_version(helmr) -> None:
    said = helmr("--version")
    assert said.code == 0
    assert said.out.startswith("helmr ")
