"""`python -m tests.support.screenshots` draws docs/status-*.png anew, from the month that the tests use.

With `pngquant` on PATH the pictures have a third of the size.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from hubbackup.config.reader import of_scripts
from hubbackup.jobs.current import AtWork
from hubbackup.status.snapshot import Snapshot
from hubbackup.web.server import Login, StatusApp, StatusServer
from tests.support.hub_chantier import NOW, PARIS, Site, a_month

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parents[2] / "docs"
READER = of_scripts("./scripts/hubbackup")
ALIVE = (True, "the daemon is alive (heartbeat 12 s ago); next backup: 2026-02-09T03:00:00+01:00")


@dataclass
class Served:
    """A running status page; `snapshot`, `health` and `at_work` may be exchanged while it runs."""

    snapshot: Snapshot | None
    health: tuple[bool, str] = ALIVE
    port: int = 0
    at_work: tuple[AtWork, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(
    snapshot: Snapshot | None, login: Login | None = None, now: Callable[[], datetime] = lambda: NOW
) -> Iterator[Served]:
    """The real server with the real application, on a free port."""
    page = Served(snapshot)
    log = structlog.stdlib.get_logger()
    app = StatusApp(
        lambda: page.snapshot,
        lambda: page.health,
        log,
        login,
        now,
        lambda: page.at_work,
        typable=lambda: READER.typable,
    )
    with StatusServer(app, 0, host="127.0.0.1") as server:
        page.port = server.port
        yield page


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def an_outage(site: Site) -> Snapshot:
    """The database was stopped for two nights after the month."""
    later = [datetime(2026, 2, day, 3, 0, tzinfo=PARIS) for day in (9, 10)]
    for night in later:
        site.add_failure(night)
    return site.snapshot(later[-1] + timedelta(hours=6))


def a_run(**facts: Any) -> AtWork:
    """A backup that began two minutes ago and is in the middle of its dump."""
    known: dict[str, Any] = {
        "kind": "backup",
        "run_id": "20260208T080000-abcdef",
        "started_at": (NOW - timedelta(minutes=2)).isoformat(),
        "pid": 17,
        "process_start": 1,
        "stage": "dump",
        "step": "dump",
        "done_bytes": 396_000_000,
        "total_bytes": 529_000_000,
        "bytes_per_second": 3_300_000,
        "updated_at": NOW.isoformat(),
    }
    return AtWork(**{**known, **facts})


def main() -> None:
    """Five pictures."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        site = a_month(Path(name))
        with served(site.snapshot()) as page:
            for file, scheme, width in (("light", "light", 1100), ("dark", "dark", 1100), ("phone", "light", 390)):
                shoot(browser, page.url, DOCS / f"status-{file}.png", scheme, width)
            page.at_work = (a_run(),)
            shoot(browser, page.url, DOCS / "status-at-work.png", "light", 1100, height=620)
        snapshot = an_outage(site)
        with served(snapshot, now=lambda: snapshot.taken_at) as page:
            shoot(browser, page.url, DOCS / "status-outage.png", "light", 1100, height=720)


def shoot(browser: Browser, url: str, path: Path, scheme: str, width: int, height: int = 0) -> None:
    """One picture, of the whole page where `height` is 0."""
    tab = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=scheme)
    tab.goto(url)
    tab.screenshot(path=path, full_page=not height)
    tab.close()
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "128", "--force", "--ext", ".png", "--speed", "1", path], check=True)


if __name__ == "__main__":
    main()
