"""The status page in a real Chromium: it loads nothing else, fits a phone, follows the system's colours."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from hubbackup.status.snapshot import Snapshot
from hubbackup.web.page import RELOAD_SECONDS
from tests.support.hub_chantier import NOW, S3_TIMEOUT, Site, a_month
from tests.support.screenshots import DOCS, Served, a_run, an_outage, chromium, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

if not shutil.which("chromium"):  # never silently: .ci/provision installs it
    pytest.fail("there is no chromium: apt-get install chromium", pytrace=False)

LONG = "a_database_whose_name_is_sixty_three_characters_long_as_allowed"
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return a_month(tmp_path_factory.mktemp("month")).snapshot()


@pytest.fixture(scope="module")
def page(month: Snapshot) -> Iterator[Served]:
    with served(month) as running:
        yield running


@pytest.fixture
def worst(tmp_path: Path) -> Iterator[Served]:
    """Long and hostile names, everything broken."""
    site = Site(tmp_path, LONG)
    for _ in range(2):
        site.add_failure(NOW, cause=HOSTILE + "x" * 300)
    changes = f'"{"t" * 63}" +1, {HOSTILE} -3, 41 tables unchanged'
    site.add_backup(NOW, stores=("local",), problems=(S3_TIMEOUT,), warnings=("w" * 200,), changes=changes)
    site.add_run("drill", NOW, 10, 1, cause="y" * 300, name="z" * 200, store="s3")
    site.s3.down = "https://" + "s3." * 100
    with served(site.snapshot()) as running:
        running.at_work = (a_run(kind=HOSTILE, stage="s" * 200, step=HOSTILE),)
        yield running


class Tab:
    """A tab that notes what a page does beside showing."""

    def __init__(self, browser: Browser, width: int = 1100, scheme: str = "light") -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.tab: Page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        self.tab.on("console", lambda message: self.messages.append(message.text))
        self.tab.on("pageerror", lambda error: self.messages.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))

    def open(self, url: str) -> Page:
        self.tab.goto(url)
        return self.tab

    def is_too_wide(self) -> bool:
        return bool(self.tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def background(self, selector: str = "body") -> str:
        return str(self.tab.evaluate("s => getComputedStyle(document.querySelector(s)).backgroundColor", selector))


def test_it_renders_alone_and_without_a_complaint(browser: Browser, page: Served) -> None:
    """No error on the console, no request but the page and its icon, and the style is applied."""
    tab = Tab(browser)
    shown = tab.open(page.url)
    assert shown.title() == "All right. Backups of hub_chantier"
    assert shown.get_by_role("heading", level=1).inner_text() == "All right."
    assert shown.get_by_role("img", name="Size as stored over time").count() == 1
    assert tab.messages == []
    assert set(tab.requests) <= {f"{page.url}/", f"{page.url}/icon.svg"}
    assert tab.background(".verdict") == "rgb(227, 244, 231)"


def test_the_older_ones_unfold(browser: Browser, page: Served) -> None:
    """The table shows a week, the rest on demand, without any script."""
    shown = Tab(browser).open(page.url)
    assert shown.locator("table.backups tbody tr:not(.names):visible").count() == 7
    shown.get_by_text("24 older").click()
    assert shown.locator("table.backups tbody tr:not(.names):visible").count() == 31


def test_a_run_at_work_is_a_calm_line(browser: Browser, month: Snapshot) -> None:
    """Under the verdict, which stays as it is: what is at work, how far it is, and a bar; gone when it has ended."""
    with served(month) as page:
        page.at_work = (a_run(),)
        shown = Tab(browser).open(page.url)
        assert shown.get_by_role("heading", level=1).inner_text() == "All right."
        text = shown.locator(".work").inner_text()
        assert "A backup has been running since Sun 8 Feb, 09:02 (2 min ago)" in text
        assert "stage dump: 396.0 MB of about 529.0 MB at 3.3 MB/s, about 40 s left" in text
        assert shown.get_by_role("img", name="74 % done").count() == 1
        page.at_work = ()
        assert Tab(browser).open(page.url).locator(".work").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1100])
def test_nothing_scrolls_sideways(browser: Browser, page: Served, worst: Served, width: int) -> None:
    """From the smallest phone on, with a quiet month and with everything broken and long; also with all opened."""
    for url in (page.url, worst.url):
        tab = Tab(browser, width)
        shown = tab.open(url)
        assert not tab.is_too_wide()
        shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert not tab.is_too_wide()


def test_hostile_text_does_nothing(browser: Browser, worst: Served) -> None:
    """What a database's error says is shown, not run."""
    tab = Tab(browser)
    shown = tab.open(worst.url)
    assert shown.title().startswith("Action needed.")
    assert HOSTILE in shown.locator("main").inner_text()
    assert tab.messages == []
    assert set(tab.requests) <= {f"{worst.url}/", f"{worst.url}/icon.svg"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_axe_finds_nothing_serious(browser: Browser, page: Served, worst: Served, scheme: str, width: int) -> None:
    """By the rules of WCAG and of good practice that axe-core knows, with everything opened."""
    for served_page in (page, worst):
        shown = Tab(browser, width, scheme).open(served_page.url)
        shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = Axe().run(shown).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]


def refreshed(shown: Page) -> None:
    """Let the page's own script refresh it now, as it does by itself after some seconds."""
    shown.clock.run_for(RELOAD_SECONDS * 1000 + 1)
    shown.locator("main:not([data-seen])").wait_for()


