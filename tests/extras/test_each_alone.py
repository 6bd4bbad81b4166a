"""Each extra alone, from the wheel in a fresh environment, does what the documentation says it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.flow.terminal import Terminal
from tests.extras.conftest import Fresh
from tests.stack.live import until

pytestmark = [
    pytest.mark.extras,
    pytest.mark.allows_blocking,
    pytest.mark.slow,
    pytest.mark.timeout(500),
]

EXEC = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"

Make = Callable[[str], Fresh]

LOCAL_BYTES_MAX = 160 * 2**20
"""Installed, without bytecode; docs/install.md says how much it is."""


def test_the_base_has_tasks_tests_clients_and_the_command_line(
    fresh: Make, runtime: tuple[str, str]
) -> None:
    base = fresh("")
    base.does("alone_base.py", *runtime)
    url, key = runtime
    base.environ["HELMR_API_KEY"] = key
    listed = base.run("-m", "helmr.cli", "--url", url, "wait", "list")
    assert listed.returncode == 0, listed.stderr
    assert "the console" in listed.stdout
    for command, extra in ((["up", "x.py"], "local"), (["console"], "console")):
        done = base.run("-m", "helmr.cli", *command)
        assert done.returncode == 2
        assert f"pip install 'helmr[{extra}]'" in done.stderr


def test_the_runtime_runs_sessions(runtime: tuple[str, str]) -> None:
    """What it does is asserted where it runs, in `alone_runtime.py`, before it says where it answers."""
    url, _ = runtime
    assert url.startswith("http://127.0.0.1:")


def test_without_ray_a_runtime_starts_in_one_process_and_says_so(fresh: Make) -> None:
    """The commands of README and of the gate's pages: nothing says which form, and none needs to."""
    local = fresh("local")
    assert local.installed_bytes() <= LOCAL_BYTES_MAX
    for words in (["init"], ["gate", "init", "--yes"]):
        done = local.run("-m", "helmr.cli", *words)
        assert done.returncode == 0, done.stderr
    up = local.begin("-m", "helmr.cli", "up", "tasks.py", "--port", "0", stderr=subprocess.PIPE)
    with up:
        assert up.stderr is not None
        try:
            credentials = local.folder / ".helmr" / "credentials.json"
            until(credentials.exists, within_s=60, what="the runtime is ready")
            asked = local.run(
                "-m", "helmr.cli", "session", "start", "announcement", "--payload", '"otters"'
            )
            assert asked.returncode == 0, asked.stderr
        finally:
            up.terminate()
        assert "Ray is not installed, so this one process runs everything" in up.stderr.read()
        assert up.wait(60) == 0


def test_experiments_give_frames(fresh: Make) -> None:
    fresh("experiments").does("alone_experiments.py")


def test_sql_gives_frames_and_parquet(fresh: Make, runtime: tuple[str, str]) -> None:
    fresh("local,sql").does("alone_sql.py", *runtime)


def test_notebooks_have_a_kernel_that_shows_cards(fresh: Make, runtime: tuple[str, str]) -> None:
    fresh("notebooks").does("alone_notebooks.py", *runtime)


async def test_the_console_shows_the_inbox(fresh: Make, runtime: tuple[str, str]) -> None:
    url, key = runtime
    console = fresh("console")
    terminal = Terminal(100, 30)
    try:
        command = [str(console.python), "-m", "helmr.cli", "console", "--url", url]
        environ = {**console.environ, "HELMR_API_KEY": key}
        await terminal.run("-c", EXEC, *command, **environ)
        await terminal.comes_to("Send About the console?", within_s=30)
        await terminal.press("q")
    finally:
        await terminal.close()


ENGINE = ("ray", "duckdb", "fastapi", "textual")


@pytest.mark.parametrize(
    ("extra", "page", "absent"),
    [
        ("pydantic-ai", "pydantic-ai.md", (*ENGINE, "agents", "langgraph")),
        ("openai-agents", "openai-agents.md", (*ENGINE, "pydantic_ai", "langgraph")),
        ("langgraph", "langgraph.md", (*ENGINE, "agents", "pydantic_ai", "mcp")),
        ("runtime,mcp", "mcp.md", ("textual", "polars", "agents", "langgraph", "pydantic_ai")),
    ],
    ids=["pydantic-ai", "openai-agents", "langgraph", "mcp"],
)
def test_what_a_page_shows_runs_where_only_its_extra_is(
    extra: str, page: str, absent: tuple[str, ...], fresh: Make, project_root: Path
) -> None:
    fresh(extra).does("alone_page.py", str(project_root / "docs" / page), *absent)


def test_an_agent_of_langchain_is_reviewed(fresh: Make) -> None:
    """Newer ones than the environment of the other tests can have, whose UUIDs are of another release."""
    agent = fresh("runtime,langgraph")
    agent.installs("langchain>=1.5,<2", "langgraph>=1.2,<2")
    agent.does("alone_langchain.py")


def test_all_has_the_extras_and_not_the_tools(fresh: Make) -> None:
    everything = fresh("all")
    done = everything.run(
        "-c", "import duckdb, ipykernel, matplotlib, mcp, pandas, polars, ray, textual, tzdata"
    )
    assert done.returncode == 0, done.stderr
    assert everything.run("-c", "import pytest").returncode != 0
    assert sys.executable != str(everything.python)
