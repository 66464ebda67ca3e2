"""The status page of a daemon that really runs, as somebody sees it who tries the demo."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from scheduler.app import state_directory
from tests.browser.conftest import Visiting
from tests.operated import Place, place


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


def test_the_demo_has_its_page(here: Place, visiting: Visiting, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, port in (("_API_PORT", here.api_port), ("_SERVER_PORT", here.server_port)):
        monkeypatch.setattr(state_directory, name, port)
    state_directory.prepare_folder(here.folder / "state")
    running = here.start("up", "--demo", options=("--state-dir", str(here.folder / "state")))
    running.told("automation.added")
    visit = visiting(f"http://127.0.0.1:{here.server_port}/")
    page = visit.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Ready")
    expect(page.get_by_role("article")).to_contain_text("1 enabled")
    page.get_by_role("table", name="The next fires").get_by_role("link", name="demo").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("demo")
    expect(page.get_by_text(re.compile("^Every minute"))).to_be_visible()
    expect(page.get_by_text("None: the clock of UTC stays as it is.")).to_be_visible()
    page.get_by_role("link", name="Automations", exact=True).click()
    expect(page.get_by_role("row")).to_have_count(2)
    assert visit.wrong == []
    assert running.stop() == 0
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert")).to_contain_text(
        "Not reached since this page was opened (no connection)."
    )
