"""The operator at the inbox in a browser: clicks where a person would, and types into fields.

A click counts as a key. The list has no filter that hides a stream, so the operator passes by what is not theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import httpx

from tests.console.flow.terminal import Terminal
from tests.http.browsing import chromium, tab_of
from tests.programs.operators_hour.operators import Operator, World
from tests.programs.operators_hour.plan import Asked, Fate
from tests.programs.operators_hour.stopwatch import Stage

NOT_OURS = "Sign contract"
KEPT = "Nothing was recorded yet"
OVER = re.compile(r"The answer is recorded|already answered|is over")


class SignedOut(Exception):
    """The browser is asked for the key."""


class Page(Operator):
    """Someone who has signed in with a key of their own."""

    SIZE = (80, 24)
    PEOPLE: ClassVar[str] = "\n[people.ana]\n"

    def __init__(self, terminal: Terminal, plan: Mapping[int, Asked], world: World) -> None:
        super().__init__(terminal, plan, world)
        self._open = AsyncExitStack()
        self._secret = ""
        self.tab: Any = None

    async def begins(self, url: str, key: str, folder: Path) -> None:
        """Open the browser and sign in."""
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as http:
            made = await http.post("/v1/api-keys", json={"person": "ana"})
        self._secret = made.json()["secret"]
        self.tab = await tab_of(await self._open.enter_async_context(chromium()), url)
        await self.tab.goto("/inbox")
        await self._signs_in()

    async def ends(self) -> None:
        """Close the browser."""
        await self._open.aclose()

    async def _signs_in(self) -> None:
        """Paste the key; the page that was asked for comes back."""
        field = self.tab.get_by_label("Your personal key")
        await self._clicks(field)
        await field.fill(self._secret)
        self.tally.keys += 1
        await self._goes(self.tab.get_by_role("button", name="Sign in with the key"))

    async def _signs_in_beside(self) -> None:
        """Sign in in another tab, and come back to the form as it was filled in."""
        form = self.tab
        async with form.expect_popup() as opened:
            await self._clicks(form.get_by_role("link", name="Sign in in another tab"))
        self.tab = await opened.value
        await self._signs_in()
        await self.tab.close()
        self.tab = form
        await self._goes(form.get_by_role("button", name="Back to my form"))

    # --- hands

    async def _clicks(self, what: Any) -> None:
        self.tally.keys += 1
        await what.click()

    async def _goes(self, what: Any) -> None:
        """Click, and see the page that comes.

        Raises:
            SignedOut: It is that of the sign-in: the runtime was started again.
        """
        async with self.tab.expect_navigation():
            await self._clicks(what)
        if "/sign-in" in self.tab.url:
            raise SignedOut

    async def _sends(self) -> None:
        await self._goes(self.tab.get_by_role("button", name="Send answer"))

    async def _chooses(self, name: str, value: str) -> None:
        choice = self.tab.locator(f"""[name="f/{name}"][value='"{value}"']""")
        if not await choice.is_checked():
            await self._clicks(choice)

    async def _writes(self, field: Any, text: str) -> None:
        if not await field.evaluate("one => one === document.activeElement"):
            await self._clicks(field)
        self.tally.text += len(text)
        await self.tab.keyboard.insert_text(text)

    def _field(self, end: str) -> Any:
        return self.tab.locator(f'[name="f/{end}"]')

    # --- the hour

    async def works(self) -> None:
        """Answer what stands first, until nothing more is asked."""
        watch = self.tally.watch
        while True:
            watch.goes_on(Stage.FINDS)
            self._begins_wait()
            row = await self._first_row()
            if row is not None:
                number = await self._answers(row)
                watch.is_for(self.plan[number].kind)
                continue
            with watch.aside(Stage.IDLE):
                is_finished = await self.world.is_finished()
                await self.tab.reload()
            if is_finished:
                watch.goes_on(None)
                return

    async def _first_row(self) -> Any:
        """The first wait of the list that is the operator's to answer; None if there is none."""
        rows = self.tab.locator("#waits > li > a")
        texts = await rows.all_inner_texts()
        self.tally.shown |= {int(one) for one in re.findall(r"#(\d{3})", " ".join(texts))}
        at = next((n for n, text in enumerate(texts) if NOT_OURS not in text), None)
        return rows.nth(at) if at is not None else None

    async def _answers(self, row: Any) -> int:
        watch = self.tally.watch
        watch.goes_on(Stage.OPENS)
        await self._goes(row)
        found = re.search(r"#(\d{3})", await self.tab.locator("main").inner_text())
        assert found is not None, self.tab.url
        number = int(found[1])
        one = self.plan[number]
        await self.opened(number)
        while not OVER.search(await self.tab.locator("main").inner_text()):
            watch.goes_on(Stage.FILLS)
            try:
                await self._fills(one)
                watch.goes_on(Stage.SENDS)
                await self._sends()
                if KEPT in await self.tab.locator("main").inner_text():
                    await self._signs_in_beside()
                    await self._sends()
            except SignedOut:
                await self._signs_in()
        self._confirms(number)
        if one.fate is Fate.OPERATOR:
            await self.confirmed(number)
        watch.goes_on(Stage.FINDS)
        await self._goes(self.tab.get_by_role("link", name="Inbox", exact=True))
        return number

    async def _fills(self, one: Asked) -> None:
        answer = one.answer
        match one.task:
            case "review":
                await self._chooses("decision", answer["decision"])
                if answer.get("note"):
                    await self._writes(self._field("note"), answer["note"])
            case "talk":
                await self._writes(self.tab.locator('[name="f"]'), answer["reply"])
            case "refund":
                await self._writes(self._field("amount"), str(answer["amount"]))
                await self._chooses("reason", answer["reason"])
            case "order":
                await self._orders(answer)
            case _:
                await self._chooses("sign", answer["sign"])

    async def _orders(self, answer: Mapping[str, Any]) -> None:
        address = answer["address"]
        await self._writes(self._field("address/street"), address["street"])
        await self._writes(self._field("address/number"), str(address["number"]))
        for at, item in enumerate(answer["items"]):
            skus = self.tab.locator('input[name$="/sku"], textarea[name$="/sku"]')
            if await skus.count() <= at:
                await self._goes(self.tab.get_by_role("button", name="Add a row"))
            await self._writes(skus.nth(at), item["sku"])
            await self._writes(self.tab.locator('input[name$="/qty"]').nth(at), str(item["qty"]))
