"""The pictures of pages in the docs show what the pages say; HELMR_UPDATE_GOLDENS=1 draws them again.

What a page says is kept beside this test, its times left out: the picture is drawn again when that changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.browsing import MARKS, chromium, tab_of
from tests.http.test_inbox import FINANCE, REGISTRY, asked
from tests.http.test_people import as_person, personal
from tests.service.stack import Stack

SAID = Path(__file__).with_name("page_pictures")
TIMES = re.compile(
    r"\d+ \w+ \d{4}, \d\d:\d\d UTC|\(in [\dhms ]+\)|\(?just now\)?|\(?\d+[hms]\b( \d+[ms]\b)? ago\)?"
)
BODY = (
    "The customer was charged **twice** for order `4711`.\n\n"
    "| order | charged |\n|---|---|\n| 4711 | 620.00 EUR |\n| 4711 | 620.00 EUR |"
)

pytestmark = [*MARKS, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY)
    finance = {"groups": ["finance"]}
    people = read_people({"ada": finance, "bo": finance}, "helmr.toml")
    stack.service = stack.make_service(people=people)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start()
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


async def is_as_drawn(project_root: Path, tab: Any, name: str, **options: Any) -> None:
    """The page says what its picture shows."""
    said = TIMES.sub("…", await tab.locator("body").inner_text()).strip() + "\n"
    path = SAID / f"{name}.txt"
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        path.write_text(said, encoding="utf-8")
        image = project_root / "docs/images" / f"{name}.png"
        await tab.screenshot(path=str(image), **options)
    assert said == path.read_text(encoding="utf-8")


async def test_the_pictures_show_what_the_pages_say(project_root: Path, stack: Stack) -> None:
    refund = await asked(
        stack,
        "Refund of 1,240.00 EUR to Ada Lovelace",
        body=BODY,
        facts={"order": "4711", "amount": 1240, "refunds this year": 0},
        timeout="2h",
        priority="high",
        answerers=FINANCE,
        approvals=2,
        comments=["note"],
        initial={"decision": "approve"},
    )
    notes = await asked(stack, "Publish the release notes of 2.4?", timeout="5h")
    await asked(stack, "Merge the schema change of the billing service?", assignee="ada")
    agreed = await (await as_person(stack, "bo")).post(
        f"/v1/waits/{refund}/answer", json={"data": {"decision": "approve"}}
    )
    assert agreed.status_code == 200, agreed.text
    link = (await stack.http.post(f"/v1/waits/{notes}/links", json={"person": "Ada"})).json()
    secret = (await personal(stack, "ada"))["secret"]
    async with chromium() as browser:
        for name, options, how in (
            ("inbox", {"viewport": {"width": 900, "height": 640}}, {}),
            (
                "inbox-phone",
                {
                    "viewport": {"width": 390, "height": 844},
                    "device_scale_factor": 2,
                    "color_scheme": "dark",
                },
                {"full_page": True},
            ),
        ):
            tab = await tab_of(browser, stack.url, java_script_enabled=False, **options)
            await tab.goto("/inbox")
            await tab.get_by_label("Your personal key").fill(secret)
            await tab.get_by_role("button", name="Sign in with the key").click()
            if name == "inbox-phone":
                await tab.goto(f"/inbox/{refund}")
            await is_as_drawn(project_root, tab, name, **how)
        tab = await tab_of(
            browser, stack.url, java_script_enabled=False, viewport={"width": 480, "height": 900}
        )
        await tab.goto(urlsplit(link["url"]).path)
        await is_as_drawn(project_root, tab, "answer-page", full_page=True)
