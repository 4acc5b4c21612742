"""Another key than that of the settings, for one command: from a file or from stdin, never from the command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path

from hubbackup.config.env_file import parse_env, read_env_file
from hubbackup.errors import SettingsError, UsageError
from hubbackup.shown_text import keep_secret

STDIN = "-"
MOST_CHARACTERS = 8192
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def read_credentials(typed: str) -> tuple[str, str]:
    """The key id and the secret that stand in a file as in `.env.production`; `-` reads it from stdin.

    Raises UsageError where there is no such file, or a half is missing.
    """
    try:
        values = _of_stdin() if typed == STDIN else read_env_file(Path(typed), {})[0]
    except FileNotFoundError as error:
        raise UsageError(
            f"--credentials {typed}: there is no such file here",
            remedy="in a container it is the path inside that counts; --credentials - takes it from stdin",
        ) from error
    except SettingsError as error:
        raise UsageError(f"--credentials: {error}", remedy=error.remedy) from error
    key, secret = (values.get(name, "") for name in NAMES)
    keep_secret([secret])
    if not (key and secret):
        raise UsageError(
            f"--credentials {typed} does not have both {' and '.join(NAMES)}",
            remedy="a line NAME=value for each, as in .env.production",
        )
    return key, secret


def _of_stdin() -> Mapping[str, str]:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("--credentials -: nothing comes on stdin", remedy="… --credentials - --yes < FILE")
    return parse_env(io.StringIO(sys.stdin.read(MOST_CHARACTERS)), "stdin", {})[0]
