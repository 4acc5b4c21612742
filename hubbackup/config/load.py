"""Loading the settings: once, from the environment and the settings file, validated, with their origin.

Three sources, the later wins: the default, the process's environment, the file that BACKUP_ENV_FILE names
(`.env.production`, mounted by docker-compose.backup.yml; the daemon looks at it again and again, since compose
does not apply an edit). Each secret can also come from a file, `NAME_FILE`, as Docker secrets do.
An empty value counts as not set.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from pydantic import SecretStr, ValidationError

from hubbackup.config.bucket import BucketFields
from hubbackup.config.env_file import for_libraries, read_env_file
from hubbackup.config.settings import Settings, is_secret
from hubbackup.config.urls import passwords, secret_parts
from hubbackup.errors import SettingsError
from hubbackup.shown_text import keep_secret, mask
from hubbackup.streams.age_keys import SECRET

ENV_FILE_VARIABLE = "BACKUP_ENV_FILE"
COPIES_VARIABLE = "HUBBACKUP_COPIES_DIR"
"""Set by docker/backup-cron/hubbackup alone."""
RECIPIENTS = "BACKUP_ENCRYPT_RECIPIENTS"
OWN_PREFIXES = ("BACKUP_", "S3_", "DRILL_", "DB_", "VERIFY_", "NOTIFICATION_", "STATUS_", "LOG_", "HEARTBEAT_")

NAMES = ("POSTGRES_DB", "POSTGRES_USER", "PGHOST", "DB_SERVICE", "DB_CONTAINER", "S3_BACKUP_BUCKET")
"""Settings that every answer shows."""
OTHER_SECRETS = ("AWS_SESSION_TOKEN", "PGPASSWORD", "PGSSLPASSWORD")
"""What libraries read from the environment themselves."""
PAGE = frozenset({"status_port", "status_user", "status_password"})
"""Without a whole login there is no page at all: it might be one that everybody sees."""
PAIRED = PAGE | {"verify_store", *BucketFields.model_fields}
"""What is wrong where no setting is wrong by itself."""
SEE_SETTINGS = "see `hubbackup config` for every setting, and docs/settings.md for its meaning"


@dataclass(frozen=True)
class LoadedSettings:
    """The settings, where each came from, and what is to be said about them.

    `origins` maps a variable's name to `default`, `environment`, or the file's path; `warnings` are sentences;
    `library_variables` are what the file has for libraries that read the process's environment.
    """

    settings: Settings
    origins: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    library_variables: dict[str, str] = field(default_factory=dict, repr=False)

    def values(self) -> list[tuple[str, str, bool]]:
        """(variable, value as text, whether it is or has a secret) of every setting; only for comparing, never for
        showing."""
        found = []
        for name in Settings.model_fields:
            value = getattr(self.settings, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else _shown(value)
            found.append((name.upper(), text, isinstance(value, SecretStr) or mask(text) != text))
        return found

    def rows(self) -> list[tuple[str, str, str]]:
        """(variable, value, origin) of every setting, secrets as `********`."""
        rows = []
        for name in Settings.model_fields:
            value = getattr(self.settings, name)
            if isinstance(value, SecretStr):
                shown = "********" if value.get_secret_value() else ""
            else:
                shown = mask(_shown(value))
            rows.append((name.upper(), shown, self.origins.get(name.upper(), "default")))
        return rows


def _shown(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def load_settings(environ: Mapping[str, str] | None = None) -> LoadedSettings:
    """Read, merge and validate. Raises SettingsError naming the variable, never a secret's value."""
    gathered = _gather(dict(os.environ if environ is None else environ))
    try:
        settings = Settings(**gathered.values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _as_settings_error(error, gathered.values, gathered.origins) from None  # its text may quote a secret
    return gathered.loaded(settings)


def load_what_can_be_used(environ: Mapping[str, str]) -> LoadedSettings:
    """As `load_settings`, with what is wrong left out: for who has to tell somebody of it. Never raises."""
    without_file = {name: value for name, value in environ.items() if name != ENV_FILE_VARIABLE}
    gathered = _Gathered({}, {}, (), {})
    for environment in (environ, without_file):
        with contextlib.suppress(SettingsError):
            gathered = _gather(dict(environment))
            break
    values = dict(gathered.values)
    while True:
        try:
            return gathered.loaded(Settings(**values))  # type: ignore[arg-type]
        except ValidationError as error:
            wrong = {str(one["loc"][0]) for one in error.errors() if one["loc"]} or set(PAIRED)
            if not PAGE.isdisjoint(wrong):
                wrong |= PAGE
            kept = {name: value for name, value in values.items() if name not in wrong}
            values = kept if kept != values else {}  # never the same again: it would go on for ever


@dataclass(frozen=True)
class _Gathered:
    """What the sources hold, before it is validated: `values` by the names of the settings' fields."""

    values: dict[str, str]
    origins: dict[str, str]
    warnings: tuple[str, ...]
    from_file: dict[str, str]

    def loaded(self, settings: Settings) -> LoadedSettings:
        """With the settings that were made of it."""
        return LoadedSettings(settings, self.origins, self.warnings, for_libraries(self.from_file))


def _gather(environment: Mapping[str, str]) -> _Gathered:
    """Read and merge the sources. Raises SettingsError."""
    raw = {name: value for name, value in environment.items() if value}
    origins = dict.fromkeys(raw, "environment")
    warnings: list[str] = []
    file_name = environment.get(ENV_FILE_VARIABLE, "")
    from_file: dict[str, str] = {}
    if file_name:
        try:
            from_file, warnings = read_env_file(_readable(Path(file_name), raw.get(COPIES_VARIABLE, "")), raw)
        except FileNotFoundError:
            warnings.append(f"{ENV_FILE_VARIABLE}: {file_name} does not exist; only the environment counts")
    raw |= from_file
    origins |= dict.fromkeys(from_file, file_name)
    _read_secret_files(raw, origins)
    keep_secret(_secrets(raw))  # before anything can go wrong that shows one
    warnings += _unknown_names(raw, origins)
    values = {name.lower(): value for name, value in raw.items() if name.lower() in Settings.model_fields and value}
    return _Gathered(values, origins, tuple(warnings), from_file)


def _secrets(raw: Mapping[str, str]) -> Iterator[str]:
    """Every secret's value; of a URL also the parts that are secret by themselves, whatever variable holds it.

    Not what is shown anyway: where the password is the database's own name, to mask that would only tell so.
    """
    in_sight = [raw.get(name) or str(Settings.model_fields[name.lower()].default) for name in NAMES]
    for name, value in raw.items():
        yield from SECRET.findall(value)  # a private key of age, wherever somebody has put it
        parts = [value] if is_secret(name) or name in OTHER_SECRETS else []
        if "://" in value:
            parts += secret_parts(value) if is_secret(name) else passwords(value)
        yield from (part for part in parts if not any(part in shown for shown in in_sight))


def _read_secret_files(raw: dict[str, str], origins: dict[str, str]) -> None:
    """`NAME_FILE` stands for NAME, for every secret. Raises SettingsError."""
    for field_name in Settings.model_fields:
        name = field_name.upper()
        path = raw.get(f"{name}_FILE", "")
        if not is_secret(name) or not path:
            continue
        if raw.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set", remedy="remove one of them")
        try:
            text = _readable(Path(path), raw.get(COPIES_VARIABLE, "")).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{name}_FILE: {path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}",
                remedy=f"mount the file for the user that hubbackup runs as, or set {name} itself",
            ) from error
        raw[name] = text.rstrip("\r\n")
        origins[name] = path


