"""A real browser for tests of pages: Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.service.stack import BOUND_S

CHROMIUM = shutil.which("chromium")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser; each of its contexts has cookies of its own."""
    async_api = pytest.importorskip("playwright.async_api", reason="needs playwright")
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        await browser.close()


async def tab_of(browser: Any, url: str, **options: Any) -> Any:
    """A tab of a fresh context; relative addresses are below the URL."""
    size = {"width": 1200, "height": 800}
    context = await browser.new_context(base_url=url, **{"viewport": size, **options})
    tab = await context.new_page()
    tab.set_default_timeout(BOUND_S * 1000)
    return tab
