"""Settings: which source wins, what a value may be, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.config.load import ENV_FILE_VARIABLE, LoadedSettings, load_settings
from hubbackup.config.settings import Settings, is_secret
from hubbackup.errors import SettingsError
from hubbackup.shown_text import mask
from hubbackup.streams.age_keys import generate

CANARY = "canari-7f3a9b1c-long-enough"


def load_file(path: Path, text: str, **environ: str) -> LoadedSettings:
    path.write_text(text, encoding="utf-8")
    return load_settings({ENV_FILE_VARIABLE: str(path), **environ})


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env.production"


def test_defaults_are_those_of_the_contract() -> None:
    """With nothing set, the settings are the ones of the table that the users have."""
    settings = load_settings({}).settings
    assert settings.backup_schedule == "0 3 * * *"
    assert settings.backup_retention_days == 7
    assert settings.s3_retention_days is None
    assert settings.backup_dir == Path("/var/backups/hub-chantier")
    assert (settings.backup_source, settings.db_service, settings.s3_prefix) == ("docker", "db", "backups/")
    assert (settings.backup_on_start, settings.backup_catch_up) == (False, True)


def test_the_file_wins_over_the_environment(env_file: Path) -> None:
    """`docker compose restart` applies an edited file: compose froze the environment when it made the container."""
    loaded = load_file(env_file, "BACKUP_RETENTION_DAYS=30\n", BACKUP_RETENTION_DAYS="7", POSTGRES_DB="hub")
    assert loaded.settings.backup_retention_days == 30
    assert loaded.settings.postgres_db == "hub"
    assert loaded.origins["BACKUP_RETENTION_DAYS"] == str(env_file)
    assert loaded.origins["POSTGRES_DB"] == "environment"
    assert {row[0]: row[2] for row in loaded.rows()}["TZ"] == "default"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("POSTGRES_PASSWORD=plain", "plain"),
        ("POSTGRES_PASSWORD='single $HOME ${HOME} # no comment'", "single $HOME ${HOME} # no comment"),
        ('POSTGRES_PASSWORD="double # no comment"', "double # no comment"),
        ('POSTGRES_PASSWORD="say \\"hi\\""', 'say "hi"'),
        ("export POSTGRES_PASSWORD=exported", "exported"),
        ("POSTGRES_PASSWORD=with # a comment", "with"),
        ("POSTGRES_PASSWORD=with#nocomment", "with#nocomment"),
        ("POSTGRES_PASSWORD=a%b@c:d/e=f", "a%b@c:d/e=f"),
        ("POSTGRES_PASSWORD=  spaced  ", "spaced"),
        ("POSTGRES_PASSWORD=été", "été"),
        ("POSTGRES_PASSWORD=pa$$word", "pa$word"),
        ("POSTGRES_PASSWORD=pa$NOWHERE.word", "pa.word"),
        ('POSTGRES_PASSWORD="${NOWHERE:-fallback}"', "fallback"),
    ],
)
def test_values_are_read_as_compose_reads_them(env_file: Path, line: str, expected: str) -> None:
    """Quotes, comments and `export` mean in the file what they mean to docker compose."""
    loaded = load_file(env_file, f"# first\n{line}\nPOSTGRES_DB=hub\n")
    assert loaded.settings.postgres_password.get_secret_value() == expected
    assert loaded.settings.postgres_db == "hub"


def test_an_empty_value_counts_as_not_set(env_file: Path) -> None:
    """`NAME=` is the default, in the environment and in the file, where it also takes back the environment's."""
    assert load_settings({"BACKUP_RETENTION_DAYS": ""}).settings.backup_retention_days == 7
    loaded = load_file(env_file, "S3_BACKUP_BUCKET=\n", S3_BACKUP_BUCKET="frozen")
    assert loaded.settings.s3_backup_bucket == ""


