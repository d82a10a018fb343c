"""A browser, and a page in it that shows the console of a gateway on the stage's runtime."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from sojourn.gateway import Gateway, GatewayOptions, serving
from sojourn.gateway.error import GatewayError
from sojourn.gateway.principal import SCOPES, Principal

PATIENCE_MS = 45_000
"""Longest wait for anything in the page."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


def _chromium() -> str:
    """Path of the browser. CI installs one; elsewhere its tests are left out without it."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        told = "no Chromium for the console's tests; on Debian: apt-get install chromium, elsewhere set CHROMIUM=PATH"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
    return found


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Browser, None]:
    path = _chromium()
    # What it keeps (crash reports, settings) goes away with the run.
    home = str(tmp_path_factory.mktemp("browser"))
    environment: dict[str, str | float | bool] = {**os.environ, "HOME": home}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=_FLAGS, env=environment, timeout=PATIENCE_MS
        )
        yield browser
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                await browser.close()


class Line:
    """The network between browser and gateway."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End every connection and take no more."""
        self._is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Only after the browser is gone."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        both = {writer, far_writer}
        self._open |= both
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._open -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Desk:
    """Where someone sits before the console."""

    def __init__(self, page: Page, url: str, line: Line, stage: Any) -> None:
        self.page = page
        self.url = url
        self.line = line
        self.stage = stage
        self.activity: Locator = page.locator(".activity")
        self.state: Locator = page.locator(".head .state")

    async def knock(self, key: str) -> None:
        """Offer a key."""
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()

    async def sign_in(self) -> None:
        await self.page.goto(self.url)
        await self.knock("ada")
        await expect(self.page.get_by_role("navigation", name="Sessions")).to_be_attached()

    async def enter(self, probe: Any, *, title: str | None = None) -> None:
        """Sign in and open a session from the list."""
        await self.sign_in()
        title = title or (await probe.session.info()).title
        await self.page.get_by_role("link", name=title).click()
        await expect(self.page.get_by_role("log", name="Transcript")).to_be_visible()

    async def filter(self, name: str) -> None:
        await self.page.get_by_role("group", name="Show").get_by_role("button", name=name).click()

    async def say(self, text: str) -> None:
        await self.page.get_by_label("Message to the agent").fill(text)
        await self.page.get_by_role("button", name="Send", exact=True).click()

    async def more(self, name: str) -> None:
        """Choose from the menu."""
        await self.page.get_by_text("More", exact=True).click()
        await self.page.get_by_role("button", name=name).click()

    def call(self, name: str) -> Locator:
        """Calls of a tool in the transcript."""
        return self.page.locator("article.call", has=self.page.locator(".tool", has_text=name))

    async def environment(self) -> None:
        """Make one, as an operator does once."""
        made = await self.page.request.post(
            f"{self.url}v1/environments", headers={"x-api-key": "ada"}, data={"name": "home"}
        )
        assert made.ok, await made.text()

    async def fits(self) -> None:
        """Nothing reaches over the side of the window."""
        over = """() => [...document.querySelectorAll('body *')]
            .filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth + 1)
            .filter((node) => !node.closest('pre, .unseen, .gist, [class~=title], .model, h1, .facts, .tool'))
            .map((node) => node.outerHTML.slice(0, 120))"""
        assert await self.page.evaluate(over) == []
        assert await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    async def outline(self) -> str:
        """Style of the ring around what has the focus."""
        return str(await self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))


class _Keys:
    def __init__(self, table: Mapping[str, Principal]) -> None:
        self._table = table

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        given = headers.get("x-api-key", "")
        if given not in self._table:
            raise GatewayError(401, "unknown key")
        return self._table[given]


@pytest.fixture
async def desk(browser: Browser, stage: Any) -> AsyncGenerator[Desk, None]:
    """A new window on the console of a gateway. Keys: ``ada``, and ``reader``, which may only read."""
    owner = stage.owner
    keys = {
        "ada": Principal("key_ada", owner.workspace, owner.user, frozenset(SCOPES)),
        "reader": Principal("key_reader", owner.workspace, owner.user, frozenset({"read"})),
    }
    gateway = Gateway(stage.runtime, _Keys(keys), GatewayOptions(ui_url="http://ui.example:8233/"))
    listener = socket.create_server(("127.0.0.1", 0))
    line = Line(listener.getsockname()[1])
    async with serving(gateway, listener, grace=timedelta(seconds=1)), AsyncExitStack() as stack:
        entrance = await line.serve()
        stack.push_async_callback(line.close)
        stack.callback(entrance.close)
        page, faults = await _window(browser, stack)
        yield Desk(page, f"http://127.0.0.1:{entrance.sockets[0].getsockname()[1]}/", line, stage)
        assert faults == []


async def _window(browser: Browser, stack: AsyncExitStack) -> tuple[Page, list[str]]:
    """A page without a past, and what goes wrong in it: errors, and what the security policy has stopped."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    stack.push_async_callback(context.close)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security" in message.text else None)
    return page, faults
