"""`.env.production` against docker compose itself: both read every value alike."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from hubbackup.config.env_file import read_env_file

FILE = r"""
# a comment
PLAIN=plain
EMPTY=
export EXPORTED=exported
SPACED=  spaced out
COMMENTED=value # comment
HASH=va#lue
SINGLE='single $PLAIN ${PLAIN} \n # kept'
DOUBLE="double ${PLAIN} # kept"
ESCAPED="line\nbreak"
REFERENCE=$PLAIN-${PLAIN}-${NOWHERE:-default}-${NOWHERE-other}-${PLAIN:-unused}
UNKNOWN=a$NOWHERE.b
DOLLARS=a$$b$$$$c
URL=https://user:p%40ss@host:8443/path?query=1&other=2
EQUALS=a=b==c
ACCENTS=Équipe d'été
JSON='{"key": "value"}'
"""


def test_every_value_is_read_as_compose_reads_it(tmp_path: Path, docker_engine: str) -> None:
    """What the database's container gets from compose is what hubbackup reads from the file: the password is one."""
    (tmp_path / ".env.production").write_text(FILE, encoding="utf-8")
    (tmp_path / "compose.yml").write_text("services: {db: {image: none, env_file: .env.production}}\n")
    command = ["docker", "compose", "-f", str(tmp_path / "compose.yml"), "config", "--format", "json"]
    config = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # `config` prints a compose file again, in which a dollar is doubled.
    environment = {name: value.replace("$$", "$") for name, value in config["services"]["db"]["environment"].items()}
    values, remarks = read_env_file(tmp_path / ".env.production", {})
    assert values == environment
    assert remarks == []
