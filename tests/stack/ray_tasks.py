"""Tasks whose steps drive Ray work, as a user writes them: nothing of them is installed in any worker."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel
from ray_beside import TwoParts, triple, twice  # type: ignore[import-not-found]

from helmr import step, step_key, streams, task

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))
go_on = streams.input("go-on", schema=str)


def mark(name: str, text: str = "x") -> None:
    """Leave text in a file."""
    with (MARKS / name).open("a") as file:
        file.write(text)


class Config(BaseModel):
    rate: float
    rounds: int


class Trained(BaseModel):
    config: Config
    score: int


@ray.remote
def train(config: Config) -> Trained:
    return Trained(config=config, score=twice(config.rounds))


@ray.remote
class Adder:
    def __init__(self, first: int) -> None:
        self.sum = first

    def add(self, number: int) -> int:
        self.sum += twice(number)
        return self.sum


@ray.remote(max_retries=0)
def raises(number: int) -> int:
    raise TwoParts("left", number)


@ray.remote(max_retries=0)
def dies_once(name: str) -> int:
    mark(name)
    if (MARKS / name).stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


@ray.remote(max_retries=0)
def takes_long(name: str, key: str) -> str:
    """Ends when the test says so."""
    mark(f"{name}-began", f"{key}\n")
    try:
        while not (MARKS / f"{name}-go").exists():
            time.sleep(0.02)
    except KeyboardInterrupt:
        mark(f"{name}-interrupted")
        raise
    mark(f"{name}-ended")
    return key


@step
async def trained(config: Config) -> Trained:
    return await train.remote(config)


@step
def trained_in_a_thread(config: Config) -> Trained:
    return ray.get(train.remote(config))


@step
async def added(numbers: list[int]) -> int:
    adder: Any = Adder.remote(100)  # type: ignore[attr-defined]
    sums: list[int] = await asyncio.gather(*(adder.add.remote(number) for number in numbers))
    return sums[-1]


@step
async def tripled(number: int) -> int:
    found: int = await triple.remote(number)
    return found


@ray.remote(runtime_env={"env_vars": {"COLOUR": "green"}})
def coloured() -> str:
    return os.environ["COLOUR"]


@step
async def environed() -> str:
    return await coloured.remote()


@step
async def raised(number: int) -> int:
    return await raises.remote(number)


@step
async def caught(number: int) -> str:
    try:
        return str(await raises.remote(number))
    except TwoParts as error:
        return f"caught {error.number}"


@step(retries=2, backoff="10ms", retry_on=(TwoParts,))
async def raised_again(name: str) -> int:
    mark(name)
    return await raises.remote(3)


@step
async def died(name: str) -> int:
    return await dies_once.remote(name)


@step(retries=1, backoff="10ms")
async def died_then_ran(name: str) -> int:
    return await dies_once.remote(name)


@step
async def took_long(name: str) -> str:
    return await takes_long.remote(name, step_key())


@step
async def took_long_and_cleans_up(name: str) -> str:
    ref = takes_long.remote(name, step_key())
    try:
        return await ref
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise


@task(id="ray-work")
async def ray_work(payload: None) -> dict[str, Any]:
    """Everything that a step may hand to Ray."""
    config = Config(rate=0.5, rounds=4)
    first, *triples = await asyncio.gather(trained(config), *(tripled(one) for one in range(4)))
    return {
        "trained": first,
        "in_a_thread": (await trained_in_a_thread(config)).score,
        "tripled": triples,
        "added": await added([1, 2, 3]),
        "caught": await caught(5),
    }


@task(id="ray-step")
async def ray_step(payload: dict[str, str]) -> Any:
    """One step, by its name."""
    match payload["step"]:
        case "raises":
            return await raised(3)
        case "environed":
            return await environed()
        case "raises-again":
            return await raised_again(payload["name"])
        case "dies":
            return await died(payload["name"])
        case "dies-then-runs":
            return await died_then_ran(payload["name"])
        case "long":
            return await took_long(payload["name"])
        case _:
            return await took_long_and_cleans_up(payload["name"])


@task(id="ray-then-wait")
async def ray_then_wait(payload: str) -> str:
    """A remote outcome before a wait."""
    key = await took_long(payload)
    await go_on.wait().unwrap()
    return key
