"""A console over the real routes: a whole runtime in this process, one fake clock for both, real HTTP between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual._wait import wait_for_idle
from textual.pilot import Pilot

from helmr.client.aio import AsyncClient
from helmr.client.calls import Retry
from helmr.person.review.sending import HeldKey
from helmr_console.app import ConsoleApp
from helmr_console.console import Options
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_runtime.clock import FakeClock
from tests.console.flow.spared import TURNS, spare
from tests.console.flow.wire import Wire
from tests.service import stack as service_stack
from tests.service.stack import BOUND_S, Stack, until


@asynccontextmanager
async def benched(
    make: Callable[[Path], Stack], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """A runtime at two o'clock, whose console is opened later; Textual is spared what no test sees.

    Args:
        make: Makes the runtime, with its data in this folder.
        folder: For all files.
        monkeypatch: Of the test.
    """
    clock = FakeClock(datetime(2026, 11, 24, 14, 0, tzinfo=UTC))
    monkeypatch.setattr(service_stack, "SystemClock", lambda: clock)
    # The gateway's comments follow the fake clock: on a busy machine a long walk would find its feed dead.
    monkeypatch.setattr("helmr.client.http.FEED_SILENCE_S", 600.0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    spare(monkeypatch)
    (folder / "data").mkdir()
    stack = make(folder / "data")
    found = Bench(stack, clock, folder)
    found.make = partial(make, folder / "data")
    try:
        await stack.start(sessions_per_host=4)
        yield found
    finally:
        await found.close()
        await found.stack.stop()


class Hands:
    """The console's clock on the server's fake one."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._start = clock.now()

    def wall(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return (self._clock.now() - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        when = self._clock.now() + timedelta(seconds=seconds)
        timer = self._clock.call_at(when, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()


class Bench:
    """What a flow test drives."""

    def __init__(self, stack: Stack, clock: FakeClock, folder: Path) -> None:
        self.stack = stack
        self.clock = clock
        self.folder = folder
        self.wire = Wire(0)
        self.within_s = BOUND_S
        """What a condition may take: longer where hundreds of runs are started."""
        self.exit = AsyncExitStack()
        self.app: ConsoleApp
        self.pilot: Pilot[Any]
        self.make: Callable[[], Stack]

    async def restart(self) -> None:
        """End the runtime and start it again on its ledger; before the console is opened."""
        await self.stack.stop()
        self.stack = self.make()
        await self.stack.start(sessions_per_host=4)

    async def open(self, size: tuple[int, int] = (120, 36), **options: Any) -> ConsoleApp:
        """Start the console; returns when it is live and has its list.

        With `key`, which is a person's own, it speaks for no one else.
        """
        own_key = options.pop("key", None)
        self.wire = Wire(int(self.stack.url.rpartition(":")[2]))
        await self.wire.start()
        client = AsyncClient(
            url=f"http://127.0.0.1:{self.wire.port}",
            key=own_key or self.stack.key,
            on_behalf_of=options.get("identity", "ana") if own_key is None else None,
            retry=Retry(tries_max=1),
        )
        given = {
            "identity": "ana",
            "name": "test",
            "state_folder": self.folder / "state",
            **options,
        }
        self.app = ConsoleApp(client, Options(**given), Hands(self.clock))
        self.pilot = await self.exit.enter_async_context(
            self.app.run_test(size=size, notifications=True)
        )
        await self.until(lambda: self.app.shared.store.health is not None)
        return self.app

    async def close(self) -> None:
        """End console and cable."""
        # A fixture's end runs in another context than the test, where Textual can't put its context variables
        # back; by then the app has ended.
        with suppress(ValueError):
            await self.exit.aclose()
        await self.wire.cut()
        # The context's error above hides the app's own.
        broken = self.app._exception if hasattr(self, "app") else None
        if broken is not None:
            raise broken

    # --- doing

    async def press(self, *keys: str) -> None:
        """Press keys and let what they start be done."""
        for key in keys:
            if key == "ctrl+s":
                await self.until(self.may_send)
                self.app.shared.keys.held = (
                    HeldKey()
                )  # as when some time has passed since the last key
            began_s = monotonic()
            await self.app._press_keys([key])
            await self.until(partial(self.is_done, began_s))
            await self.settle()

    async def settle(self) -> None:
        """Return when everything has happened, and stands where it belongs."""
        for _ in range(2):
            await self.until(lambda: self.app.shared.keys.is_still)
            await self.app._animator.wait_until_complete()  # what scrolls does so at its next tick
            self.app.screen._on_timer_update()

    async def rest(self) -> None:
        """Return when the processor has nothing to do any more: what was asked of the gateway has come, too."""
        await wait_for_idle(0)
        await self.settle()

    def is_done(self, began_s: float) -> bool:
        """Whether a key pressed since then was given, and everything it set off has happened."""
        return self.app.shared.keys.typed_s >= began_s and self.app.shared.keys.is_still

    def may_send(self) -> bool:
        """False while a review has just been drawn: nobody presses the key so soon who has read it."""
        screen = self.app.screen
        if not isinstance(screen, SubmitScreen) or not screen.sends_next:
            return True
        return screen.submission.is_readable(monotonic())

    async def advance(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass for server and console."""
        left = seconds
        while left > 0:
            self.clock.move_to(self.clock.now() + timedelta(seconds=min(step, left)))
            left -= step
            await self.rest()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Return when the condition holds; most do within some turns of the loop."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
            held = holds()
            if held is True:
                return
            if asyncio.iscoroutine(held):
                held.close()
                break
        await until(holds, self.within_s)

    async def answer(self, wait_id: str, data: Any, *, person: str = "ben") -> None:
        """Somebody else answers."""
        response = await self.stack.http.post(
            f"/v1/waits/{wait_id}/answer",
            json={"data": data, "override_claim": True},
            headers={"On-Behalf-Of": person},
        )
        assert response.status_code == 200, response.text

    async def ask(self, task: str = "publish", **payload: Any) -> dict[str, Any]:
        """Start a session that asks; the wait, with `session` beside it."""
        receipt = await self.stack.started(task, payload)
        session = receipt["session"]
        wait = session["wait"] or {}
        return {**wait, "session": session, "run": receipt["run"]}

    async def records(self, session_id: str, stream: str = "approval") -> list[dict[str, Any]]:
        """What a stream holds."""
        found: list[dict[str, Any]] = (
            await self.stack.http.get(f"/v1/sessions/{session_id}/inputs/{stream}")
        ).json()["items"]
        return found

    async def entries(self, session_id: str, after: str = "") -> list[dict[str, Any]]:
        """The session's transcript as the ledger has it, from the first entry of that kind on."""
        path = f"/v1/sessions/{session_id}/transcript"
        found: list[dict[str, Any]] = (await self.stack.http.get(path)).json()["items"]
        kinds = [entry["kind"] for entry in found]
        return found[kinds.index(after) :] if after else found

    async def wait(self, wait_id: str) -> dict[str, Any]:
        """The wait as the gateway has it."""
        found: dict[str, Any] = (await self.stack.http.get(f"/v1/waits/{wait_id}")).json()
        return found

    # --- seeing

    @property
    def screen(self) -> ConsoleScreen:
        """The screen on top."""
        found = self.app.screen
        assert isinstance(found, ConsoleScreen)
        return found

    async def on(self, name: str) -> Any:
        """The screen on top, once it is of this class."""
        try:
            await self.until(lambda: type(self.app.screen).__name__ == name)
        except TimeoutError:
            raise AssertionError(f"{name} is not shown, but {self.app.screen!r}") from None
        return self.app.screen

    async def form(self) -> Any:
        """The compose screen on top, once its form is there."""
        await self.until(lambda: getattr(self.app.screen, "form", None) is not None)
        await self.settle()
        return self.app.screen

    async def inbox(self, count: int) -> Any:
        """The inbox, once it shows so many waits."""
        screen = await self.on("InboxScreen")
        await self.until(lambda: len(screen.list.keys) == count)
        await self.settle()
        return screen

    def text(self) -> str:
        """What is on the terminal."""
        from tests.console.golden import screen_text

        return screen_text(self.app)

    async def sees(self, text: str) -> None:
        """Return when this text is on the terminal."""
        try:
            await self.until(lambda: text in self.text())
        except TimeoutError:
            raise AssertionError(f"{text!r} is not on:\n{self.text()}") from None

    def toasts(self) -> list[str]:
        """What was said on the second line."""
        return [said.text for said in self.app.shared.line.history]
