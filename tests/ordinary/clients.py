"""Clients and pools in a module's globals, as they are written everywhere."""

import asyncio
from typing import Any

import aiohttp
import asyncpg
import httpx
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import TextBlock
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from helmr import step, task
from tests.ordinary.moments import Places, go_on, thrice

# httpx holds each request that waits for a connection against each connection, whenever one begins or ends: with its
# own hundred connections some of 800 requests got none within 20 s.
http = httpx.AsyncClient(
    timeout=httpx.Timeout(20, pool=None), limits=httpx.Limits(max_connections=20)
)
http_sync = httpx.Client(timeout=20)
openai = AsyncOpenAI(api_key="none", base_url="http://stand-in/v1", max_retries=0)
anthropic = AsyncAnthropic(api_key="none", base_url="http://stand-in", max_retries=0)
making = asyncio.Lock()
made: dict[str, Any] = {}
HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


@step
async def get_httpx(url: str) -> str:
    return (await http.get(f"{url}/hello")).text


@step
def get_httpx_sync(url: str) -> str:
    return http_sync.get(f"{url}/hello").text


@step
async def get_aiohttp(url: str) -> str:
    if "aiohttp" not in made:
        made["aiohttp"] = aiohttp.ClientSession()
    session: aiohttp.ClientSession = made["aiohttp"]
    async with session.get(f"{url}/hello") as response:
        return await response.text()


@step(retries=1)
async def ask_openai(url: str) -> str:
    openai.base_url = f"{url}/v1/"
    done = await openai.chat.completions.create(model="small", messages=[HELLO])
    return done.choices[0].message.content or ""


@step
async def stream_openai(url: str) -> list[str]:
    openai.base_url = f"{url}/v1/"
    stream = await openai.chat.completions.create(model="small", messages=[HELLO], stream=True)
    return [chunk.choices[0].delta.content or "" async for chunk in stream]


@step
def ask_openai_sync(url: str) -> str:
    with OpenAI(api_key="none", base_url=f"{url}/v1") as client:
        done = client.chat.completions.create(model="small", messages=[HELLO])
    return done.choices[0].message.content or ""


@step
async def ask_anthropic(url: str) -> str:
    anthropic.base_url = url
    said = await anthropic.messages.create(
        model="small", max_tokens=9, messages=[{"role": "user", "content": "hello"}]
    )
    block = said.content[0]
    assert isinstance(block, TextBlock)
    return block.text


@step
def ask_anthropic_sync(url: str) -> str:
    with Anthropic(api_key="none", base_url=url) as client:
        said = client.messages.create(
            model="small", max_tokens=9, messages=[{"role": "user", "content": "hello"}]
        )
    block = said.content[0]
    assert isinstance(block, TextBlock)
    return block.text


@step
async def add_in_postgres(dsn: str, number: int) -> int:
    async with making:
        if "pool" not in made:
            made["pool"] = await asyncpg.create_pool(dsn, min_size=1, max_size=3)
    return int(await made["pool"].fetchval("select $1::int + 1", number))


async def httpx_client(places: Places) -> Any:
    return await asyncio.gather(*(get_httpx(places.http) for _ in range(4)))


async def httpx_client_in_a_sync_step(places: Places) -> Any:
    return await get_httpx_sync(places.http)


async def aiohttp_session(places: Places) -> Any:
    return await asyncio.gather(*(get_aiohttp(places.http) for _ in range(4)))


async def openai_client(places: Places) -> Any:
    return await asyncio.gather(*(ask_openai(places.http) for _ in range(4)))


async def openai_stream(places: Places) -> Any:
    return await stream_openai(places.http)


async def openai_client_in_a_sync_step(places: Places) -> Any:
    return await ask_openai_sync(places.http)


async def anthropic_client(places: Places) -> Any:
    return await asyncio.gather(*(ask_anthropic(places.http) for _ in range(4)))


async def anthropic_client_in_a_sync_step(places: Places) -> Any:
    return await ask_anthropic_sync(places.http)


async def asyncpg_pool(places: Places) -> Any:
    if places.postgres is None:
        return "no PostgreSQL"
    return await asyncio.gather(*(add_in_postgres(places.postgres, n) for n in range(6)))


HABITS = (
    httpx_client,
    httpx_client_in_a_sync_step,
    aiohttp_session,
    openai_client,
    openai_stream,
    openai_client_in_a_sync_step,
    anthropic_client,
    anthropic_client_in_a_sync_step,
    asyncpg_pool,
)


@task(id="clients")
async def clients(places: Places) -> dict[str, list[Any]]:
    return await thrice("clients", HABITS, places)


@task(id="share-httpx")
async def share_httpx(places: Places) -> list[str]:
    """One of fifty sessions: requests at first and in three rounds, a wait before each."""
    said = [*await httpx_client(places)]
    for _ in range(3):
        await go_on.wait()
        said += await httpx_client(places)
    return said


@task(id="share-openai")
async def share_openai(places: Places) -> list[str]:
    """The same with the OpenAI SDK."""
    said = [*await openai_client(places)]
    for _ in range(3):
        await go_on.wait()
        said += await openai_client(places)
    return said
