"""A task whose steps log, for tests of what a runtime tells of itself."""

import logging
import time

from helmr import step, streams, task

logger = logging.getLogger("app")

hoard: list[bytes] = []

approval = streams.input("approval", schema=str)


@step
async def prepare(title: str) -> str:
    """Before anybody is asked."""
    logger.info("prepared %s", title)
    return title.upper()


@step
def release(title: str) -> str:
    """After the answer, in a thread."""
    logger.info("released %s", title)
    print("printed", title)  # noqa: T201 - what a task prints is a line of the log too
    return title


@task(id="publish")
async def publish(payload: str) -> str:
    """Asks between two steps."""
    title = await prepare(payload)
    logger.info("asks about %s", title)
    await approval.wait(correlation_id="news").unwrap()
    return await release(title)


@step
async def blocks_the_loop(duration_s: float) -> None:
    """Holds what all async steps of the host run on."""
    time.sleep(duration_s)  # noqa: ASYNC251 - that is what the test is about


@task(id="blocks")
async def blocks(duration_s: float) -> None:
    """Blocks in an async step."""
    await blocks_the_loop(duration_s)


@task(id="hoards")
async def hoards(size_mb: int) -> None:
    """Keeps memory that nobody gives back, and waits."""
    hoard.append(b"x" * size_mb * 1024 * 1024)
    await approval.wait()
