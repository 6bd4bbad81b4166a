"""What a run's code hands to another process arrives there as the code has written it."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from helmr import task
from helmr.testing import Harness


def square(value: int) -> int:
    return value * value


class Elsewhere(Executor):
    """Gives away what it is handed, as a pool of processes or machines does."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of the base class."""
        sent = pickle.dumps((fn, args, kwargs))
        there, given, named = pickle.loads(sent)
        done: Future[Any] = Future()
        done.set_result(there(*given, **named))
        return done


@task
async def computing_elsewhere(payload: None) -> int:
    return await asyncio.get_running_loop().run_in_executor(Elsewhere(), square, 3)


async def test_code_may_hand_a_function_to_an_executor_of_other_processes() -> None:
    async with Harness(computing_elsewhere) as harness:
        session = await harness.start(computing_elsewhere, None)
        assert await session.result() == 9
