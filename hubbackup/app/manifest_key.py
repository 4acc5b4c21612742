"""The key of the manifests: from the settings, else a file of our own, made at the first start.

The file outlives the container, in BACKUP_DIR, and is replaced by nothing: whoever loses it can't tell any more which
backups are theirs. Beside it stands since when manifests are signed here, so that older ones count as before.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from hubbackup.catalog.origin import SigningKey, Trust
from hubbackup.errors import HubbackupError
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.shown_text import keep_secret
from hubbackup.stores.final_name import give_name

KEY_FILE = "manifest.key"
SINCE_FILE = "signed-since.json"
KEY_BYTES = 32
SETTING = "BACKUP_MANIFEST_KEY"


class KeyFileError(HubbackupError):
    """The key's file is there, or could not be made, and is of no use."""


@dataclass(frozen=True)
class _Beginning:
    """When signing began here, and whether this server had backups of its own then."""

    at: datetime
    at_home: bool


class ManifestKey:
    """The key for one BACKUP_DIR. Nothing is read before it is needed, and only `make` makes a key."""

    def __init__(self, directory: Path, given: str, *, has_backups: Callable[[], bool]) -> None:
        """`directory` is `.hubbackup`; `given` the setting, which goes before the file."""
        self.path = directory / KEY_FILE
        self.given = bool(given)
        self._given = given
        self._since_path = directory / SINCE_FILE
        self._has_backups = has_backups
        self._trust: Trust | None = None

    def trust(self) -> Trust:
        """What is believed of manifests here. Once there is a key it is read no more, until `make`."""
        if self._trust is not None:
            return self._trust
        try:
            key = self._read()
        except KeyFileError as error:
            return self._believing(None, str(error))
        trust = self._believing(key)
        if key is not None:
            self._trust = trust
        return trust

    def look(self) -> Trust:
        """As `trust`, read anew. Raises KeyFileError where there is a key that is of no use."""
        self._trust = None
        self._read()
        return self.trust()

    def make(self) -> SigningKey:
        """The key to sign with, made where there is none yet. Raises KeyFileError."""
        self._trust = None
        key = self._read() or self._create()
        self._trust = self._believing(key)
        return key

    def _believing(self, key: SigningKey | None, problem: str = "") -> Trust:
        begun = self._beginning()
        if begun is None and key is not None:
            begun = self._begin()
        if begun is not None:
            return Trust(key, begun.at, begun.at_home, problem)
        return Trust(key, None, self._at_home, problem)

    def _read(self) -> SigningKey | None:
        """The setting's or the file's; None where there is none. Raises KeyFileError."""
        if self._given:
            return SigningKey(self._given.encode())
        try:
            # A link is not followed, a FIFO's other end not waited for.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"can't be read: {error.strerror}") from error
        try:
            text = os.read(descriptor, 4096).strip() if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        except OSError as error:
            raise self._unusable(f"can't be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        with contextlib.suppress(ValueError):
            if len(bytes.fromhex(text.decode("ascii"))) == KEY_BYTES and len(text) == 2 * KEY_BYTES:
                keep_secret([text.decode("ascii")])
                return SigningKey(text)
        raise self._unusable(f"is damaged: it must have {2 * KEY_BYTES} hexadecimal digits")

    def _unusable(self, what: str) -> KeyFileError:
        return KeyFileError(
            f"the manifest key {self.path} {what}",
            remedy=f"bring it back from a copy, or set {SETTING}: without it nobody can tell which backups are yours."
            " Where it is lost for good: remove the file, and hubbackup adopt NAME for each backup to keep",
        )

    def _create(self) -> SigningKey:
        """A new key under its final name, whole; another process may have been quicker. Raises KeyFileError."""
        text = secrets.token_hex(KEY_BYTES)
        fresh = self.path.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}.new")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)  # BACKUP_DIR itself is not ours to make
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, not a path
                    file.write(f"{text}\n")
                    file.flush()
                    os.fsync(descriptor)
                _publish(fresh, self.path)
            finally:
                with contextlib.suppress(OSError):
                    fresh.unlink()
        except OSError as error:
            raise KeyFileError(
                f"the manifest key {self.path} can't be made: {error.strerror}",
                remedy=f"make {self.path.parent} writable for the user that hubbackup runs as, or set {SETTING}",
            ) from error
        key = self._read()
        if key is None:
            raise self._unusable("vanished while it was made")
        return key

    def _beginning(self) -> _Beginning | None:
        document = read_json(self._since_path)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            at = datetime.fromisoformat(document["since"])
            return _Beginning(at if at.tzinfo else at.replace(tzinfo=UTC), bool(document["at_home"]))
        return None

    def _begin(self) -> _Beginning:
        """From now on manifests are signed here; remembered where that can be written."""
        begun = _Beginning(datetime.now(UTC), self._at_home)
        with contextlib.suppress(OSError):
            self._since_path.parent.mkdir(mode=0o700, exist_ok=True)  # as above
            write_json(self._since_path, {"since": begun.at.isoformat(), "at_home": begun.at_home})
        return begun

    @cached_property
    def _at_home(self) -> bool:
        return self._has_backups()


def _publish(fresh: Path, final: Path) -> None:
    """Give the file its name, unless the name is taken: then the other's is the key. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        give_name(fresh, final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
