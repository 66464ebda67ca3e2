"""Makes the pictures of the status page in ``docs/images`` anew: ``python -m tests.browser.screenshots``."""

from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, served
from tests.browser.exhibit import calm

_FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """One in light and one in dark."""
    _FOLDER.mkdir(exist_ok=True)
    with served(calm()) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme, name in (("light", "status-page.png"), ("dark", "status-page-dark.png")):
            page = browser.new_page(
                viewport={"width": 1180, "height": 1000}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page.goto(url)
            page.screenshot(path=_FOLDER / name)
        browser.close()


if __name__ == "__main__":
    main()
