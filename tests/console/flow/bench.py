"""A console over the real routes: a whole runtime in this process, one fake clock for both, real HTTP between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from textual.pilot import Pilot

from helmr.client.aio import AsyncClient
from helmr.client.retry import Retry
from helmr_console.app import ConsoleApp
from helmr_console.console import Options
from helmr_console.keys import REPEAT_S, REPEATS_WITHIN_S
from helmr_console.screens.answer import AnswerScreen
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_runtime.clock import FakeClock
from tests.console.flow.wire import Wire
from tests.service.stack import Stack, until


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
        self.exit = AsyncExitStack()
        self.app: ConsoleApp
        self.pilot: Pilot[Any]

    async def open(self, size: tuple[int, int] = (120, 36), **options: Any) -> ConsoleApp:
        """Start the console; returns when it is live and has its list."""
        self.wire = Wire(int(self.stack.url.rpartition(":")[2]))
        await self.wire.start()
        client = AsyncClient(
            url=f"http://127.0.0.1:{self.wire.port}",
            key=self.stack.key,
            on_behalf_of=options.get("identity", "ana"),
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
                await self.until(self.is_let_go)
            began_s = monotonic()
            await self.pilot.press(key)
            await self.until(partial(self.is_done, began_s))
            await self.pilot.pause()

    def is_done(self, began_s: float) -> bool:
        """Whether a key pressed since then was given, and everything it set off has happened."""
        return self.app.shared.keys.typed_s >= began_s and self.app.shared.keys.is_still

    def is_let_go(self) -> bool:
        """Whether the next key is no repeat of the one before: nobody presses one twice so quickly."""
        read = self.app.shared.keys._read
        if read is None or read.key != "ctrl+s":
            return True
        screen = self.app.screen
        is_quick = not isinstance(screen, AnswerScreen) or screen.turns is None
        return monotonic() - read.time >= (REPEAT_S if is_quick else REPEATS_WITHIN_S)

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
            for _ in range(3):
                await asyncio.sleep(0)
            await self.pilot.pause()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Return when the condition holds."""
        await until(holds)

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
        await self.pilot.pause()
        return self.app.screen

    async def inbox(self, count: int) -> Any:
        """The inbox, once it shows so many waits."""
        screen = await self.on("InboxScreen")
        await self.until(lambda: len(screen.list.keys) == count)
        await self.pilot.pause()
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
