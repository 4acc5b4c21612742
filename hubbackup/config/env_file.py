"""`.env.production` as docker compose reads it, so that a password is never read in two ways.

python-dotenv parses the lines. It leaves `$NAME` alone, though, which compose replaces in every value that is not
in single quotes (https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/): done here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from hubbackup.errors import SettingsError

REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_]\w*)(?::?-(?P<default>[^}]*))?\}|(?P<named>[A-Za-z_]\w*))", re.ASCII
)
SINGLE_QUOTED = re.compile(r"=\s*'")
LIBRARY_PREFIXES = ("AWS_", "PG", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Names that boto3, libpq and OpenSSL read from the process's own environment."""


def read_env_file(path: Path, environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(the file's variables, a sentence for each line that is not one). `environment` answers references.

    Raises SettingsError where the file can't be read, FileNotFoundError where it is not there.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return parse_env(stream, str(path), environment)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}",
            remedy="make it readable for the user that hubbackup runs as",
        ) from error


def parse_env(stream: TextIO, name: str, environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """As `read_env_file`, of a text that is called `name`."""
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    remarks = []
    for binding in parse_stream(stream):
        if binding.error:
            remarks.append(f"{name}: line {binding.original.line} is not NAME=value and was skipped")
        elif binding.key:
            value = binding.value or ""
            literal = SINGLE_QUOTED.search(binding.original.string) is not None
            values[binding.key] = value if literal else expanded(value, {**environment, **values})
    return values, remarks


def expanded(value: str, known: Mapping[str, str]) -> str:
    """`value` with `$NAME`, `${NAME}`, `${NAME:-default}` replaced and `$$` as `$`; an unknown name is empty."""

    def replacement(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        return known.get(found["braced"] or found["named"]) or found["default"] or ""

    return REFERENCE.sub(replacement, value)


def for_libraries(values: Mapping[str, str]) -> dict[str, str]:
    """Those of the file's variables that libraries look for in the process's environment."""
    return {name: value for name, value in values.items() if name.upper().startswith(LIBRARY_PREFIXES)}
