"""The status page in a real browser: what people see and do, and what nobody can do to them."""

import re
from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import ELSEWHERE, Site, Visiting
from tests.browser.exhibit import hostile
from tests.ops.support import LINE, Printed

ONE: Final = "/automations/main/0192c4e8-5f0e-7c3a-9d1b-000000000001"
INVALID: Final = "/automations/eu/0192c4e8-5f0e-7c3a-9d1b-0000000000c8"
EVIL: Final = f"/automations/main/{next(hostile()).id}"
PAGES: Final = ["/", "/occurrences", "/automations", ONE, INVALID, EVIL]
WRONG: Final = "/occurrences?outcome=done&since=yesterday&colour=%3Cb%3Ered"
LOOK_NOW: Final = "document.dispatchEvent(new Event('visibilitychange'))"
"""What happens when somebody comes back to the page: it asks at once, and not only when its time has come."""
NEW: Final = {
    **LINE,
    "name": "brand new",
    "scheduled_for": "2026-03-27T08:41:00Z",
    "outcome": "skipped",
    "reason": "overlap",
}

CONTRASTS: Final = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.slice(0, 3).map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility() || element.closest("option, title, desc, .unseen")) continue;
    const style = getComputedStyle(element);
    const ink = channels(element instanceof SVGElement ? style.fill : style.color);
    const [one, two] = [light(ink), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)} (${element.className})`);
  }
  return poor;
}"""


# ------------------------------------------------------------ nothing runs, and nothing is asked for
# elsewhere


def test_no_page_does_what_its_policy_forbids_or_asks_anybody_else(site: Site, visiting: Visiting) -> None:
    visit = visiting("about:blank")
    for path in PAGES:
        visit.page.goto(site.url + path)
        with visit.page.expect_response(site.url + path):
            visit.page.evaluate(LOOK_NOW)
        expect(visit.page.locator("h1")).to_be_visible()
        assert visit.wrong == [], path
        assert visit.page.title() != "owned"
    assert len(visit.asked) > 2 * len(PAGES)
    assert all(each.startswith(f"{site.url}/") for each in visit.asked[1:])


def test_names_that_are_hostile_are_only_text(site: Site, visiting: Visiting) -> None:
    visit = visiting(site.url + EVIL)
    assert (
        visit.page.locator("h1")
        .inner_text()
        .startswith('<script>document.title="owned"</script><img src=x onerror=alert(1)>"')
    )
    assert "\\u202egnp.exe\\u200b\\n\\x1b[31m" in visit.page.locator("h1").inner_text()
    assert visit.page.locator("main script, main img, main [onmouseover], main [style]").count() == 0
    visit.page.locator("h1").hover()
    assert visit.wrong == []


def test_a_page_under_another_name_is_refused(site: Site, visiting: Visiting) -> None:
    visit = visiting(site.url.replace("127.0.0.1", ELSEWHERE))
    assert "this server is not called" in visit.page.content()
    assert "nightly report" not in visit.page.content()


# ------------------------------------------------------------ it keeps itself up to date


def test_what_is_new_comes_in_without_losing_what_somebody_types(
    site: Site, visiting: Visiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visiting(f"{site.url}/occurrences").page
    page.evaluate("window.same = true")
    page.get_by_label("Automation", exact=True).press_sequentially("night")
    monkeypatch.setattr(site.recorded, "lines", (NEW, *site.recorded.lines))
    page.evaluate(LOOK_NOW)
    expect(page.get_by_text("brand new")).to_be_visible()
    page.keyboard.type("ly")
    expect(page.get_by_label("Automation", exact=True)).to_have_value("nightly")
    assert page.evaluate("window.same")


def test_focus_scroll_and_what_is_unfolded_stay_where_they_are(
    site: Site, visiting: Visiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visiting(site.url).page
    page.get_by_text("The coming day as a table").click()
    page.locator("#last tbody a").last.focus()
    before = page.evaluate(
        "[window.scrollY, document.activeElement.href, document.activeElement.textContent]"
    )
    monkeypatch.setattr(site.recorded, "lines", (NEW, *site.recorded.lines))
    page.evaluate(LOOK_NOW)
    expect(page.get_by_text("brand new")).to_be_visible()
    assert before[0] > 0
    assert (
        page.evaluate("[window.scrollY, document.activeElement.href, document.activeElement.textContent]")
        == before
    )
    assert page.evaluate("document.getElementById('day-table').open")


def test_an_output_shows_its_end_and_stays_where_somebody_reads(
    site: Site, visiting: Visiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visiting(site.url + ONE).page
    output = page.get_by_role("region", name="Output of the newest run")
    shown = (
        "([output]) => [output.getBoundingClientRect().bottom, "
        "output.querySelector('bdi:last-of-type').getBoundingClientRect().bottom]"
    )
    bottom, last = page.evaluate(shown, [output.element_handle()])
    assert 0 < bottom - last < 40, "the newest line is at the bottom"
    output.evaluate("(output) => { output.scrollTop = -200; output.focus(); }")
    assert isinstance(site.pages.run_output, Printed)
    monkeypatch.setattr(site.pages.run_output, "text", f"{site.pages.run_output.text}\nbrand new\n")
    page.evaluate(LOOK_NOW)
    expect(output).to_contain_text("brand new")
    assert output.evaluate("(output) => [output.scrollTop, document.activeElement === output]") == [
        -200,
        True,
    ]


def test_what_somebody_has_selected_is_not_taken_away(
    site: Site, visiting: Visiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visiting(site.url).page
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#last tbody td.error div'))")
    selected = page.evaluate("String(getSelection())")
    monkeypatch.setattr(site.recorded, "lines", (NEW, *site.recorded.lines))
    with page.expect_response(f"{site.url}/"):
        page.evaluate(LOOK_NOW)
    page.evaluate(LOOK_NOW)
    assert len(selected) > 9
    assert page.evaluate("String(getSelection())") == selected
    page.evaluate("getSelection().removeAllRanges()")
    page.evaluate(LOOK_NOW)
    expect(page.get_by_text("brand new")).to_be_visible()


def test_it_asks_every_ten_seconds_and_not_while_nobody_looks(site: Site, visiting: Visiting) -> None:
    visit = visiting("about:blank")
    visit.page.clock.install()
    visit.page.goto(site.url)
    with visit.page.expect_request(f"{site.url}/"):
        visit.page.clock.run_for(10_000)
    visit.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    before = len(visit.asked)
    visit.page.clock.run_for(60_000)
    assert len(visit.asked) == before


def test_a_daemon_that_does_not_answer_is_said_so_until_it_does_again(site: Site, visiting: Visiting) -> None:
    visit = visiting(site.url)
    with visit.page.expect_response(f"{site.url}/"):
        visit.page.evaluate(LOOK_NOW)
    visit.page.route("**/*", lambda route: route.abort())
    visit.page.evaluate(LOOK_NOW)
    note = visit.page.get_by_role("alert").filter(has_text="Not reached since 2")
    expect(note).to_be_visible()
    expect(note).to_contain_text("What is shown is as of then; it is tried again.")
    visit.page.unroute("**/*")
    visit.page.evaluate(LOOK_NOW)
    expect(note).to_be_hidden()


def test_a_change_for_the_worse_is_told_to_who_cannot_see_it(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url).page
    assert page.locator("#said").inner_text() == ""
    page.evaluate("document.querySelector('[data-said]').textContent = 'Ready'")  # as if it had been so
    page.evaluate(LOOK_NOW)
    expect(page.locator("#said")).to_contain_text("Not ready: Target lab is held")


# ------------------------------------------------------------ without JavaScript


def test_all_of_it_works_without_javascript(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url, script=False).page
    assert (
        page.locator("noscript meta[http-equiv=refresh]").count()
        + page.locator("meta[http-equiv=refresh]").count()
        > 0
    )
    page.get_by_role("link", name="Occurrences", exact=True).click()
    page.get_by_label("Outcome", exact=True).select_option("rejected")
    page.get_by_label("Automation", exact=True).fill("night*")
    page.get_by_role("button", name="Show").click()
    assert "automation=night*" in page.url.replace("%2A", "*")
    expect(page.get_by_label("Automation", exact=True)).to_have_value("night*")
    assert page.locator("meta[http-equiv=refresh]").count() == 0  # somebody is typing here
    page.get_by_role("link", name="Older").click()
    assert "offset=50" in page.url


# ------------------------------------------------------------ how it looks


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_enough_contrast_and_dark_is_dark(site: Site, visiting: Visiting, dark: bool) -> None:
    page = visiting("about:blank", dark=dark).page
    for path in (*PAGES, WRONG):
        page.goto(site.url + path)
        assert page.evaluate(CONTRASTS) == [], path
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 3 * 128) is dark


def test_nothing_is_wider_than_a_phone(site: Site, visiting: Visiting) -> None:
    page = visiting("about:blank", width=360).page
    for path in (*PAGES, WRONG):
        page.goto(site.url + path)
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        for width in (360, 320):
            page.set_viewport_size({"width": width, "height": 800})
            shown, available = page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert shown <= available == width, path


# ------------------------------------------------------------ keyboard and screen reader


def focused(page: Page) -> dict[str, Any]:
    page.keyboard.press("Tab")
    found: dict[str, Any] = page.evaluate(
        """() => { const it = document.activeElement, style = getComputedStyle(it);
        return {what: it.id || it.textContent.trim(),
                ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
                top: it.getBoundingClientRect().top + scrollY}; }"""
    )
    return found


def test_the_first_key_leads_past_the_menu(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url).page
    assert focused(page)["what"] == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_keyboard_reaches_every_field_and_link_in_order_and_shows_where_it_is(
    site: Site, visiting: Visiting
) -> None:
    page = visiting(f"{site.url}/occurrences").page
    seen = [focused(page) for _ in range(24)]
    names = [each["what"] for each in seen]
    fields = ["automation", "target", "outcome", "run_status", "since", "until"]
    wanted = ["Skip to the content", "Overview", "Occurrences", "Automations", *fields, "Show"]
    assert list(dict.fromkeys(names))[: len(wanted)] == wanted
    assert [each["what"] for each in seen if not each["ring"]] == []
    tops = [each["top"] for each in seen[1:]]
    assert tops == sorted(tops)


def test_a_screen_reader_finds_its_way(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url).page
    landmarks: tuple[Literal["banner", "main", "contentinfo"], ...] = ("banner", "main", "contentinfo")
    for role in landmarks:
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("navigation", name="Pages")).to_have_count(1)
    headings = [each.inner_text() for each in page.get_by_role("heading", level=2).all()]
    assert headings == [
        "Problems and remedies",
        "Next fires",
        "Open occurrences",
        "Newest occurrences",
        "Targets",
    ]
    for heading in headings:
        expect(page.get_by_role("region", name=heading)).to_have_count(1)
    for name in ("The next fires", "The newest occurrences"):
        expect(page.get_by_role("table", name=name)).to_have_count(1)
    for name in ("What fires in the coming hour", "What fires in the coming day"):
        expect(page.get_by_role("img", name=name)).to_have_count(1)


def test_rows_and_cells_are_such_also_where_they_look_like_cards(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url).page
    table = page.get_by_role("table", name="The newest occurrences")
    assert table.get_by_role("cell").count() == 12 * 8
    page.set_viewport_size({"width": 360, "height": 800})
    assert table.get_by_role("row").count() == 13
    assert table.get_by_role("columnheader").count() == 8
    assert 12 * 5 < table.get_by_role("cell").count() < 12 * 8  # what is empty has no place on a card


def test_a_drawing_says_the_same_as_its_table(site: Site, visiting: Visiting) -> None:
    page = visiting(site.url).page
    page.get_by_text("The coming day as a table").click()
    rows = page.locator("#day-table td.number").all_inner_texts()
    drawn = page.locator("figure:has(#day-table) figcaption").inner_text()
    fires, paused = re.findall(r"([0-9]+) fires of .* ([0-9]+) more are paused", drawn)[0]
    assert sum(map(int, rows)) == int(fires) + int(paused)
    assert len(rows) > 8


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 360)], ids=["light", "dark on a phone"])
def test_axe_finds_nothing_that_keeps_anybody_out(
    dark: bool, width: int, site: Site, visiting: Visiting
) -> None:
    visit = visiting("about:blank", dark=dark, width=width, policy=False)  # axe is a script from elsewhere
    for path in [*PAGES, WRONG]:
        visit.page.goto(site.url + path)
        found = Axe().run(visit.page).response["violations"]
        assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == [], path


def test_axe_would_find_what_keeps_somebody_out(site: Site, visiting: Visiting) -> None:
    visit = visiting(site.url + "/occurrences", policy=False)
    visit.page.evaluate(
        "document.querySelectorAll('label').forEach((each) => each.replaceWith(...each.childNodes))"
    )
    assert "label" in {each["id"] for each in Axe().run(visit.page).response["violations"]}
