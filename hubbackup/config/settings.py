"""The settings: one field for each variable, its default, its meaning, and what makes a value wrong.

How they are read, and from where, is in `load`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hubbackup.config.schedule import Schedule
from hubbackup.config.urls import is_web_url
from hubbackup.errors import UsageError
from hubbackup.streams.age_keys import Recipient, parse_recipients
from hubbackup.streams.codecs import CODECS
from hubbackup.streams.format import DEFAULT_FORMAT, Encryption, Format
from hubbackup.units import parse_bytes

OFF = "off"
BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[A-Za-z0-9:._-]{1,250}")
"""As boto3 takes it: other vendors allow more than AWS does."""
SHORTEST_KEY = 16
AUTO = "auto"
MOST_JOBS = 32
_SCHEMA = r'\s*(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\s*'
SCHEMAS = re.compile(rf"{_SCHEMA}(?:,{_SCHEMA})*")


def _refused(text: str, remedy: str) -> PydanticCustomError:
    """What our own checks say of a value, with the remedy."""
    return PydanticCustomError("refused", "{text}", {"text": text, "remedy": remedy})


def _bytes_of(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


ByteCount = Annotated[int, Field(ge=0), BeforeValidator(_bytes_of)]


class Settings(BaseSettings):
    """Every setting of the contract, by the name of its variable in lower case. Immutable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    postgres_db: str = Field(default="", description="the database to back up")
    postgres_user: str = Field(default="postgres", description="the role that connects")
    postgres_password: SecretStr = Field(default=SecretStr(""), description="that role's password")
    backup_source: Literal["docker", "direct"] = Field(
        default="docker", description="docker: exec in the database's container; direct: over libpq (PGHOST, …)"
    )
    pghost: str = Field(default="", description="direct: host or socket directory")
    pgport: int = Field(default=5432, ge=1, le=65535, description="direct: port")
    pgsslmode: str = Field(default="", description="direct: libpq's sslmode")
    db_service: str = Field(default="db", description="compose service of the database, in our own project")
    db_container: str = Field(default="", description="name of the database's container, instead of DB_SERVICE")
    db_data_connection: bool = Field(
        default=True, description="take dumps over a network that both containers share, if there is one"
    )
    docker_host: str = Field(default="unix:///var/run/docker.sock", description="also tcp:// for a socket proxy")
    backup_schedule: str = Field(default="0 3 * * *", description="five-field cron; 0 and 7 are Sunday")
    tz: str = Field(default="UTC", description="time zone of the schedule and of file names")
    backup_on_start: bool = Field(default=False, description="run when the daemon starts")
    backup_on_first_start: bool = Field(default=True, description="run at start if no store has a backup yet")
    backup_catch_up: bool = Field(default=True, description="run at start if the last scheduled run was missed")
    backup_dir: Path = Field(default=Path("/var/backups/hub-chantier"), description="local store")
    backup_file_mode: str = Field(
        default="0600", description="who may read the files there: 0640 for the directory's group too"
    )
    backup_retention_days: int = Field(default=7, ge=0, description="days to keep, both stores; 0 = never prune")
    s3_retention_days: int | None = Field(default=None, ge=0, description="days to keep in S3, where it differs")
    backup_globals: Literal["true", "false", "with-passwords"] = Field(
        default="true", description="also roles and memberships; their passwords only with with-passwords"
    )
    backup_manifest_key: SecretStr = Field(
        default=SecretStr(""),
        description="what manifests are signed with; unset, a key is made and kept in BACKUP_DIR/.hubbackup",
    )
    backup_keep_before_days: int = Field(
        default=7, ge=0, description="days to keep the database that a restore replaced; 0 = forever"
    )
    backup_keep_min: int = Field(default=1, ge=1, description="never keep fewer good backups than this")
    backup_keep_weeks: int = Field(default=0, ge=0, description="weeks whose newest good backup is kept, too")
    backup_keep_months: int = Field(default=0, ge=0, description="months whose newest good backup is kept, too")
    backup_keep_years: int = Field(default=0, ge=0, description="years whose newest good backup is kept, too")
    s3_keep_min: int | None = Field(default=None, ge=1, description="BACKUP_KEEP_MIN for S3, where it differs")
    s3_keep_weeks: int | None = Field(default=None, ge=0, description="weeks kept in S3, where it differs")
    s3_keep_months: int | None = Field(default=None, ge=0, description="months kept in S3, where it differs")
    s3_keep_years: int | None = Field(default=None, ge=0, description="years kept in S3, where it differs")
    backup_compression: str = Field(
        default=DEFAULT_FORMAT.codec.word,
        description="at rest: " + "; ".join(f"{one.word} ({one.suffix}), {one.about}" for one in CODECS.values()),
    )
    backup_compression_level: int = Field(
        default=1,
        description="; ".join(
            f"{one.word}: {one.levels[0]} fastest to {one.levels[-1]} smallest" for one in CODECS.values()
        ),
    )
    backup_encrypt_recipients: str = Field(
        default="",
        description="public keys for whom backups are sealed by age: age1…, ssh-ed25519 …, ssh-rsa …, with commas",
    )
    backup_identity_file: Path | None = Field(
        default=None, description="a file with a private key that opens sealed backups; better kept elsewhere"
    )
    backup_rate_limit: ByteCount = Field(
        default=0,
        description="limit of plain dump a second, such as 20MB, to spare the server; 0 = no limit",
    )
    backup_verify: Literal["full", "hash"] = Field(
        default="full", description="read-back before publishing: decoded whole, or only hashed"
    )
    backup_schema_drill: bool = Field(
        default=True, description="after a backup whose schema is new, and weekly, see whether it restores"
    )
    verify_schedule: str = Field(default="30 4 * * *", description="when old copies are read again; off: never")
    verify_daily_bytes: ByteCount = Field(
        default=10 * 10**9, description="how much of them is read each time, such as 500MB or 2GB; 0 = none"
    )
    verify_store: Literal["local", "s3", "all"] = Field(
        default="local", description="which copies; S3's are downloaded for it, which the vendor may bill"
    )
    drill_schedule: str = Field(default="0 5 * * 0", description="when a backup is restored for real; off: never")
    drill_target: Literal["", "container", "database"] = Field(
        default="",
        description="container: a throwaway server, the default with BACKUP_SOURCE=docker; database: a scratch"
        " database of the live server, where the database's own code then runs",
    )
    restore_jobs: str = Field(
        default=AUTO,
        description="sessions that load at once, in restores and drills; auto: one for each processor of the"
        " database's container, at most 4",
    )
    restore_search_path: str = Field(
        default="",
        description="loads find what functions name without a schema, such as public; only where the doctor says so",
    )
    drill_sql: str = Field(default="", description="checks on the restored database, separated by semicolons")
    s3_backup_bucket: str = Field(default="", description="S3 is off without it")
    s3_prefix: str = Field(default="backups/", description="before each object's name")
    s3_endpoint_url: str = Field(default="", description="empty is AWS")
    s3_storage_class: str = Field(default="", description="as the S3 vendor names it")
    s3_timeout_seconds: int = Field(
        default=300, ge=5, le=86400, description="how long an upload may get no further; silence: a fifth of it"
    )
    aws_access_key_id: SecretStr = Field(default=SecretStr(""), description="boto3's own chain where unset")
    aws_secret_access_key: SecretStr = Field(default=SecretStr(""), description="boto3's own chain where unset")
    aws_default_region: str = Field(default="", description="the bucket's region")
    notification_urls: SecretStr = Field(
        default=SecretStr(""), description="apprise URLs, separated by commas or spaces: who is notified"
    )
    notification_level: Literal["problems", "all"] = Field(
        default="problems", description="problems and recoveries, or each success too"
    )
    notification_host: str = Field(default="", description="this host's name in messages, instead of Docker's")
    heartbeat_url: SecretStr = Field(
        default=SecretStr(""), description="dead man's switch: URL/start, URL, URL/fail are pinged"
    )
    status_port: int | None = Field(
        default=None, ge=1, le=65535, description="status page, /metrics and /healthz; off without it"
    )
    status_user: str = Field(default="", description="who may see page and metrics; where unset, everybody")
    status_password: SecretStr = Field(default=SecretStr(""), description="STATUS_USER's password")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="lowest level logged")
    log_format: Literal["json", "console"] = Field(default="json", description="console is for people")
    log_file: str = Field(default="", description="also log to this file, as JSON, rotated at 10 MB")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` is the one reader of the environment: it knows the file, the secrets' files and the origins."""
        return (init_settings,)

    @field_validator("tz")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("is not a time zone, such as Europe/Paris") from error
        return value

    @field_validator("backup_schedule")
    @classmethod
    def _is_a_schedule(cls, value: str) -> str:
        if Schedule.parse(value, "UTC").next_after(datetime.now(UTC)) is None:
            raise _refused("is never due: no such day is in such a month", "such as 0 3 * * *: each night at 3")
        return value

    @field_validator("drill_schedule", "verify_schedule")
    @classmethod
    def _is_a_schedule_or_off(cls, value: str) -> str:
        return value if value == OFF else cls._is_a_schedule(value)

    @field_validator("restore_jobs")
    @classmethod
    def _is_auto_or_a_few(cls, value: str) -> str:
        if value != AUTO and not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_JOBS):
            raise ValueError(f"must be {AUTO}, or a number from 1 to {MOST_JOBS}")
        return value

    @field_validator("restore_search_path")
    @classmethod
    def _names_schemas(cls, path: str) -> str:
        if path.strip() and not SCHEMAS.fullmatch(path):
            raise ValueError("is not a list of schemas, such as public, extensions")
        return path.strip()

    @field_validator("s3_prefix")
    @classmethod
    def _prefix_is_a_folder(cls, value: str) -> str:
        stripped = value.strip("/")
        if any(part in ("", ".", "..") for part in stripped.split("/")) and stripped:
            raise ValueError("has an empty, '.' or '..' part")
        return f"{stripped}/" if stripped else ""

    @field_validator("s3_endpoint_url")
    @classmethod
    def _endpoint_is_a_url(cls, value: str) -> str:
        if value and not is_web_url(value):
            raise ValueError("is not a URL such as https://s3.fr-par.scw.cloud")
        return value

    @field_validator("heartbeat_url")
    @classmethod
    def _heartbeat_is_a_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not is_web_url(value.get_secret_value()):
            raise ValueError("is not a URL such as https://hc-ping.com/UUID")
        return value

    @field_validator("docker_host")
    @classmethod
    def _engine_is_a_url(cls, value: str) -> str:
        if not re.fullmatch(r"unix://\S+", value) and not is_web_url(re.sub(r"^tcp://", "http://", value)):
            raise ValueError("is not an engine's address, such as unix:///var/run/docker.sock or tcp://proxy:2375")
        return value

    @field_validator("backup_encrypt_recipients")
    @classmethod
    def _recipients_are_keys(cls, value: str) -> str:
        try:
            parse_recipients(value)
        except UsageError as error:
            raise _refused(str(error), error.remedy) from None
        return value

    @field_validator("backup_identity_file")
    @classmethod
    def _identity_is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("is not an absolute path")
        return value

    @field_validator("log_file")
    @classmethod
    def _log_file_is_absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError("is not an absolute path")
        return value

    @field_validator("backup_dir")
    @classmethod
    def _directory_is_absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("is not an absolute path")
        return value

    @field_validator("backup_file_mode")
    @classmethod
    def _mode_is_safe(cls, value: str) -> str:
        if not re.fullmatch(r"(0o?)?[0-7]{3}", value):
            raise ValueError("is not a file's mode such as 0600 or 0640")
        mode = int(value[-3:], 8)
        if mode & 0o600 != 0o600 or mode & ~0o664:
            raise ValueError("must let the owner read and write, others at most read, and nobody execute")
        return f"{mode:04o}"

    @field_validator("s3_backup_bucket")
    @classmethod
    def _bucket_is_a_name(cls, value: str) -> str:
        bare = value.removeprefix("s3://").rstrip("/")  # as `aws s3 ls` has it
        if value and not bare:
            raise ValueError("is not a bucket's name")
        if "/" in bare:
            raise _refused("has a path behind the bucket's name", "set the path as S3_PREFIX")
        if bare and not BUCKET.fullmatch(bare):
            raise ValueError("is not a bucket's name: letters, digits, dots, dashes, underscores")
        return bare

    @field_validator("backup_compression")
    @classmethod
    def _codec_exists(cls, value: str) -> str:
        if value not in CODECS:
            raise ValueError(f"must be {' or '.join(CODECS)}")
        return value

    @field_validator("backup_compression_level")
    @classmethod
    def _level_exists(cls, value: int, info: Any) -> int:
        codec = CODECS[info.data.get("backup_compression", DEFAULT_FORMAT.codec.word)]
        if value not in codec.levels:
            raise ValueError(f"{codec.word} has the levels {codec.levels[0]} to {codec.levels[-1]}")
        return value

    @field_validator("backup_manifest_key")
    @classmethod
    def _key_is_long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_KEY:
            raise _refused(f"has fewer than {SHORTEST_KEY} characters", "make one: openssl rand -hex 32")
        return value

    @field_validator("status_user")
    @classmethod
    def _user_has_no_colon(cls, value: str) -> str:
        if ":" in value:
            raise _refused("has a colon, which basic authentication can't carry", "choose a name without a colon")
        return value

    @model_validator(mode="after")
    def _aws_keys_come_in_pairs(self) -> Settings:
        if bool(self.aws_access_key_id.get_secret_value()) != bool(self.aws_secret_access_key.get_secret_value()):
            raise _refused(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: one is set without the other",
                "set both, or neither for boto3's own chain (profile, role)",
            )
        return self

    @model_validator(mode="after")
    def _status_login_is_whole(self) -> Settings:
        if bool(self.status_user) != bool(self.status_password.get_secret_value()):
            raise _refused(
                "STATUS_USER and STATUS_PASSWORD: one is set without the other",
                "set both, or neither for a page that everybody may see",
            )
        return self

    @property
    def backup_format(self) -> Format:
        """What a new backup's file is."""
        encryption = Encryption.AGE if self.recipients else Encryption.NONE
        return Format(CODECS[self.backup_compression], encryption)

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """BACKUP_ENCRYPT_RECIPIENTS' keys."""
        return parse_recipients(self.backup_encrypt_recipients)

    @property
    def restore_sessions(self) -> int:
        """RESTORE_JOBS as a number; 0 for auto."""
        return 0 if self.restore_jobs == AUTO else int(self.restore_jobs)

    @property
    def file_mode(self) -> int:
        """BACKUP_FILE_MODE as a number."""
        return int(self.backup_file_mode, 8)

    @property
    def schedule(self) -> Schedule:
        """BACKUP_SCHEDULE in TZ."""
        return Schedule.parse(self.backup_schedule, self.tz)

    @property
    def verifications(self) -> Schedule | None:
        """VERIFY_SCHEDULE in TZ; None where no old copy is to be read."""
        off = self.verify_schedule == OFF or self.verify_daily_bytes == 0
        return None if off else Schedule.parse(self.verify_schedule, self.tz)

    @property
    def drills(self) -> Schedule | None:
        """DRILL_SCHEDULE in TZ; None where drills are off, have no place, or could not open what they restore."""
        off = self.drill_schedule == OFF or not self.drills_have_a_place or self.drills_have_no_key
        return None if off else Schedule.parse(self.drill_schedule, self.tz)

    @property
    def drills_in_database(self) -> bool:
        """Whether drills use a scratch database of the live server: only where it is chosen by name."""
        return self.drill_target == "database"

    @property
    def drills_have_a_place(self) -> bool:
        """Whether there is a server to drill in: over libpq there is only the live one, which has to be chosen."""
        return self.backup_source == "docker" or self.drills_in_database

    @property
    def drills_have_no_key(self) -> bool:
        """Whether new backups are sealed, and nothing here opens them."""
        return self.backup_format.sealed and self.backup_identity_file is None

    @property
    def drill_checks(self) -> tuple[str, ...]:
        """DRILL_SQL's queries."""
        return tuple(check.strip() for check in self.drill_sql.split(";") if check.strip())


def is_secret(name: str) -> bool:
    """Whether the variable `name` holds a secret."""
    found = Settings.model_fields.get(name.lower())
    return found is not None and found.annotation is SecretStr
