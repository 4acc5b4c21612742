"""The types of the settings' values: what makes one wrong, said in a sentence, and the form in which it is kept."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from hubbackup.config.commands import command
from hubbackup.config.database_names import parse_names, parse_patterns
from hubbackup.config.patterns import table_patterns
from hubbackup.config.schedule import Schedule
from hubbackup.config.urls import is_web_url
from hubbackup.errors import UsageError
from hubbackup.streams.age_keys import parse_recipients
from hubbackup.streams.codecs import CODECS
from hubbackup.units import parse_bytes

OFF = "off"
BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[A-Za-z0-9:._-]{1,250}")
"""As boto3 takes it: other vendors allow more than AWS does."""
SHORTEST_KEY = 16
AUTO = "auto"
MOST_JOBS = 32
_SCHEMA = r'\s*(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\s*'
SCHEMAS = re.compile(rf"{_SCHEMA}(?:,{_SCHEMA})*")


def refused(text: str, remedy: str) -> PydanticCustomError:
    """What our own checks say of a value, with the remedy."""
    return PydanticCustomError("refused", "{text}", {"text": text, "remedy": remedy})


def _bytes_of(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is not a time zone, such as Europe/Paris") from error
    return value


def _cron_line(value: str) -> str:
    if Schedule.parse(value, "UTC").next_after(datetime.now(UTC)) is None:
        raise refused("is never due: no such day is in such a month", "such as 0 3 * * *: each night at 3")
    return value


def _cron_line_or_off(value: str) -> str:
    return value if value == OFF else _cron_line(value)


def _jobs(value: str) -> str:
    if value != AUTO and not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_JOBS):
        raise ValueError(f"must be {AUTO}, or a number from 1 to {MOST_JOBS}")
    return value


def _databases(value: str) -> str:
    parse_names(value)
    return value


def _database_patterns(value: str) -> str:
    parse_patterns(value)
    return value


def _schemas(path: str) -> str:
    if path.strip() and not SCHEMAS.fullmatch(path):
        raise ValueError("is not a list of schemas, such as public, extensions")
    return path.strip()


def _folder(value: str) -> str:
    stripped = value.strip("/")
    if any(part in ("", ".", "..") for part in stripped.split("/")) and stripped:
        raise ValueError("has an empty, '.' or '..' part")
    return f"{stripped}/" if stripped else ""


def _endpoint(value: str) -> str:
    if value and not is_web_url(value):
        raise ValueError("is not a URL such as https://s3.fr-par.scw.cloud")
    return value


def _secret_web_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not is_web_url(value.get_secret_value()):
        raise ValueError("is not a URL such as https://hc-ping.com/UUID")
    return value


def _engine(value: str) -> str:
    if not re.fullmatch(r"unix://\S+", value) and not is_web_url(re.sub(r"^tcp://", "http://", value)):
        raise ValueError("is not an engine's address, such as unix:///var/run/docker.sock or tcp://proxy:2375")
    return value


def _recipients(value: str) -> str:
    try:
        parse_recipients(value)
    except UsageError as error:
        raise refused(str(error), error.remedy) from None
    return value


def _table_patterns(value: str) -> str:
    try:
        table_patterns(value)
    except ValueError as error:
        raise refused(str(error), 'as for pg_dump --exclude-table: log_*, archive.*, "Odd Name"') from None
    return value


def _command_line(value: str) -> str:
    try:
        command(value)
    except ValueError as error:
        raise refused(str(error), "a program and its arguments, as in: psql -c 'CHECKPOINT'") from None
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("is not an absolute path")
    return value


def _absolute_or_none(value: str) -> str:
    if value:
        _absolute(Path(value))
    return value


def _file_mode(value: str) -> str:
    if not re.fullmatch(r"(0o?)?[0-7]{3}", value):
        raise ValueError("is not a file's mode such as 0600 or 0640")
    mode = int(value[-3:], 8)
    if mode & 0o600 != 0o600 or mode & ~0o664:
        raise ValueError("must let the owner read and write, others at most read, and nobody execute")
    return f"{mode:04o}"


def _bucket(value: str) -> str:
    bare = value.removeprefix("s3://").rstrip("/")  # as `aws s3 ls` has it
    if value and not bare:
        raise ValueError("is not a bucket's name")
    if "/" in bare:
        raise refused(
            "has a path behind the bucket's name", "set the path as S3_PREFIX, a mirror's as S3_MIRROR_PREFIX"
        )
    if bare and not BUCKET.fullmatch(bare):
        raise ValueError("is not a bucket's name: letters, digits, dots, dashes, underscores")
    return bare


def _codec(value: str) -> str:
    if value not in CODECS:
        raise ValueError(f"must be {' or '.join(CODECS)}")
    return value


def _long_secret(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < SHORTEST_KEY:
        raise refused(f"has fewer than {SHORTEST_KEY} characters", "make one: openssl rand -hex 32")
    return value


def _login_name(value: str) -> str:
    if ":" in value:
        raise refused("has a colon, which basic authentication can't carry", "choose a name without a colon")
    return value


ByteCount = Annotated[int, Field(ge=0), BeforeValidator(_bytes_of)]
Zone = Annotated[str, AfterValidator(_zone)]
CronLine = Annotated[str, AfterValidator(_cron_line)]
CronLineOrOff = Annotated[str, AfterValidator(_cron_line_or_off)]
Jobs = Annotated[str, AfterValidator(_jobs)]
DatabaseList = Annotated[str, AfterValidator(_databases)]
DatabasePatterns = Annotated[str, AfterValidator(_database_patterns)]
Schemas = Annotated[str, AfterValidator(_schemas)]
Folder = Annotated[str, AfterValidator(_folder)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
SecretWebUrl = Annotated[SecretStr, AfterValidator(_secret_web_url)]
Engine = Annotated[str, AfterValidator(_engine)]
TablePatterns = Annotated[str, AfterValidator(_table_patterns)]
CommandLine = Annotated[str, AfterValidator(_command_line)]
Recipients = Annotated[str, AfterValidator(_recipients)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AbsolutePathOrNone = Annotated[str, AfterValidator(_absolute_or_none)]
FileMode = Annotated[str, AfterValidator(_file_mode)]
Bucket = Annotated[str, AfterValidator(_bucket)]
CodecWord = Annotated[str, AfterValidator(_codec)]
LongSecret = Annotated[SecretStr, AfterValidator(_long_secret)]
LoginName = Annotated[str, AfterValidator(_login_name)]
DayCount = Annotated[int, Field(ge=0)]
LockDays = Annotated[int, Field(ge=0, le=3650)]
"""What is locked in COMPLIANCE mode stays, and is billed, whatever happens: a typing error has a bound."""
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
AtLeastOne = Annotated[int, Field(ge=1)]
Patience = Annotated[int, Field(ge=5, le=86400)]
"""Seconds."""
