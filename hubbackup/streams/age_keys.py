"""The keys of age: public ones, for whom a file is sealed, and private ones, which open it.

A public key is `age1…`, or an ssh key (`ssh-ed25519 …`, `ssh-rsa …`). A private key rests in a file as `age-keygen`
or `ssh-keygen` writes it; age's own may be sealed itself, by a passphrase.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubbackup.errors import IdentityError, NotProvenError, PassphraseError, UsageError
from hubbackup.shown_text import keep_secret
from hubbackup.streams import age, ssh_keys

FINGERPRINT_CHARACTERS = 16
"""Of `age1…`: more than enough to tell one's own keys apart, and found by grep in a key's file."""
SECRET = re.compile(r"AGE-SECRET-KEY-[0-9A-Z-]+", re.IGNORECASE)
FILE_BYTES = 64 << 10
"""A key's file is never larger."""
KEYGEN = "hubbackup keygen makes a pair of keys"
Ask = Callable[[str], str]
"""Asks somebody for the passphrase of what is named so. Raises PassphraseError where nobody is there."""


@dataclass(frozen=True)
class Recipient:
    """A public key. `key` is pyrage's."""

    text: str
    fingerprint: str
    key: Any = field(repr=False, compare=False)


def parse_recipients(text: str) -> tuple[Recipient, ...]:
    """Public keys, separated by commas or line breaks. Raises UsageError for what is none."""
    if "PRIVATE KEY" in text or SECRET.search(text):
        raise UsageError(
            "there is a private key among the recipients: only its public key belongs there",
            remedy="take it out of the settings, and make a new pair: whoever has read them can open what it opens",
        )
    found: dict[str, Recipient] = {}
    for part in re.split(r"[,\r\n]", text):
        words = part.split()
        if not words or words[0].startswith("#"):
            continue
        pieces = [" ".join(words[:2])] if words[0].startswith("ssh-") else words  # an ssh key ends with a comment
        for piece in pieces:
            found.setdefault(piece, _recipient(piece))
    return tuple(found.values())


def _recipient(text: str) -> Recipient:
    import pyrage

    try:
        if text.startswith("ssh-"):
            return Recipient(text, _ssh_fingerprint(text), pyrage.ssh.Recipient.from_str(text))
        return Recipient(text, text[:FINGERPRINT_CHARACTERS], pyrage.x25519.Recipient.from_str(text))
    except (pyrage.RecipientError, ValueError) as error:
        raise UsageError(
            f"{text[:60]!a} is not a public key of age: it takes age1…, ssh-ed25519 … or ssh-rsa …", remedy=KEYGEN
        ) from error


