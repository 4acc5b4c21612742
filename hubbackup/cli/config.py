"""`hubbackup config`."""

from __future__ import annotations

import shlex

from rich.table import Table

from hubbackup.app.manifest_key import KEY_FILE
from hubbackup.app.state import State
from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.table import cell, print_table
from hubbackup.cli.terminal import print_warnings
from hubbackup.config.load import LoadedSettings, load_settings
from hubbackup.config.reader import CONTAINER, in_container


def config(json: Json = False) -> int:
    """Show every setting in effect, and where it came from.

    Secrets are hidden.
    """
    loaded = load_settings()
    print_warnings(loaded.warnings)
    if json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in loaded.rows()})
        return 0
    table = Table("SETTING", "VALUE", "FROM", box=None, pad_edge=False)
    for row in loaded.rows():
        table.add_row(*map(cell, row))
    print_table(table)
    say("", *about_the_key(loaded))
    return 0


def about_the_key(loaded: LoadedSettings) -> list[str]:
    """Where the key of the manifests is, and the command that carries it to another server; never the key."""
    name = "BACKUP_MANIFEST_KEY"
    if loaded.settings.backup_manifest_key.get_secret_value():
        origin = loaded.origins[name]
        return [f"manifests are signed with {name} ({origin}). To carry it to another server, set it there too."]
    path = State(loaded.settings.backup_dir).home / KEY_FILE
    try:
        there = "is" if path.exists() else "will be, from the first start or backup on,"
    except PermissionError:
        there = "is, or will be,"
    read = f"docker exec {CONTAINER} cat" if in_container() else "sudo cat"
    return [
        f"manifests are signed with a key that {there} in {path}. Keep a copy of it outside this server.",
        "To carry it to another server, type there, beside its .env.production:",
        f"  printf '\\n{name}=%s\\n' \"$(ssh THIS_SERVER {read} {shlex.quote(str(path))})\" >> .env.production",
    ]
