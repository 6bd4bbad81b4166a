"""The README's tour and the tutorial, word for word: files are written, commands run, outputs compared.

In a page, a `python` block whose first line is `# name.py` is a file; a `sh` block holds commands, one a line; a
`text` block is what the last command prints, where `…` stands for what differs each time. SESSION, RUN, WAIT and so on
in a command are the ids that were printed last, SECRET the key or public token. `# exit code N` behind a command says
how it ends; `helmr up` runs on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr.cli.up_options import PORT
from helmr.hash_seed import KEEP_VARIABLE
from tests import reaper
from tests.default_port import up_arguments

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", flags=re.M | re.S)
EXIT_CODE = re.compile(r"\s+# exit code (\d+)$")
PREFIXES = {
    "SESSION": r"ses_[0-9a-z]{26}",
    "RUN": r"run_[0-9a-z]{26}",
    "WAIT": r"wait_[0-9a-z]{26}",
    "KEY": r"key_[0-9a-z]{26}",
    "TOKEN": r"tok_[0-9a-z]{26}",
    "PUBLIC_TOKEN": r"pat_[0-9a-z]{26}",
    "SECRET": r"hlmr_(?:key|pat)_[0-9A-Za-z]{49}",
}
READY_S = 120
COMMAND_S = 60
TOURS = {
    "README": ("README.md", "## Ten minutes"),
    "tutorial": ("docs/tutorial.md", "# Tutorial"),
}


def blocks(path: str, heading: str) -> list[tuple[str, str]]:
    text = (ROOT / path).read_text(encoding="utf-8")
    begin = text.index(heading) + len(heading)
    end = text.find("\n## ", begin) if heading.startswith("## ") else len(text)
    return [(match[1], match[2]) for match in BLOCK.finditer(text[begin:end])]


class Reader:
    """Somebody who follows a page in an empty folder."""

    def __init__(self, folder: Path, up_arguments: str) -> None:
        self.folder = folder
        self._up = up_arguments
        self.work = folder / "tour"
        self.work.mkdir()
        # `helmr` and `python` are those of this environment, as after `source .venv/bin/activate`.
        tools = folder / "bin"
        tools.mkdir()
        for name, arguments in (("helmr", "-m helmr.cli"), ("python", "")):
            (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (tools / name).chmod(0o755)
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("HELMR_")} | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "XDG_STATE_HOME": str(folder / "state"),
            KEEP_VARIABLE: os.environ[
                KEEP_VARIABLE
            ],  # what a runtime removes is searched for secrets
        }
        self.ids: dict[str, str] = {}
        self.printed = ""
        self.runtime: subprocess.Popen[bytes] | None = None
        self.port = str(PORT)

    def follow(self, kind: str, text: str) -> None:
        if kind == "text":
            self.compare(text)
        elif kind == "sh":
            for line in text.splitlines():
                self.type(line)
        elif name := re.match(r"# (\w+\.py)\n", text):
            (self.work / name[1]).write_text(text, encoding="utf-8")

    def type(self, line: str) -> None:
        code = EXIT_CODE.search(line)
        command = EXIT_CODE.sub("", line)
        for word in PREFIXES:
            command = re.sub(rf"\b{word}\b", lambda m: self.ids[m[0]], command)
        command = command.replace(f":{PORT}", f":{self.port}")
        if command.startswith("helmr up"):
            self.up(command)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.work,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        self.printed = done.stdout
        assert done.returncode == int(code[1] if code else 0), f"$ {command}\n{done.stdout}"
        for word, pattern in PREFIXES.items():
            if found := re.search(rf"\b{pattern}\b", done.stdout):
                self.ids[word] = found[0]
        if command.startswith(("kill ", "helmr down")):
            self.ended()

    def up(self, command: str) -> None:
        command += self._up
        log = self.folder / "up.log"
        with log.open("wb") as out:
            self.runtime = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.work,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        ends_at_s = time.monotonic() + READY_S
        while "ready on" not in (said := log.read_text(errors="replace")):
            assert self.runtime.poll() is None, said
            assert time.monotonic() < ends_at_s, said
            time.sleep(0.1)
        self.printed = said
        if ready := re.search(r"ready on http://[\d.]+:(\d+)", said):
            self.port = ready[1]

    def ended(self) -> None:
        assert self.runtime is not None
        self.runtime.wait(COMMAND_S)
        self.runtime = None

    def compare(self, wanted: str) -> None:
        """Each line is there, in order; spaces are spaces, `…` is anything."""
        at = 0
        printed = " ".join(self.printed.split())
        for line in wanted.splitlines():
            pieces = [re.escape(" ".join(piece.split())) for piece in line.split("…")]
            found = re.compile(r".*?".join(pieces)).search(printed, at)
            assert found, f"not printed: {line!r}\n{self.printed}"
            at = found.end()

    def leave(self) -> None:
        if self.runtime is not None and self.runtime.poll() is None:
            self.runtime.terminate()
            self.runtime.wait(COMMAND_S)


IN_PROCESS = pytest.param("README", True, id="README-in_process")
"""What it says is the same with Ray, whose two starts `helmr demo` has in each run (`tests/demo/test_demo.py`)."""
WITH_RAY = [
    pytest.param(name, False, id=name, marks=[pytest.mark.ray, pytest.mark.long])
    for name in sorted(TOURS)
]


@pytest.fixture
def reader(in_process: bool) -> Iterator[Reader]:
    # Ray's sockets need a short path, which pytest's own folders are not.
    folder = reaper.folder("ht-")
    with up_arguments() as arguments:
        reader = Reader(folder, arguments + (" --in-process" if in_process else ""))
        try:
            yield reader
        finally:
            reader.leave()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("tour", "in_process"), [IN_PROCESS, *WITH_RAY])
def test_the_tour_works_as_written(reader: Reader, tour: str) -> None:
    steps = blocks(*TOURS[tour])
    assert {kind for kind, _ in steps} == {"python", "sh", "text"}
    for kind, text in steps:
        reader.follow(kind, text)
    assert reader.runtime is None, "the tour ends its runtime"
