"""`hubbackup doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> int:
    """Try for real all that a backup needs, and say what to do about each failure: exit code 0 or 1."""
    from dataclasses import asdict

    from hubbackup.cli.common import make_app, print_json, print_table
    from hubbackup.doctor import all_checks, examine
    from hubbackup.doctor.site import Site

    site = Site(make_app())
    findings = list(examine(site, all_checks(site)))
    counts = {status: sum(finding.status == status for finding in findings) for status in COLOURS}
    code = 1 if counts["fail"] else 0
    if json:
        print_json({"exit_code": code, "counts": counts, "findings": [asdict(finding) for finding in findings]})
        return code
    from rich.table import Table
    from rich.text import Text

    table = Table("CHECK", "", "FOUND", box=None, pad_edge=False)
    for finding in findings:
        found = Text(finding.sentence)
        if finding.remedy:
            found.append(f"\nwhat to do: {finding.remedy}", style="italic")
        table.add_row(finding.name, Text(finding.status.upper(), style=COLOURS[finding.status]), found)
    print_table(table)
    print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures, {counts['skipped']} skipped")
    return code
