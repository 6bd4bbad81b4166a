"""`helmr init`: the files that a folder of tasks begins with. What it writes runs, and its test passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.config import CONFIG_NAME
from helmr.errors import Conflict, UsageError

TASKS = '''\
"""Tasks of this folder. `helmr dev tasks.py` runs them, and starts again when this file changes."""

from typing import Literal

from pydantic import BaseModel

from helmr import step, streams, task


class Decision(BaseModel):
    """What a person answers. The console and the command line make a form of it."""

    decision: Literal["approve", "reject"]
    note: str | None = None


approval = streams.input("approval", schema=Decision)


@step
async def write_draft(topic: str) -> str:
    """A step touches the world: call a model, a service or a database here. Code outside of steps runs again."""
    return f"There is news about {topic}."


@step(retries=3)
async def publish(text: str) -> str:
    """If it raises, it is tried again, three times at most."""
    return f"published {len(text)} characters"


@task(id="announcement")
async def announcement(topic: str) -> dict[str, str]:
    """Write a draft, ask a person, and publish it if they approve within a week."""
    draft = await write_draft(topic)
    answer = await approval.wait(
        timeout="7d", subject=f"Publish the news about {topic}?", body=draft
    )
    if answer.value is None or answer.value.decision == "reject":
        return {"status": "dropped"}
    return {"status": await publish(draft)}
'''

TEST = '''\
"""What the tasks do, without a runtime: `pytest`, or `python test_tasks.py`."""

import asyncio

from helmr.testing import Harness
from tasks import announcement


async def published() -> None:
    # replay_always runs the code from its beginning at every outcome, as a restart does.
    async with Harness(announcement, replay_always=True) as harness:
        session = await harness.start("announcement", "otters")
        await session.send("approval", {"decision": "approve"})
        assert await session.result() == {"status": "published 27 characters"}


async def dropped_if_no_one_answers() -> None:
    async with Harness(announcement) as harness:
        session = await harness.start("announcement", "otters")
        await harness.advance("7d")
        assert await session.result() == {"status": "dropped"}


def test_published() -> None:
    asyncio.run(published())


def test_dropped_if_no_one_answers() -> None:
    asyncio.run(dropped_if_no_one_answers())


if __name__ == "__main__":
    test_published()
    test_dropped_if_no_one_answers()
    print("both hold")
'''

CONFIG = """\
# Settings of the runtime whose data directory, .helmr, is beside this file.

# `helmr up` runs on Ray where that is installed: tasks in processes of their own. For one process instead:
# [runtime]
# form = "in-process"

# Delete sessions a while after they end:
# [retention]
# closed_after = "90d"

# Send a notice when something waits for a person:
# [notices.team]
# type = "slack"
# url_env = "SLACK_URL"
"""

IGNORED = ".helmr/\n__pycache__/\n"

IGNORE_NAME = ".gitignore"
FILES = {"tasks.py": TASKS, "test_tasks.py": TEST, CONFIG_NAME: CONFIG, IGNORE_NAME: IGNORED}

NEXT = """\
Next:
  python test_tasks.py      tries the task, without a runtime
  helmr dev tasks.py        runs it, and follows your changes
and in a second terminal:
  helmr session start announcement --payload '"otters"'
  helmr next                asks you its question"""


def register_init(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "init", examples="helmr init\nhelmr init newsroom", finds_runtime=False)(init)


def init(
    cli: Cli,
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to write; made if there is none.")
    ] = Path(),
    json: Json = False,
) -> None:
    """Write a first task, a test of it, helmr.toml and .gitignore. Never overwrites: writes all of them or none."""
    written = write_files(folder)
    if json:
        printing.write_json({"folder": str(folder.absolute()), "written": written})
        return
    printing.write_done(f"Wrote {', '.join(written)} in {folder.absolute()}.")
    if IGNORE_NAME not in written:
        printing.note(f"{IGNORE_NAME} was there already: see that it has the line .helmr/")
    if folder.absolute() != Path.cwd():
        printing.write_done(f"First: cd {folder}")
    printing.write(NEXT)


def write_files(folder: Path) -> list[str]:
    """Write them all, or none; the names of those that were written. A `.gitignore` that is there stays as it is.

    Raises:
        Conflict: One is there already.
        UsageError: The folder can't be written.
    """
    wanted = {name: text for name, text in FILES.items() if not _is_kept(folder / name)}
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in wanted.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise Conflict(
                f"{error.filename} is there already; nothing was written",
                hint="Name an empty folder: `helmr init FOLDER`.",
            ) from error
        raise UsageError(f"{folder} can't be written: {error.strerror or error}") from error
    return list(wanted)


def _is_kept(path: Path) -> bool:
    return path.name == IGNORE_NAME and path.exists()
