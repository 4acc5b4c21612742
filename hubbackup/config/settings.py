"""The settings: one field for each variable, its default, its meaning, and what makes a value wrong.

How they are read, and from where, is in `load`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hubbackup.config import values
from hubbackup.config.bucket import MIRROR, S3, BucketFields, variable
from hubbackup.config.commands import command
from hubbackup.config.database_names import DatabaseNames, parse_names, parse_patterns
from hubbackup.config.patterns import table_patterns
from hubbackup.config.schedule import Schedule
from hubbackup.streams.age_keys import Recipient, parse_recipients
from hubbackup.streams.codecs import CODECS
from hubbackup.streams.format import DEFAULT_FORMAT, Encryption, Format


class OwnSettings(BaseSettings):
    """The settings of everything but the buckets."""

    postgres_db: str = Field(default="", description="the database to back up")
    backup_databases: values.DatabaseList = Field(
        default="", description="the databases to back up, with commas, or * for every one; unset: POSTGRES_DB"
    )
    backup_exclude_databases: values.DatabasePatterns = Field(
        default="", description="with BACKUP_DATABASES=*: what is left out; * and ? stand for any characters and one"
    )
    postgres_user: str = Field(default="postgres", description="the role that connects")
    postgres_password: SecretStr = Field(default=SecretStr(""), description="that role's password")
    backup_source: Literal["docker", "direct"] = Field(
        default="docker", description="docker: exec in the database's container; direct: over libpq (PGHOST, …)"
    )
    pghost: str = Field(default="", description="direct: host or socket directory")
    pgport: int = Field(default=5432, ge=1, le=65535, description="direct: port")
    pgsslmode: Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="", description="direct: libpq's sslmode; verify-full for a PGHOST that is not near, else prefer"
    )
    pgsslrootcert: str = Field(
        default="", description="direct: file with the authorities that are believed; by default the machine's"
    )
    pgsslcert: str = Field(default="", description="direct: file with this client's own certificate")
    pgsslkey: str = Field(default="", description="direct: file with its private key")
    pgpassfile: str = Field(default="", description="direct: libpq's password file, instead of POSTGRES_PASSWORD")
    db_service: str = Field(default="db", description="compose service of the database, in our own project")
    db_container: str = Field(default="", description="name of the database's container, instead of DB_SERVICE")
    db_data_connection: bool = Field(
        default=True, description="take dumps, and bring rows, over a network that both containers share, if any"
    )
    docker_host: values.Engine = Field(
        default="unix:///var/run/docker.sock", description="also tcp:// for a socket proxy"
    )
    backup_schedule: values.CronLine = Field(default="0 3 * * *", description="five-field cron; 0 and 7 are Sunday")
    tz: values.Zone = Field(default="UTC", description="time zone of the schedule and of file names")
    backup_on_start: bool = Field(default=False, description="run when the daemon starts")
    backup_on_first_start: bool = Field(default=True, description="run at start if no store has a backup yet")
    backup_catch_up: bool = Field(default=True, description="run at start if the last scheduled run was missed")
    backup_dir: values.AbsolutePath = Field(default=Path("/var/backups/hub-chantier"), description="local store")
    backup_file_mode: values.FileMode = Field(
        default="0600", description="who may read the files there: 0640 for the directory's group too"
    )
    backup_retention_days: int = Field(default=7, ge=0, description="days to keep, both stores; 0 = never prune")
    backup_globals: Literal["true", "false", "with-passwords"] = Field(
        default="true", description="also roles and memberships; their passwords only with with-passwords"
    )
    backup_exclude_tables: values.TablePatterns = Field(
        default="", description="tables that are left out: pg_dump's patterns, with commas: log_*, archive.*"
    )
    backup_exclude_table_data: values.TablePatterns = Field(
        default="", description="tables whose rows alone are left out: patterns as those"
    )
    backup_pre_exec: values.CommandLine = Field(
        default="", description="command before each backup, in the database's container; local:COMMAND: here"
    )
    backup_post_exec: values.CommandLine = Field(default="", description="command after it, however it has ended")
    backup_exec_timeout_seconds: int = Field(
        default=600, ge=1, le=86400, description="how long each of them may take"
    )
    backup_manifest_key: values.LongSecret = Field(
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
    backup_compression: values.CodecWord = Field(
        default=DEFAULT_FORMAT.codec.word,
        description="at rest: " + "; ".join(f"{one.word} ({one.suffix}), {one.about}" for one in CODECS.values()),
    )
    backup_compression_level: int = Field(
        default=1,
        description="; ".join(
            f"{one.word}: {one.levels[0]} fastest to {one.levels[-1]} smallest" for one in CODECS.values()
        ),
    )
    backup_encrypt_recipients: values.Recipients = Field(
        default="",
        description="public keys for whom backups are sealed by age: age1…, ssh-ed25519 …, ssh-rsa …, with commas",
    )
    backup_identity_file: values.AbsolutePath | None = Field(
        default=None, description="a file with a private key that opens sealed backups; better kept elsewhere"
    )
    backup_rate_limit: values.ByteCount = Field(
        default=0,
        description="limit of plain dump a second, such as 20MB, to spare the server; 0 = no limit",
    )
    backup_verify: Literal["full", "hash"] = Field(
        default="full", description="read-back before publishing: decoded whole, or only hashed"
    )
    backup_schema_drill: bool = Field(
        default=True, description="after a backup whose schema is new, and weekly, see whether it restores"
    )
    verify_schedule: values.CronLineOrOff = Field(
        default="30 4 * * *", description="when old copies are read again; off: never"
    )
    verify_daily_bytes: values.ByteCount = Field(
        default=10 * 10**9, description="how much of them is read each time, such as 500MB or 2GB; 0 = none"
    )
    verify_store: Literal["local", "s3", "mirror", "all"] = Field(
        default="local", description="which copies; S3's are downloaded for it, which the vendor may bill"
    )
    verify_repair: bool = Field(
        default=False, description="whether each day's verification mends what it finds damaged from another store"
    )
    drill_schedule: values.CronLineOrOff = Field(
        default="0 5 * * 0", description="when a backup is restored for real; off: never"
    )
    drill_target: Literal["", "container", "database"] = Field(
        default="",
        description="container: a throwaway server, the default with BACKUP_SOURCE=docker; database: a scratch"
        " database of the live server, where the database's own code then runs",
    )
    restore_jobs: values.Jobs = Field(
        default=values.AUTO,
        description="sessions that load at once, in restores and drills; auto: one for each processor of the"
        " database's container, at most 4",
    )
    restore_search_path: values.Schemas = Field(
        default="",
        description="loads find what functions name without a schema, such as public; only where the doctor says so",
    )
    drill_sql: str = Field(default="", description="checks on the restored database, separated by semicolons")
    notification_urls: SecretStr = Field(
        default=SecretStr(""), description="apprise URLs, separated by commas or spaces: who is notified"
    )
    notification_level: Literal["problems", "all"] = Field(
        default="problems", description="problems and recoveries, or each success too"
    )
    notification_host: str = Field(default="", description="this host's name in messages, instead of Docker's")
    heartbeat_url: values.SecretWebUrl = Field(
        default=SecretStr(""), description="dead man's switch: URL/start, URL, URL/fail are pinged"
    )
    status_port: int | None = Field(
        default=None, ge=1, le=65535, description="status page, /metrics and /healthz; off without it"
    )
    status_user: values.LoginName = Field(
        default="", description="who may see page and metrics; where unset, everybody"
    )
    status_password: SecretStr = Field(default=SecretStr(""), description="STATUS_USER's password")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="lowest level logged")
    log_format: Literal["json", "console"] = Field(default="json", description="console is for people")
    log_file: values.AbsolutePathOrNone = Field(
        default="", description="also log to this file, as JSON, rotated at 10 MB"
    )


class Settings(BucketFields, OwnSettings):
    """Every setting of the contract, by the name of its variable in lower case. Immutable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` is the one reader of the environment: it knows the file, the secrets' files and the origins."""
        return (init_settings,)

    @field_validator("backup_compression_level")
    @classmethod
    def _level_exists(cls, value: int, info: Any) -> int:
        codec = CODECS[info.data.get("backup_compression", DEFAULT_FORMAT.codec.word)]
        if value not in codec.levels:
            raise ValueError(f"{codec.word} has the levels {codec.levels[0]} to {codec.levels[-1]}")
        return value

    @field_validator("backup_pre_exec", "backup_post_exec")
    @classmethod
    def _has_a_place(cls, value: str, info: Any) -> str:
        one = command(value)
        if one and not one.local and info.data.get("backup_source") == "direct":
            raise values.refused(
                "with BACKUP_SOURCE=direct there is no container of the database to run it in",
                f"{info.field_name.upper()}=local:COMMAND runs it where hubbackup is",
            )
        return value

    @model_validator(mode="after")
    def _only_of_every_database_some_are_left_out(self) -> Settings:
        if self.backup_exclude_databases and not self.databases.every:
            raise values.refused(
                "BACKUP_EXCLUDE_DATABASES leaves databases out of every one, and BACKUP_DATABASES is not *",
                "set BACKUP_DATABASES=*, or name only what is to be backed up",
            )
        return self

    @model_validator(mode="after")
    def _status_login_is_whole(self) -> Settings:
        if bool(self.status_user) != bool(self.status_password.get_secret_value()):
            raise values.refused(
                "STATUS_USER and STATUS_PASSWORD: one is set without the other",
                "set both, or neither for a page that everybody may see",
            )
        return self

    @model_validator(mode="after")
    def _what_is_verified_is_there(self) -> Settings:
        if self.verify_store == MIRROR and MIRROR not in self.buckets:
            raise values.refused(
                "VERIFY_STORE=mirror: S3_MIRROR_BACKUP_BUCKET is not set",
                "name the mirror's bucket, or another store",
            )
        return self

    @model_validator(mode="after")
    def _no_rule_removes_what_is_kept(self) -> Self:
        """A lifecycle rule knows no weeks, months and years, so it must not come before the last of them."""
        for bucket in self.buckets.values():
            counts = {"retention_days": 1, "keep_weeks": 7, "keep_months": 31, "keep_years": 366}
            kept: dict[str, int] = {}
            for name, days in counts.items():
                names = (bucket.variable(name), variable(S3, name), f"BACKUP_{name.upper()}")
                known = next(one for one in names if getattr(self, one.lower()) is not None)
                kept[known] = getattr(self, known.lower()) * days
            longest = max(kept, key=lambda name: kept[name])
            everything = next(iter(kept.values())) == 0
            if bucket.expire_after_days and not everything and bucket.expire_after_days < kept[longest]:
                expire = bucket.variable("expire_after_days")
                raise values.refused(
                    f"{expire}={bucket.expire_after_days} would remove what {longest} keeps",
                    f"set {expire}={kept[longest]} or more, or lower {longest}, or unset {expire}",
                )
        return self

    @property
    def databases(self) -> DatabaseNames:
        """BACKUP_DATABASES, or else POSTGRES_DB."""
        if not self.backup_databases:
            return DatabaseNames((self.postgres_db,) if self.postgres_db else ())
        return replace(parse_names(self.backup_databases), excluded=parse_patterns(self.backup_exclude_databases))

    @property
    def backup_format(self) -> Format:
        """What a new backup's file is."""
        encryption = Encryption.AGE if self.recipients else Encryption.NONE
        return Format(CODECS[self.backup_compression], encryption)

    @property
    def excluded_tables(self) -> tuple[str, ...]:
        """BACKUP_EXCLUDE_TABLES' patterns."""
        return table_patterns(self.backup_exclude_tables)

    @property
    def excluded_rows(self) -> tuple[str, ...]:
        """BACKUP_EXCLUDE_TABLE_DATA's patterns."""
        return table_patterns(self.backup_exclude_table_data)

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """BACKUP_ENCRYPT_RECIPIENTS' keys."""
        return parse_recipients(self.backup_encrypt_recipients)

    @property
    def restore_sessions(self) -> int:
        """RESTORE_JOBS as a number; 0 for auto."""
        return 0 if self.restore_jobs == values.AUTO else int(self.restore_jobs)

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
        off = self.verify_schedule == values.OFF or self.verify_daily_bytes == 0
        return None if off else Schedule.parse(self.verify_schedule, self.tz)

    @property
    def drills(self) -> Schedule | None:
        """DRILL_SCHEDULE in TZ; None where drills are off, have no place, or could not open what they restore."""
        off = self.drill_schedule == values.OFF or not self.drills_have_a_place or self.drills_have_no_key
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
