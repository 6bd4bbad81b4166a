"""Variables that begin with `HELMR_`: each that code reads is known, others are named where a runtime begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helmr.cli.environment import KNOWN, OF_THE_IMAGE, strange_variables
from helmr.cli.start import data_dir_of
from helmr.client.discovery import find_runtime, nearest_data_dir
from helmr.errors import RuntimeNotFound

NAME = re.compile(r'"(HELMR_[A-Z_]+)"')


def test_every_variable_that_code_reads_is_known(project_root: Path) -> None:
    files = [
        path
        for folder in ("helmr", "runtime", "console")
        for path in (project_root / folder).rglob("*.py")
        if path.name != "environment.py"
    ]
    assert len(files) > 300
    found = {name for path in files for name in NAME.findall(path.read_text(encoding="utf-8"))}
    assert found == KNOWN


def test_every_variable_of_the_compose_files_is_known(project_root: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in project_root.glob("compose*.yaml")]
    assert {name for text in texts for name in re.findall(r"\$\{(HELMR_\w+)", text)} == OF_THE_IMAGE


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        ([*KNOWN, *OF_THE_IMAGE, "PATH"], ""),
        (["HELMR_DATADIR"], "HELMR_DATADIR means nothing to Helmr; HELMR_DATA_DIR would"),
        (["HELMR_QQ", "HELMR_1"], "HELMR_1, HELMR_QQ mean nothing to Helmr"),
        (["HELMR_SMTP_PASSWORD"], ""),
    ],
)
def test_what_means_nothing_is_named(names: list[str], said: str, tmp_path: Path) -> None:
    config = tmp_path / "helmr.toml"
    config.write_text('[notices.mail]\npassword = "env:HELMR_SMTP_PASSWORD"\n')
    assert strange_variables(dict.fromkeys(names, "x"), config) == said
    assert bool(strange_variables({"HELMR_SMTP_PASSWORD": "x"}, tmp_path / "none"))


@pytest.mark.parametrize("command", ["up", "dev"])
def test_a_start_names_them_on_stderr(
    helmr: Callable[..., Any], nowhere: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HELMR_DATADIR", "elsewhere")
    said = helmr(command)
    assert said.code == 2  # no tasks are named
    assert said.err.splitlines()[0] == (
        "helmr: HELMR_DATADIR means nothing to Helmr; HELMR_DATA_DIR would"
    )


def test_doctor_warns_of_them(
    helmr: Callable[..., Any], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELMR_DATA_DIR", str(nowhere / "here"))
    assert re.search(r"environment +.*HELMR_DATA_DIR is set", helmr("doctor").out)
    monkeypatch.setenv("HELMR_APIKEY", "secret")
    out = helmr("doctor").out
    assert "HELMR_APIKEY means nothing to Helmr; HELMR_API_KEY would" in out
    assert "secret" not in out


def test_the_data_directory_may_be_named_by_the_environment(tmp_path: Path) -> None:
    named, near = tmp_path / "named", tmp_path / "work" / ".helmr"
    for folder in (named, near):
        folder.mkdir(parents=True)
    environ = {"HELMR_DATA_DIR": str(named), "HOME": str(tmp_path)}
    assert nearest_data_dir(near.parent, environ) == named
    assert nearest_data_dir(near.parent, {}) == near
    with pytest.raises(RuntimeNotFound, match=f"no runtime is running on {named}"):
        find_runtime(environ=environ, cwd=near.parent)
    with pytest.raises(RuntimeNotFound, match=f"no runtime is running on {near}"):
        find_runtime(environ=environ, cwd=near.parent, data_dir=near)
    found = find_runtime(environ={**environ, "HELMR_URL": "http://127.0.0.1:1"}, cwd=near.parent)
    assert found.url == "http://127.0.0.1:1"


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("command", ["up", "dev"])
def test_a_directory_on_the_command_line_goes_before_the_environment(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, command: str, is_before: bool
) -> None:
    from helmr.cli import up
    from helmr.cli.main import main

    places: list[Path] = []

    def started(tasks: list[str], data_dir: Path, *_: object, **__: object) -> None:
        places.append(data_dir)

    monkeypatch.setattr(up, "_run", started)
    (nowhere / "tasks.py").write_text("from helmr import task\n@task\nasync def t() -> None: ...\n")
    monkeypatch.setenv("HELMR_DATA_DIR", "by-environment")
    said = ["--data-dir", "said"]
    words = [*said, command] if is_before else [command, *said]
    monkeypatch.setattr("sys.argv", ["helmr", *words, "tasks.py"])
    with pytest.raises(SystemExit):
        main()
    assert places == [Path("said")]
    assert data_dir_of(["tasks.py"]) == "by-environment"