def _ssh_fingerprint(text: str) -> str:
    """As `ssh-keygen -l` prints it. Raises ValueError."""
    try:
        blob = base64.b64decode(text.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ValueError(text) from error
    return ssh_keys.fingerprint_of(blob)


def generate() -> tuple[str, str]:
    """A new pair: the private key and the public one, as text."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


@dataclass(frozen=True)
class KeyFile:
    """A file of private keys. `name` for sentences, `read` gives its bytes. Raises UsageError where it can't."""

    name: str
    read: Callable[[], bytes]


class Identities:
    """The private keys at hand in this run. Nothing is read, and nobody asked, before a sealed backup needs it."""

    def __init__(self, files: Sequence[KeyFile] = (), ask: Ask | None = None) -> None:
        """Without `ask` nobody is there to type a passphrase."""
        self._files = tuple(files)
        self._ask = ask
        self._keys: list[Any] | None = None
        self._fingerprints: list[str] = []

    @property
    def named(self) -> bool:
        """Whether there is any file of keys, whatever is in it."""
        return bool(self._files)

    @property
    def where(self) -> str:
        """The files, for sentences."""
        return ", ".join(file.name for file in self._files)

    def keys(self) -> list[Any]:
        """pyrage's, all of them. Raises UsageError for a file that holds none, PassphraseError."""
        if self._keys is None:
            keys: list[Any] = []
            for file in self._files:
                found, fingerprints = _read(file.name, file.read(), self._ask)
                keys += found
                self._fingerprints += fingerprints
            self._keys = keys
        return self._keys

    def opens(self, header: bytes) -> bool:
        """Whether one of them opens the file of this header. Raises UsageError, NotProvenError for a broken one."""
        return age.opens(header, self.keys())

    def demand(self, name: str, header: bytes, recipients: Sequence[str]) -> None:
        """Raises IdentityError where no key at hand opens the backup `name`; `recipients` are the fingerprints of
        those that would. NotProvenError where its header is damaged, UsageError where a file of keys is of no use."""
        if self.named and self.opens(header):
            return
        whose = (
            f"it opens with the key of {' or of '.join(recipients)}"
            if recipients
            else "whose key it takes is not known"
        )
        if not self.named:
            raise IdentityError(
                f"{name} is sealed, and there is no private key here: {whose}",
                remedy="name the file that has it: --identity FILE, or BACKUP_IDENTITY_FILE",
            )
        if known := set(self._fingerprints) & set(recipients):
            raise NotProvenError(f"{name} is damaged: the key of {', '.join(known)} should open it, and does not")
        here = f" (of {', '.join(self._fingerprints)})" if self._fingerprints else ""
        raise IdentityError(
            f"no key in {self.where}{here} opens {name}: {whose}",
            remedy="name the file that has it: --identity FILE; a backup stays sealed with the keys of its day",
        )

    def open_text(self, sealed: str) -> str:
        """What `age.seal_text` sealed. Raises UsageError, NotProvenError."""
        return age.open_text(sealed, self.keys())


NO_IDENTITIES = Identities()


def _read(name: str, data: bytes, ask: Ask | None) -> tuple[list[Any], list[str]]:
    """The keys of a file, and the fingerprints of their public keys. Raises UsageError."""
    text = data.decode("utf-8", "replace")
    keep_secret(SECRET.findall(text))
    if data.startswith(age.MAGIC) or text.lstrip().startswith(age.ARMOR):
        return _read(name, _open_key_file(name, data, ask), None)
    if "PRIVATE KEY-----" in text:
        return _ssh_key(name, data, ask)
    import pyrage

    keys = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(pyrage.x25519.Identity.from_str(line.strip()))
        except pyrage.IdentityError as error:
            raise _no_key(name, line) from error
    if not keys:
        raise _no_key(name, "")
    return keys, [str(key.to_public())[:FINGERPRINT_CHARACTERS] for key in keys]


def _no_key(name: str, line: str) -> UsageError:
    """Never with what stands in the file."""
    if line.startswith(("age1", "ssh-")):
        return UsageError(f"{name} holds a public key: what opens a backup is the private one")
    if line.startswith("AGE-PLUGIN"):
        return UsageError(
            f"{name} holds a key of an age plugin, which hubbackup does not run", remedy="use age itself"
        )
    what = "something that is not a private key of age" if line else "no private key"
    return UsageError(f"{name} holds {what}: it takes AGE-SECRET-KEY-1…, or an ssh key", remedy=KEYGEN)


def _open_key_file(name: str, data: bytes, ask: Ask | None) -> bytes:
    """A file of keys that is sealed by a passphrase. Raises UsageError."""
    import pyrage

    if ask is None:
        raise _nobody_to_ask(name)
    try:
        opened: bytes = pyrage.passphrase.decrypt(data, ask(name))
    except pyrage.DecryptError as error:
        if str(error) == age.NO_KEY:
            raise UsageError(f"{name} is sealed by another key, and not by a passphrase: open it with age") from error
        raise UsageError(f"that is not the passphrase of {name}; nothing was done") from error
    return opened


def _ssh_key(name: str, data: bytes, ask: Ask | None) -> tuple[list[Any], list[str]]:
    import pyrage

    try:
        return [pyrage.ssh.Identity.from_buffer(data)], ssh_keys.fingerprints(data)
    except pyrage.IdentityError as error:
        if "decrypted first" not in str(error):
            raise UsageError(f"{name} is not an ssh key that age knows: it takes ed25519 and rsa") from error
    if ask is None:
        raise _nobody_to_ask(name)
    return _ssh_key(name, ssh_keys.without_passphrase(name, data, ask(name)), None)


def _nobody_to_ask(name: str) -> PassphraseError:
    return PassphraseError(
        f"{name} has a passphrase, and there is no terminal to ask for it",
        remedy="type it on a terminal (docker exec -it), or name a key that has none",
    )
