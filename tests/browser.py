"""Pages in a real browser, Chromium without a window, and what they say and ask for there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
DRAWN = "() => document.querySelectorAll('[data-chart]:not([data-live])').length === 0"


@dataclass
class Visit:
    """A page that is open, all that its console said, and every address that it asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def see_all(self) -> None:
        """Open what is folded and scroll past every chart, until all are live."""
        self.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        for chart in self.page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
        self.page.wait_for_function(DRAWN, timeout=20_000)

    def number(self, script: str) -> float:
        """What a script returns."""
        return float(self.page.evaluate(script))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; its tests are skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("skipped: no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(
    chromium: Browser, path: Path, width: int = 1280, dark: bool = False, scripts: bool = True
) -> Iterator[Visit]:
    """Open a file without a network."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        offline=True,
    )
    page = context.new_page()
    seen = Visit(page)
    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    page.on("request", lambda request: seen.asked.append(request.url))
    page.goto(path.resolve().as_uri())
    yield seen
    context.close()
