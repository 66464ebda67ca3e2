"""A real browser, one for a module, looking at pages that are really served."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from scheduler.ops.http_server import HttpServer
from scheduler.ops.web import ProgramRoutes, build_app
from tests.browser.exhibit import exhibit
from tests.ops.support import Recorded

CHROMIUM: Final = Path("/usr/bin/chromium-headless-shell")
_VIOLATIONS: Final = (
    "document.addEventListener('securitypolicyviolation', each => console.error('policy: ' + "
    "each.violatedDirective))"
)
ELSEWHERE: Final = "rebound.example.com"
"""A name that leads to this machine and is not one of its own."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for longer: Playwright has a loop running in this thread meanwhile, beside which no other test
    could run one.
    """
    if not CHROMIUM.exists():
        pytest.skip("needs a browser: apt-get install chromium-headless-shell fonts-dejavu-core")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@contextmanager
def served(pages: ProgramRoutes) -> Iterator[str]:
    """Where they can be had, from a loop and a thread of their own."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address = ""

    async def serve() -> None:
        nonlocal address
        async with HttpServer(
            build_app(pages, listen="127.0.0.1:0"), "127.0.0.1:0", setting="a test"
        ) as serving:
            address = serving.address
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"http://{address}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Site:
    """What is served, and where."""

    url: str
    pages: ProgramRoutes

    @property
    def recorded(self) -> Recorded:
        """What the ledger has, to be added to."""
        assert isinstance(self.pages.occurrences, Recorded)
        return self.pages.occurrences


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    pages = exhibit(hostile_too=True)
    with served(pages) as url:
        yield Site(url, pages)


@dataclass
class Visit:
    """A page in the browser, with all that went wrong there, and everything that it asked for."""

    page: Page
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(_VIOLATIONS)
        self.page.on(
            "console",
            lambda message: self.wrong.append(message.text) if message.type in {"error", "warning"} else None,
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(dialog.message)
        dialog.dismiss()


Visiting = Callable[..., Visit]


@pytest.fixture
def visiting(browser: Browser) -> Iterator[Visiting]:
    """Opens pages; each with a context of its own, which may be dark, small, without JavaScript, or without
    the pages' own policy.
    """
    contexts: list[BrowserContext] = []

    def visit(
        url: str, *, dark: bool = False, width: int = 1280, script: bool = True, policy: bool = True
    ) -> Visit:
        context = browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 800},
            java_script_enabled=script,
            bypass_csp=not policy,
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        visited = Visit(context.new_page())
        visited.page.goto(url)
        return visited

    yield visit
    for each in contexts:
        each.close()
