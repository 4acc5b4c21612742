"""`python -m tests.support.examples` makes docs/doctor.svg and docs/alert-example.txt anew, from real runs.

An embedded PostgreSQL whose role refuses the password: what the doctor says of it, and the alert of the backup that
failed, as a mail server has received it.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Program, for_server
from tests.support.sample import SMALL
from tests.support.screenshots import DOCS
from tests.support.sinks import mail_sink
from tests.support.terminal import on_terminal

COLUMNS = 150
AS_IN_THE_STACK = {"HUBBACKUP_CALLED_AS": "./scripts/hubbackup", "HUBBACKUP_IN_CONTAINER": "yes"}
FONTS = re.compile(r"@font-face {.*?}\n", re.DOTALL)
"""Fetched from elsewhere, and not needed."""
BACKUPS = "/var/backups/hub-chantier"


def main() -> None:
    """Both."""
    with EmbeddedPostgres(16) as server, tempfile.TemporaryDirectory() as name, mail_sink() as mail:
        server.create_database(DATABASE)
        server.psql(SMALL, database=DATABASE)
        settings = {"TZ": "Europe/Paris", "NOTIFICATION_HOST": "srv1", **AS_IN_THE_STACK}
        application = Path(name) / "config"
        (application / "scripts").mkdir(parents=True)
        (application / "scripts" / "hubbackup").touch()
        program = for_server(
            server, DATABASE, Path(name), **settings, BACKUP_ENV_FILE=str(application / ".env.production")
        )
        (application / ".env.production").touch()
        program.backup()
        wrong = {"POSTGRES_PASSWORD": "not-the-password"}
        write_svg(on_terminal(program, "doctor", columns=COLUMNS, **wrong).written, program)
        program.run("backup", NOTIFICATION_URLS=mail.apprise_url, **wrong)
        (raw,) = mail.raw
    headers = (
        "Content-Type",
        "MIME-Version",
        "Content-Transfer",
        "X-App",
        "Subject",
        "From",
        "To",
        "Message",
        "Date",
    )
    text = raw.decode().replace("\r\n", "\n")
    kept = [line for line in text.splitlines() if not line.startswith("X-Peer")]
    assert kept[0].startswith(headers)
    (DOCS / "alert-example.txt").write_text("\n".join(kept).rstrip() + "\n", encoding="utf-8")


def write_svg(written: str, program: Program) -> None:
    """What stood on the terminal, as a picture of one."""
    shown = written.replace(str(program.backups), BACKUPS).replace("\r", "")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ ./scripts/hubbackup doctor")
    console.print(Text.from_ansi(shown.rstrip()))
    svg = FONTS.sub("", console.export_svg(title="hubbackup doctor", unique_id="doctor"))
    (DOCS / "doctor.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
