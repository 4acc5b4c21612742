"""Private keys of ssh: their fingerprints, and how one is opened that has a passphrase.

Only ssh itself knows how to do that: `ssh-keygen` is asked, with a copy that never leaves the memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from hubbackup.errors import PassphraseError, UsageError

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs
SECONDS = 60
ASKPASS = '#!/bin/sh\nexec cat "${0%/*}/passphrase"\n'
"""What ssh-keygen asks instead of a terminal."""


def fingerprint_of(blob: bytes) -> str:
    """Of a public key, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def fingerprints(private_key: bytes) -> list[str]:
    """Of an OpenSSH key, whose public half is never encrypted; nothing for older kinds of files."""
    lines = private_key.decode("ascii", "replace").splitlines()
    try:
        blob = base64.b64decode("".join(line for line in lines if not line.startswith("-----")))
        rest = blob.removeprefix(b"openssh-key-v1\0")
        if rest == blob:
            return []
        for _ in range(3):  # cipher, key derivation, its options
            _, rest = _string(rest)
        public, _ = _string(rest[4:])  # behind the number of keys
        return [fingerprint_of(public)]
    except (ValueError, binascii.Error):
        return []


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A string with its length in front, and what follows it."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("cut short")
    return data[4 : 4 + size], data[4 + size :]


def without_passphrase(name: str, private_key: bytes, passphrase: str) -> bytes:
    """The key `name` as a file without a passphrase has it.

    Raises UsageError where that is not its passphrase, PassphraseError where it can't be opened here.
    """
    if not IN_MEMORY.is_dir():
        raise _cannot(name, f"there is no {IN_MEMORY}")
    with tempfile.TemporaryDirectory(prefix="hubbackup-", dir=IN_MEMORY) as directory:
        copy, asking = Path(directory, "key"), Path(directory, "ask")
        _write(copy, private_key, 0o600)
        _write(Path(directory, "passphrase"), passphrase.encode() + b"\n", 0o600)
        _write(asking, ASKPASS.encode(), 0o700)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "SSH_ASKPASS": str(asking),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": ":0",  # for an ssh before 8.4
        }
        try:
            done = subprocess.run(
                ["ssh-keygen", "-q", "-p", "-N", "", "-f", str(copy)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                start_new_session=True,  # no terminal to ask at
                check=False,
            )
        except FileNotFoundError as error:
            raise _cannot(name, "there is no ssh-keygen") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _cannot(name, f"ssh-keygen does not work ({error})") from error
        if done.returncode:
            raise UsageError(f"that is not the passphrase of {name}; nothing was done")
        return copy.read_bytes()


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(data)


def _cannot(name: str, why: str) -> PassphraseError:
    return PassphraseError(
        f"{name} is an ssh key with a passphrase, which only ssh itself opens, and {why} here",
        remedy="take the passphrase off a copy where ssh is: ssh-keygen -p -f COPY; remove the copy afterwards",
    )