def _readable(path: Path, copies: str) -> Path:
    """`path`, or the copy that the container's entry made for us of a file that only root may read."""
    copy = Path(copies) / str(path).lstrip("/")
    return copy if copies and not os.access(path, os.R_OK) and os.path.isfile(copy) else path


def readable_copy(path: Path) -> Path:
    """As `_readable`, in this process's environment."""
    return _readable(path, os.environ.get(COPIES_VARIABLE, ""))


def _unknown_names(raw: Mapping[str, str], origins: Mapping[str, str]) -> list[str]:
    """A sentence for each name that looks like ours and isn't."""
    known = {name.upper() for name in Settings.model_fields} | {ENV_FILE_VARIABLE}
    known |= {f"{name}_FILE" for name in known if is_secret(name)}
    sentences = []
    for name in sorted(raw):
        if name in known or not name.startswith(OWN_PREFIXES):
            continue
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        sentences.append(f"{name} ({origins[name]}) is not a setting of hubbackup{hint}")
    return sentences


def _as_settings_error(
    error: ValidationError, values: Mapping[str, str], origins: Mapping[str, str]
) -> SettingsError:
    """The first complaint of pydantic as one sentence that names the variable, with the check's own remedy."""
    first = error.errors(include_url=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    remedy = str(first.get("ctx", {}).get("remedy", SEE_SETTINGS))
    if not first["loc"]:
        return SettingsError(text, remedy=remedy)
    field_name = str(first["loc"][0])
    name = field_name.upper()
    value = values.get(field_name, "")
    # A password may stand before an @, a private key among the public ones.
    shown = "" if is_secret(name) or "@" in value or name == RECIPIENTS else f"={value}"
    annotation = Settings.model_fields[field_name].annotation
    choices = get_args(annotation) if first["type"] == "literal_error" else ()
    if choices:
        text = "must be " + " or ".join(str(choice) for choice in choices if choice)
    origin = origins.get(name, "default")
    return SettingsError(
        f"{name}{shown} ({origin}): {text[0].lower()}{text[1:]}",
        remedy=remedy,
    )