def opened(browser: Browser, page: Served) -> tuple[Tab, Page]:
    """A tab whose clock the test winds, with a mark on what is shown: a refresh brings a page without it."""
    tab = Tab(browser)
    tab.tab.clock.install()
    shown = tab.open(page.url)
    shown.evaluate("document.querySelector('main').dataset.seen = 'yes'")
    return tab, shown


def test_a_refresh_keeps_what_was_opened(browser: Browser, month: Snapshot) -> None:
    """What is new is shown, in the title too; what was opened, focused and scrolled to stays as it is."""
    with served(month) as page:
        tab, shown = opened(browser, page)
        shown.get_by_text("24 older").click()
        summary = shown.locator("#older details summary").nth(3)
        name = summary.inner_text()
        summary.click()
        at = shown.evaluate("scrollY")
        page.health = (False, "it has gone")
        refreshed(shown)
        assert shown.title().startswith("Action needed.")
        assert shown.locator("#older[open]").count() == 1
        assert shown.locator("details[id^=of-][open] summary").all_inner_texts() == [name]
        assert shown.evaluate("document.activeElement.parentElement.id") == f"of-{name}"
        assert shown.evaluate("scrollY") >= at > 0
        assert shown.locator("details[open] code.command + button.copy").count() > 4
        assert tab.messages == []


def test_a_selection_is_left_alone(browser: Browser, month: Snapshot) -> None:
    """Whoever marks a text to copy it does not lose it to a refresh; the next one comes when it is let go."""
    with served(month) as page:
        _, shown = opened(browser, page)
        shown.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        shown.clock.run_for(RELOAD_SECONDS * 1000 + 1)
        assert shown.evaluate("document.querySelector('main').dataset.seen") == "yes"
        assert shown.evaluate("getSelection().toString()").strip() == "All right."
        shown.evaluate("getSelection().removeAllRanges()")
        refreshed(shown)


def test_a_server_that_has_gone_is_said(browser: Browser, month: Snapshot) -> None:
    """What is shown stays, and a line says that it is from before; gone when the server is back."""
    with served(month) as page:
        _, shown = opened(browser, page)
        known, page.snapshot = page.snapshot, None
        assert not shown.locator("#stale").is_visible()
        shown.clock.run_for(RELOAD_SECONDS * 1000 + 1)
        shown.locator("#stale").wait_for(state="visible")
        assert shown.get_by_role("heading", level=1).inner_text() == "All right."
        page.snapshot = known
        refreshed(shown)
        shown.locator("#stale").wait_for(state="hidden")


def test_a_command_is_copied(browser: Browser, month: Snapshot) -> None:
    """One click puts it on the clipboard, as it is typed on the host."""
    with served(month) as page:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        shown = context.new_page()
        shown.goto(page.url)
        row = shown.locator("details[id^=of-]").first
        name = row.locator("summary").inner_text()
        row.locator("summary").click()
        row.get_by_role("button", name="Copy").first.click()
        row.get_by_text("Copied").wait_for()
        assert shown.evaluate("navigator.clipboard.readText()") == f"./scripts/restore.sh {name}"
        context.close()


def test_without_scripts_the_page_is_whole(browser: Browser, page: Served) -> None:
    """Every command can be read and marked; nothing reloads by itself."""
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(page.url)
    row = shown.locator("details[id^=of-]").first
    row.locator("summary").click()
    assert "./scripts/restore.sh hub_chantier_backup_20260208_030000.sql.gz" in row.inner_text()
    assert shown.locator("ol.days li").count() == 30
    assert not shown.locator("#stale").is_visible()
    context.close()


LUMINANCE = """
selector => {
  const parse = text => text.match(/[0-9.]+/g).slice(0, 3).map(n => n / 255)
    .map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return [...document.querySelectorAll(selector)].filter(e => e.offsetParent).map(element => {
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)' && behind.parentElement)
      behind = behind.parentElement;
    const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
      .map(text => light(parse(text))).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}
"""


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(244, 245, 247)"), ("dark", "rgb(16, 19, 23)")])
def test_it_follows_the_systems_colours_and_can_be_read(
    browser: Browser, page: Served, worst: Served, scheme: str, background: str
) -> None:
    """Dark and light by preference, and every text has WCAG's contrast of 4.5 in both."""
    for url in (page.url, worst.url):
        tab = Tab(browser, scheme=scheme)
        shown = tab.open(url)
        assert tab.background() == background
        contrasts = shown.evaluate(LUMINANCE, "h1,h2,h3,p,dt,dd,th,td,li,time,.soft,.note,summary,figcaption")
        assert len(contrasts) > 50
        assert min(contrasts) >= 4.5


def test_the_verdict_is_not_told_by_colour_alone(browser: Browser, tmp_path: Path, page: Served) -> None:
    """Green and red differ in word and in shape."""
    site = a_month(tmp_path, days=9)
    outage = an_outage(site)
    with served(outage, now=lambda: outage.taken_at) as red:
        shown = Tab(browser).open(red.url)
        assert shown.get_by_role("heading", level=1).inner_text() == "Action needed."
        assert "A backup of hub_chantier was due" in shown.locator(".findings").inner_text()
        assert shown.locator(".verdict > .symbol rect").count() == 1
    assert Tab(browser).open(page.url).locator(".verdict > .symbol circle").count() == 1


@pytest.mark.parametrize("name", ["light", "dark", "phone", "outage", "at-work"])
def test_the_documents_pictures_are_there_and_small(name: str) -> None:
    """`python -m tests.support.screenshots` draws them anew; a page of documents must not weigh a megabyte."""
    data = (DOCS / f"status-{name}.png").read_bytes()
    assert len(data) < 150_000
    width, height = struct.unpack(">II", data[16:24])
    assert (width in (390, 1100), height > 600) == (True, True)
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]