def test_a_missing_file_is_a_warning(tmp_path: Path) -> None:
    """Without the file the environment alone counts, and it is said."""
    loaded = load_settings({ENV_FILE_VARIABLE: str(tmp_path / "absent"), "POSTGRES_DB": "hub"})
    assert loaded.settings.postgres_db == "hub"
    assert any("absent does not exist" in warning for warning in loaded.warnings)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A file that is there and can't be read is exit 2: to go on would be to back up something else."""
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings({ENV_FILE_VARIABLE: str(tmp_path)})
    latin = tmp_path / "latin"
    latin.write_bytes(b"POSTGRES_DB=\xe9t\xe9\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings({ENV_FILE_VARIABLE: str(latin)})


def test_a_broken_line_is_a_warning_without_its_text(env_file: Path) -> None:
    """A line that is not NAME=value is passed over and named by number: its text may be a secret."""
    loaded = load_file(env_file, f"POSTGRES_DB=hub\n{CANARY} 'oops\n")
    assert any("line 2" in warning for warning in loaded.warnings)
    assert CANARY not in "".join(loaded.warnings)


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields if is_secret(name)])
def test_each_secret_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    """`NAME_FILE` gives NAME, its trailing newline trimmed and nothing else of it."""
    path = tmp_path / "secret"
    text = f"https://hc-ping.com/{CANARY}" if name == "HEARTBEAT_URL" else f" {CANARY}$'\" "
    path.write_text(f"{text}\r\n", encoding="utf-8")
    keys = "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"
    pair = {"STATUS_USER": "x"} if name == "STATUS_PASSWORD" else {}
    for prefix in ("AWS_", "S3_MIRROR_"):
        pair |= {f"{prefix}{key}": "x" for key in keys if name.startswith(prefix) and not name.endswith(f"_{key}")}
        pair |= {"S3_MIRROR_BACKUP_BUCKET": "far"} if name.startswith("S3_MIRROR_") else {}
    loaded = load_settings({f"{name}_FILE": str(path), **pair})
    assert getattr(loaded.settings, name.lower()).get_secret_value() == text
    assert loaded.origins[name] == str(path)
    assert mask(f"[{text}]") == "[********]"


def test_a_secret_from_two_places_is_refused(tmp_path: Path) -> None:
    """NAME and NAME_FILE together are ambiguous: exit 2, both named, neither shown."""
    path = tmp_path / "secret"
    path.write_text(CANARY)
    with pytest.raises(SettingsError, match=r"POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set") as caught:
        load_settings({"POSTGRES_PASSWORD": CANARY, "POSTGRES_PASSWORD_FILE": str(path)})
    assert CANARY not in str(caught.value) + caught.value.remedy


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    """A NAME_FILE that is not there is exit 2, never an empty password."""
    with pytest.raises(SettingsError, match=r"POSTGRES_PASSWORD_FILE: .*absent can't be read: No such file"):
        load_settings({"POSTGRES_PASSWORD_FILE": str(tmp_path / "absent")})


