"""`hubbackup doctor`."""

from __future__ import annotations

from dataclasses import asdict, replace

from rich.table import Table
from rich.text import Text

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.remedies import typable
from hubbackup.cli.session import make_app
from hubbackup.cli.table import cell, print_table
from hubbackup.doctor import all_checks, examine
from hubbackup.doctor.site import Site
from hubbackup.errors import EXIT_FAILED, EXIT_SUCCESS

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def doctor(json: Json = False) -> int:
    """Try everything that a backup needs, and say what to fix.

    Exit code 0, or 1 where a check fails.
    """
    site = Site(make_app())
    findings = [
        replace(one, sentence=typable(one.sentence), remedy=typable(one.remedy))
        for one in examine(site, all_checks(site))
    ]
    counts = {status: sum(finding.status == status for finding in findings) for status in COLOURS}
    code = EXIT_FAILED if counts["fail"] else EXIT_SUCCESS
    if json:
        print_json({"exit_code": code, "counts": counts, "findings": [asdict(finding) for finding in findings]})
        return code
    table = Table("CHECK", "", "FOUND", box=None, pad_edge=False)
    for finding in findings:
        found = cell(finding.sentence)
        if finding.remedy:
            found.append(f"\nwhat to do: {cell(finding.remedy).plain}", style="italic")
        table.add_row(finding.name, Text(finding.status.upper(), style=COLOURS[finding.status]), found)
    print_table(table)
    say(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures, {counts['skipped']} skipped")
    return code
