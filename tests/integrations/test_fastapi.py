"""The FastAPI page's app, as printed, on uvicorn and a real runtime; and what its parts answer and leave untold."""

# Without `from __future__ import annotations`: FastAPI reads the annotations of functions that are made in tests.

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Request, Response

from helmr import embedded
from helmr.client.calls import Event, EventReader
from helmr.embedded import Embedded
from helmr.errors import (
    HelmrError,
    NotAllowed,
    RuntimeNotFound,
    SchemaMismatch,
    Unavailable,
    UsageError,
    all_codes,
)
from helmr.examples.chat import chat
from helmr.integrations import fastapi as helmr_fastapi
from helmr.integrations.fastapi import (
    HelmrClient,
    connected,
    follow_output,
    map_errors,
    own_session,
    session_access,
)
from helmr.models import PrincipalInfo, Problem, RecordInfo, SessionInfo
from tests.docs.test_python_blocks import ROOT, load

pytestmark = pytest.mark.allows_blocking  # a runtime lives in this process

PAGE = (ROOT / "docs" / "fastapi.md").read_text(encoding="utf-8")
WITHIN_S = 20.0
ADA, EVE = {"login": "cookie-of-ada"}, {"login": "cookie-of-eve"}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Embedded]:
    with (
        embedded.start(chat, in_process=True) as runtime,
        pytest.MonkeyPatch.context() as environ,
    ):
        environ.setenv("HELMR_URL", runtime.url)
        environ.setenv("HELMR_API_KEY", runtime.key)
        yield runtime


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app on uvicorn, on a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def page(runtime: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    [text] = re.findall(r"^```python\n(# chat_app\.py\n.*?)^```$", PAGE, flags=re.M | re.S)
    yield load("chat_app", text, tmp_path_factory.mktemp("page"))
    del sys.modules["chat_app"]


@pytest.fixture(scope="module")
def url(page: ModuleType) -> Iterator[str]:
    with serving(page.app) as url:
        yield url


@asynccontextmanager
async def browser(url: str, **cookies: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=WITHIN_S) as http:
        for _ in range(500):
            try:
                await http.get("/")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
        yield http


async def events(
    http: httpx.AsyncClient, path: str, *, last: int | None = None
) -> AsyncGenerator[Event, None]:
    """As an EventSource reads them."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    reader = EventReader()
    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        async for text in answer.aiter_text():
            for event in reader.feed(text):
                yield event


async def followers(runtime: Embedded) -> int:
    async with httpx.AsyncClient() as http:
        said = await http.get(
            f"{runtime.url}/metrics", headers={"Authorization": f"Bearer {runtime.key}"}
        )
    [count] = re.findall(r"^helmr_followers (\d+)", said.text, flags=re.M)
    return int(count)


async def until(holds: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await holds():
            await asyncio.sleep(0.02)


async def begun(http: httpx.AsyncClient) -> str:
    answer = await http.post("/chats")
    assert answer.status_code == 200, answer.text
    return str(answer.json())


# --- the page's app ---------------------------------------------------------------------------------


async def test_a_person_hears_words_and_then_the_record_and_comes_back_behind_it(
    url: str, runtime: Embedded
) -> None:
    async with browser(url, **ADA) as http, runtime.async_client() as client:
        session_id = await begun(http)
        heard = events(http, f"/chats/{session_id}/replies")
        first = asyncio.ensure_future(anext(heard))
        await until(lambda: _is_followed(runtime), "it is followed")
        assert (await http.post(f"/chats/{session_id}/messages", json="hello")).status_code == 204
        seen = [await first]
        while seen[-1].type != "record":
            seen.append(await anext(heard))
        kinds = [one.type for one in seen]
        assert kinds.count("record") == 1
        assert set(kinds) <= {"chunk", "chunks.end", "record"}
        record = json.loads(seen[-1].data)
        assert sorted(record) == ["text", "to"], "the data alone, and not who wrote it"
        words = [json.loads(one.data)["text"] for one in seen if one.type == "chunk"]
        assert record["text"].startswith("".join(words).strip())
        await heard.aclose()
        await until(lambda: _is_not_followed(runtime), "its follower has ended")

        await http.post(f"/chats/{session_id}/messages", json="I like tea")
        last = int(seen[-1].id)
        async for event in events(http, f"/chats/{session_id}/replies", last=last):
            if event.type == "record":
                assert json.loads(event.data)["text"] == "Noted: I like tea"
                last = int(event.id)
                break
        await client.sessions.open(session_id).close(end_input=True)
        rest = [one async for one in events(http, f"/chats/{session_id}/replies?after=1")]
        assert [one.type for one in rest] == ["record", "end"]
        over = await http.get(f"/chats/{session_id}/replies", headers={"Last-Event-ID": str(last)})
        assert over.status_code == 204


async def _is_followed(runtime: Embedded) -> bool:
    return await followers(runtime) > 0


async def _is_not_followed(runtime: Embedded) -> bool:
    return await followers(runtime) == 0


async def test_a_session_of_another_is_none(url: str) -> None:
    async with browser(url, **ADA) as ada, browser(url, **EVE) as eve, browser(url) as unknown:
        session_id = await begun(ada)
        for path, method in (("replies", "GET"), ("access", "POST"), ("messages", "POST")):
            where = f"/chats/{session_id}/{path}"
            assert (await unknown.request(method, where, json="hi")).status_code == 401
            hers = await eve.request(method, where, json="hi")
            none = await eve.request(method, f"/chats/{session_id[:-4]}0000/{path}", json="hi")
            odd = await eve.request(method, f"/chats/nonsense/{path}", json="hi")
            assert [one.status_code for one in (hers, none, odd)] == [404, 404, 404]
            assert {Problem.model_validate(one.json()).code for one in (hers, none, odd)} == {
                "session_not_found"
            }


async def test_a_persons_browser_gets_tokens_for_its_streams_alone(
    url: str, runtime: Embedded
) -> None:
    async with browser(url, **ADA) as http, browser(runtime.url) as outside:
        session_id, other = await begun(http), await begun(http)
        access = (await http.post(f"/chats/{session_id}/access")).json()
        assert access["session_id"] == session_id
        [sends], [reads] = access["sends"].values(), access["reads"].values()

        async def sent(session: str, token: str, *, origin: str = "https://chat.example") -> int:
            answer = await outside.post(
                f"/v1/sessions/{session}/inputs/messages",
                json={"data": "hi"},
                headers={"Authorization": f"Bearer {token}", "Origin": origin},
            )
            return answer.status_code

        assert await sent(session_id, sends) in (200, 201)
        assert await sent(session_id, sends, origin="https://elsewhere.example") == 403
        assert await sent(other, sends) == 403
        assert await sent(session_id, reads) == 403
        read = await outside.get(
            f"/v1/sessions/{session_id}/outputs/replies",
            headers={"Authorization": f"Bearer {reads}", "Origin": "https://chat.example"},
        )
        assert read.status_code == 200


async def test_a_place_that_no_event_had_is_refused(url: str) -> None:
    async with browser(url, **ADA) as http:
        path = f"/chats/{await begun(http)}/replies"
        for place in ("-1", "x", "9" * 20, "1.5"):
            refused = await http.get(path, headers={"Last-Event-ID": place})
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
            assert (await http.get(path, params={"after": place})).status_code == 400
        wrong = await http.post(path.replace("replies", "messages"), json={"not": "text"})
        assert wrong.status_code == 422


[SCRIPT] = re.findall(r"^```js\n(.*?)^```$", PAGE, flags=re.M | re.S)
CHROMIUM = shutil.which("chromium")


@pytest.mark.long  # tests/docs/test_streaming_page.py has such a page
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_the_pages_ten_lines_show_words_and_records_in_a_browser(
    page: ModuleType, url: str, runtime: Embedded
) -> None:
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright")
    assert len(SCRIPT.splitlines()) <= 10
    async with browser(url, **ADA) as http, playwright.async_playwright() as started:
        session_id = await begun(http)
        html = '<ol id="said"></ol><p id="coming"></p>'
        shown = f'{html}<script>const id = "{session_id}";\n{SCRIPT}</script>'
        page.app.get("/shown")(lambda: Response(shown, media_type="text/html"))
        chromium = await started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = await chromium.new_context()
        await context.add_cookies([{"name": "login", "value": ADA["login"], "url": url}])
        tab = await context.new_page()
        await tab.goto(f"{url}/shown")
        said = tab.locator("#said li")
        for text in ("I like tea", "and cake"):
            await http.post(f"/chats/{session_id}/messages", json=text)
        expect = playwright.expect
        await expect(said).to_have_text(["Noted: I like tea", "Noted: and cake"])
        await expect(tab.locator("#coming")).to_have_text("")
        async with runtime.async_client() as client:
            await client.sessions.open(session_id).close(end_input=True)
        await until(lambda: tab.evaluate("heard.readyState === EventSource.CLOSED"), "it has ended")
        await chromium.close()


# --- an app of its own ------------------------------------------------------------------------------


def app_with(route: Callable[..., Any], **options: Any) -> FastAPI:
    app = FastAPI(**options)
    map_errors(app)
    app.get("/it")(route)
    return app


async def test_silence_is_filled_and_a_reader_who_leaves_in_it_is_noticed(
    runtime: Embedded,
) -> None:
    ended = threading.Event()

    class Watched(Response):
        def __init__(self, answer: Response) -> None:
            super().__init__()
            self.answer = answer

        async def __call__(self, *asgi: Any) -> None:
            try:
                await self.answer(*asgi)
            finally:
                ended.set()

    async def whose(session_id: str, helmr: HelmrClient) -> SessionInfo:
        return await helmr.sessions.open(session_id).get()

    async def it(
        request: Request, helmr: HelmrClient, session: Annotated[SessionInfo, Depends(whose)]
    ) -> Response:
        answer = await follow_output(request, helmr, session, "replies", heartbeat="50ms")

        return Watched(answer)

    with runtime.client() as client:
        session_id = client.sessions.start(chat.id, None).id
    with serving(app_with(it, lifespan=connected)) as url:
        async with browser(url) as http:
            pieces: list[str] = []
            path = f"/it?session_id={session_id}"
            async with http.stream("GET", path) as answer:
                async for text in answer.aiter_text():
                    pieces.append(text)
                    if "".join(pieces).count(": keep-alive\n\n") >= 2:
                        break
            assert await asyncio.to_thread(ended.wait, WITHIN_S)
            assert "".join(pieces).startswith(": following\n\n")
            await until(lambda: _is_not_followed(runtime), "its follower has ended")


async def test_a_runtime_that_is_gone_ends_the_answer_without_an_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def follow(after: int | None) -> AsyncGenerator[RecordInfo, None]:
        yield RecordInfo(
            id="rec_1",
            stream="replies",
            seq=7,
            data="one\ntwo",
            principal=PrincipalInfo(type="run"),
            created_at=datetime.now(UTC),
        )
        raise RuntimeNotFound("gone")

    output: Any = SimpleNamespace(session_id="ses_1", follow=follow)
    frames = helmr_fastapi._frames(output, None, chunks=False, every_s=5.0)
    pieces = [text async for text in frames]
    assert pieces == [": following\n\n", 'id: 7\nevent: record\ndata: "one\\ntwo"\n\n']
    assert "gone" in caplog.text


async def test_a_stream_that_is_not_there_is_the_apps_mistake(runtime: Embedded) -> None:
    async def it(request: Request, session_id: str, helmr: HelmrClient) -> Response:
        session = await helmr.sessions.open(session_id).get()
        return await follow_output(request, helmr, session, "nope")

    with runtime.client() as client:
        session_id = client.sessions.start(chat.id, None).id
    said = await answered(app_with(it), runtime, f"/it?session_id={session_id}")
    assert said.status_code == 500
    assert "replies" not in said.text, "the streams that there are"


async def answered(app: FastAPI, runtime: Embedded, path: str = "/it") -> httpx.Response:
    async with connected(app, url=runtime.url, key=runtime.key):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.get(path)


async def test_an_app_has_one_client_as_long_as_it_lives(runtime: Embedded) -> None:
    seen = []

    async def it(one: HelmrClient, again: HelmrClient) -> bool:
        seen.append(one)
        return one is again

    app = app_with(it)
    async with connected(app):
        with pytest.raises(UsageError, match="has a client already"):
            async with connected(app):
                pass
    said = await answered(app, runtime)
    assert said.json() is True
    with pytest.raises(UsageError, match="the client is closed"):
        await seen[0].health()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        assert (await http.get("/it")).status_code == 500, "and none without its lifespan"


async def test_a_rule_may_be_async_and_nothing_but_true_is_yes(runtime: Embedded) -> None:
    rule: Any = None

    async def owns(person: str, session: SessionInfo) -> Any:
        return rule

    mine = own_session(lambda: "ada", owns)

    async def it(session: Annotated[SessionInfo, Depends(mine)]) -> str:
        return session.id

    with runtime.client() as client:
        session_id = client.sessions.start(chat.id, None).id
    statuses = []
    for given in (True, False, None, "yes"):
        rule = given
        said = await answered(app_with(it), runtime, f"/it?session_id={session_id}")
        statuses.append(said.status_code)
    assert statuses == [200, 404, 404, 404]


async def test_access_names_a_stream(runtime: Embedded) -> None:
    async with runtime.async_client() as client:
        session = (await client.sessions.start(chat.id, None)).session
        with pytest.raises(UsageError, match="no stream is named"):
            await session_access(client, session)


# --- errors -----------------------------------------------------------------------------------------

SECRET = "http://10.0.0.7:4356 and the key of ops"


def raised(error: HelmrError) -> FastAPI:
    async def it() -> None:
        raise error

    return app_with(it)


def made(cls: type[HelmrError]) -> HelmrError:
    error = HelmrError.__new__(cls)
    HelmrError.__init__(error, SECRET, hint=SECRET, url=SECRET)
    return error


@pytest.mark.parametrize("code", sorted(all_codes()))
async def test_each_error_has_its_status_or_is_not_told(
    code: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = made(all_codes()[code])
    transport = httpx.ASGITransport(raised(error))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        said = await http.get("/it")
    problem = Problem.model_validate(said.json())
    assert said.headers["content-type"] == "application/problem+json"
    assert {"hint", "facts"} & set(said.json()) == set()
    if problem.status == 500:
        assert problem.code == "internal"
    else:
        assert (problem.status, problem.code) == (error.status, error.code)
    assert said.status_code == problem.status
    if problem.detail == SECRET:
        assert 400 <= problem.status < 500
        assert not isinstance(error, Unavailable)
        assert caplog.records == []
    else:
        assert SECRET not in said.text
        assert problem.status >= 429
        [record] = caplog.records
        [error_id] = re.findall(r"[0-9a-f]{12}", problem.detail)
        assert error_id in record.message
        assert SECRET in record.message
    assert ("retry-after" in said.headers) == (problem.status in (429, 503))


TOLD = {"session_not_found", "schema_mismatch", "wait_resolved", "token_expired", "bad_id"}
UNTOLD = {"usage", "task_not_found", "stream_not_found", "unauthenticated", "role_denied"}


def test_what_is_told() -> None:
    told = {
        code
        for code, cls in all_codes().items()
        if helmr_fastapi._problem(made(cls)).detail == SECRET
    }
    assert told >= TOLD
    assert not told & UNTOLD
    assert not [code for code in told if issubclass(all_codes()[code], Unavailable)]
    mine = {code for code in told if issubclass(all_codes()[code], NotAllowed)}
    assert mine == {"origin_denied", "scope_denied", "signature_refused", "token_exhausted"}


async def test_paths_of_data_are_told_and_the_runtimes_pause_too() -> None:
    wrong = SchemaMismatch("it does not fit", errors=[{"path": "cents", "message": "too few"}])
    problem = helmr_fastapi._problem(wrong)
    assert [(one.path, one.message) for one in problem.errors] == [("cents", "too few")]
    away = RuntimeNotFound(SECRET, retry_after_s=2.2)
    transport = httpx.ASGITransport(raised(away))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        said = await http.get("/it")
    assert (said.status_code, said.headers["retry-after"]) == (503, "3")


WITHOUT = """
import sys
sys.modules["fastapi"] = None  # as if it were not installed
from helmr.errors import MissingExtra
try:
    import helmr.integrations.fastapi
except MissingExtra as error:
    print(error.hint)
"""


def test_without_fastapi_it_says_which_extra_brings_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.strip() == "pip install 'helmr[fastapi]'", done.stderr