BAD_VALUES = [
    ("BACKUP_RETENTION_DAYS", "seven"),
    ("BACKUP_RETENTION_DAYS", "-1"),
    ("BACKUP_RETENTION_DAYS", "7.5"),
    ("S3_RETENTION_DAYS", "-1"),
    ("BACKUP_KEEP_MIN", "0"),
    ("RESTORE_JOBS", "0"),
    ("RESTORE_JOBS", "33"),
    ("RESTORE_JOBS", "many"),
    ("RESTORE_JOBS", "\u0664"),
    ("BACKUP_COMPRESSION", "lz4"),
    ("BACKUP_COMPRESSION_LEVEL", "4"),
    ("BACKUP_COMPRESSION_LEVEL", "-1"),
    ("BACKUP_RATE_LIMIT", "fast"),
    ("BACKUP_RATE_LIMIT", "-1MB"),
    ("BACKUP_VERIFY", "maybe"),
    ("BACKUP_SOURCE", "podman"),
    ("BACKUP_SCHEDULE", "0 3 * *"),
    ("BACKUP_SCHEDULE", "61 3 * * *"),
    ("BACKUP_SCHEDULE", "0 3 31 2 *"),
    ("BACKUP_SCHEDULE", "0 3 31 4,6,9,11 *"),
    ("DRILL_SCHEDULE", "0 3 30 2 *"),
    ("VERIFY_SCHEDULE", "0 3 31 2 *"),
    ("S3_BACKUP_BUCKET", "two words"),
    ("S3_BACKUP_BUCKET", "s3://étable"),
    ("S3_BACKUP_BUCKET", "bucket?x=1"),
    ("BACKUP_ON_START", "perhaps"),
    ("TZ", "Europe/Lutetia"),
    ("TZ", "../../etc/passwd"),
    ("PGPORT", "70000"),
    ("S3_PREFIX", "a/../b"),
    ("S3_ENDPOINT_URL", "s3.fr-par.scw.cloud"),
    ("S3_ENDPOINT_URL", "http://[::1"),
    ("S3_ENDPOINT_URL", "https://minio:99999"),
    ("S3_ENDPOINT_URL", "https://:9000"),
    ("DOCKER_HOST", "docker"),
    ("DOCKER_HOST", "tcp://proxy:port"),
    ("DOCKER_HOST", "tcp://[proxy"),
    ("BACKUP_DIR", "backups"),
    ("LOG_LEVEL", "loud"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_named_with_its_place(name: str, value: str) -> None:
    """A bad value is one sentence that names the variable, the value and where it came from."""
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert str(caught.value).startswith(f"{name}={value} (environment): ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [CANARY, "ftp://h/x", "http://[::1/x", "https://h:99999/x", "https:///x", "https://h/a b", "https://h/\x1bx"],
)
def test_a_malformed_heartbeat_is_told_before_anything_is_done(url: str) -> None:
    """Exit 2, one sentence that names the variable and not its value, which holds a token."""
    with pytest.raises(
        SettingsError, match=r"^HEARTBEAT_URL \(environment\): is not a URL such as https://"
    ) as caught:
        load_settings({"HEARTBEAT_URL": url})
    assert url not in str(caught.value)


@pytest.mark.parametrize("url", ["https://me:canari@minio:99999", "me:canari@minio:9000"])
def test_a_password_in_a_malformed_url_is_not_shown(url: str) -> None:
    """The variable is named, with or without what can be shown of its value."""
    with pytest.raises(SettingsError, match=r"^S3_ENDPOINT_URL \(environment\)") as caught:
        load_settings({"S3_ENDPOINT_URL": url})
    assert "canari" not in str(caught.value)


def test_a_password_in_a_url_is_a_secret_wherever_it_stands() -> None:
    """In a setting that is shown and in a variable that libraries read: hidden in rows, kept as a digest, masked."""
    loaded = load_settings(
        {"S3_ENDPOINT_URL": "https://me:p%20ss!word@minio:9000", "HTTPS_PROXY": "http://u:proxypw@p"}
    )
    assert {name: value for name, value, _ in loaded.rows()}["S3_ENDPOINT_URL"] == "https://********@minio:9000"
    assert {name: secret for name, _, secret in loaded.values()}["S3_ENDPOINT_URL"]
    assert mask("p ss!word proxypw") == "******** ********"


def test_what_is_shown_anyway_is_not_masked() -> None:
    """Where the password is the role's or the database's own name, to mask that name would only tell so."""
    load_settings({"POSTGRES_DB": "hub_chantier", "POSTGRES_PASSWORD": "chantier", "PGPASSWORD": "postgres"})
    assert mask("hub_chantier of postgres") == "hub_chantier of postgres"


def test_keys_come_in_pairs() -> None:
    """One AWS key without the other is a slip, told without showing it."""
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as caught:
        load_settings({"AWS_SECRET_ACCESS_KEY": CANARY})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "sentence", "remedy"),
    [
        ({"AWS_ACCESS_KEY_ID": "a"}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: one is set", "boto3's own chain"),
        ({"STATUS_USER": "op"}, "STATUS_USER and STATUS_PASSWORD: one is set", "a page that everybody may see"),
        ({"STATUS_USER": "a:b", "STATUS_PASSWORD": CANARY}, "STATUS_USER=a:b (environment): has a colon", "a colon"),
        ({"TZ": "Paris/Europe"}, "TZ=Paris/Europe (environment): is not a time zone", "docs/settings.md"),
    ],
)
def test_each_check_has_a_remedy_of_its_own(environ: dict[str, str], sentence: str, remedy: str) -> None:
    """A colon in STATUS_USER is not a question of boto3's keys."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert str(caught.value).startswith(sentence)
    assert remedy in caught.value.remedy
    assert CANARY not in f"{caught.value} {caught.value.remedy}"
    assert ("boto3" in caught.value.remedy) == ("AWS_ACCESS_KEY_ID" in environ)


def test_no_error_shows_a_secret() -> None:
    """Whatever is wrong with the other values, a secret is in no error, nor in its chain."""
    secrets = {name.upper(): CANARY for name in Settings.model_fields if is_secret(name)}
    for name, value in BAD_VALUES:
        with pytest.raises(SettingsError) as caught:
            load_settings({**secrets, name: value})
        error: BaseException | None = caught.value
        while error is not None:
            assert CANARY not in str(error) + repr(error)
            error = error.__cause__


def test_rows_and_repr_hide_secrets() -> None:
    """`hubbackup config` shows that a secret is set, never what it is."""
    secrets = {name.upper(): CANARY for name in Settings.model_fields if is_secret(name)}
    secrets["HEARTBEAT_URL"] = f"https://hc-ping.com/{CANARY}"
    loaded = load_settings(secrets | {"STATUS_USER": "operator", "S3_MIRROR_BACKUP_BUCKET": "far"})
    rows = {name: value for name, value, _ in loaded.rows()}
    assert {rows[name] for name in secrets} == {"********"}
    assert CANARY not in f"{loaded!r}{loaded.settings}{loaded.rows()}"
    assert {value for name, value, _ in load_settings({}).rows() if name in secrets} == {""}


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
        ("BACKUP_SHEDULE", "BACKUP_SCHEDULE"),
        ("S3_BACKUP_BUKET", "S3_BACKUP_BUCKET"),
        ("S3_ENDPOINT", "S3_ENDPOINT_URL"),
    ],
)
def test_an_unknown_name_is_a_warning_with_the_nearest(misspelt: str, meant: str) -> None:
    """A misspelt setting is warned of with the name that was probably meant, and without its value."""
    (warning,) = load_settings({misspelt: CANARY}).warnings
    assert warning.startswith(f"{misspelt} (environment) is not a setting of hubbackup")
    assert warning.endswith(f"did you mean {meant}?")
    assert CANARY not in warning


def test_foreign_names_pass_without_a_word() -> None:
    """The application's own variables in the same file are none of our business."""
    assert load_settings({"SECRET_KEY": "x", "DATABASE_URL": "y", "PATH": "/bin", "HOME": "/root"}).warnings == ()


@pytest.mark.parametrize(
    ("written", "used"), [("backups", "backups/"), ("/a/b/", "a/b/"), ("/", ""), ("backups/", "backups/")]
)
def test_the_prefix_is_a_folder(written: str, used: str) -> None:
    """However it is written, a prefix ends in one slash and starts with none."""
    assert load_settings({"S3_PREFIX": written}).settings.s3_prefix == used


@pytest.mark.parametrize(("typed", "mode"), [("0600", 0o600), ("640", 0o640), ("0o660", 0o660), ("0644", 0o644)])
def test_a_file_mode_is_octal(typed: str, mode: int) -> None:
    """As chmod takes it; shown with four digits."""
    settings = load_settings({"BACKUP_FILE_MODE": typed}).settings
    assert settings.file_mode == mode
    assert settings.backup_file_mode == f"{mode:04o}"


@pytest.mark.parametrize("typed", ["0400", "0666", "0755", "u=rw", "06400", "-640", "8", "0602"])
def test_a_file_mode_that_makes_no_sense_is_refused(typed: str) -> None:
    """The owner reads and writes, nobody executes, not everybody writes: else exit 2, and the variable is named."""
    with pytest.raises(SettingsError, match="BACKUP_FILE_MODE="):
        load_settings({"BACKUP_FILE_MODE": typed})


@pytest.mark.parametrize("typed", ["bucket", "s3://bucket", "s3://bucket/", "bucket/"])
def test_a_bucket_may_be_typed_as_s3_tools_show_it(typed: str) -> None:
    """`s3://` and a slash at the end are not part of its name."""
    assert load_settings({"S3_BACKUP_BUCKET": typed}).settings.s3_backup_bucket == "bucket"


@pytest.mark.parametrize("typed", ["s3://", "s3://bucket/path", "bucket/path", "/"])
def test_what_is_no_bucket_is_refused(typed: str) -> None:
    """Never taken for "S3 is off"; a path belongs into S3_PREFIX, and the error says so."""
    with pytest.raises(SettingsError, match="S3_BACKUP_BUCKET=") as caught:
        load_settings({"S3_BACKUP_BUCKET": typed})
    assert "path" not in typed or "S3_PREFIX" in caught.value.remedy


def test_a_secret_that_only_root_may_read_comes_from_its_copy(tmp_path: Path) -> None:
    """The container's entry copies it; the original wins wherever it can be read."""
    secret, copies = tmp_path / "secret", tmp_path / "copies"
    copy = copies / str(secret).lstrip("/")
    copy.parent.mkdir(parents=True)
    copy.write_text("from the copy\n")
    environ = {"POSTGRES_PASSWORD_FILE": str(secret), "HUBBACKUP_COPIES_DIR": str(copies)}
    assert load_settings(environ).settings.postgres_password.get_secret_value() == "from the copy"
    secret.write_text("itself")
    assert load_settings(environ).settings.postgres_password.get_secret_value() == "itself"


def test_recipients_make_the_format_sealed() -> None:
    """Any of them; without one, as ever. Without a private key no drill is scheduled."""
    _, public = generate()
    settings = load_settings({"BACKUP_ENCRYPT_RECIPIENTS": f"{public},", "BACKUP_COMPRESSION": "zstd"}).settings
    assert settings.backup_format.suffix == ".sql.zst.age"
    assert [one.text for one in settings.recipients] == [public]
    assert settings.drills is None
    with_key = {"BACKUP_ENCRYPT_RECIPIENTS": public, "BACKUP_IDENTITY_FILE": "/hub.key"}
    assert load_settings(with_key).settings.drills is not None
    assert load_settings({"BACKUP_ENCRYPT_RECIPIENTS": " , "}).settings.backup_format.suffix == ".sql.gz"
    assert load_settings({}).settings.recipients == ()


def test_a_bad_recipient_is_refused() -> None:
    """In one sentence with the variable; a private key among them is never shown, wherever the error goes."""
    with pytest.raises(SettingsError, match=r"^BACKUP_ENCRYPT_RECIPIENTS \(environment\): 'hub' is not a public key"):
        load_settings({"BACKUP_ENCRYPT_RECIPIENTS": "hub"})
    private, _ = generate()
    with pytest.raises(SettingsError, match="there is a private key among the recipients") as raised:
        load_settings({"BACKUP_ENCRYPT_RECIPIENTS": private})
    assert private not in str(raised.value)
    assert mask(f"x {private} y") == "x ******** y"
    with pytest.raises(SettingsError, match=r"BACKUP_IDENTITY_FILE=hub.key .*is not an absolute path"):
        load_settings({"BACKUP_IDENTITY_FILE": "hub.key"})
