"""Keys of age and ssh as their own programs make them, and sealed files as the program `age` opens them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hubbackup.streams.age_keys import Identities, KeyFile, Recipient, parse_recipients

PASSPHRASE = "sésame"
PROTECTED_PUBLIC = "age1xfms7k39rv8jl7nn9tt6r4w3w3k60y7u3g2rkdeku2hmhydkverq7qcrh3"
PROTECTED = b"""\
-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCA4UVFMSWkwdlA1NkVVTXBH
Y1FiMExnIDQKT3E1UkxIZE9jb0dHRzQ4d1d1OXE1S01JendsNnN1emZZb1hMWHZy
dlMxNAotLS0gWkxlNWtwWFY2MlpHMzV5YzB1c2tRZG1QQWNmUW9ZTEgvQnlZOEt0
eGMrYwqJNF9d3+kzCjixjecp2+zJHpCFzeIO4u/8XtvV5Gxa8ROrBAzXfkQNRSFY
WR6G/XrN5uKyRsiHT/TAwPxLgELy3K/LF+dp7/t0bhxJ/gVesDkni1UQD/VHgC+F
DUfzt/Y8aLokH7ZPvvjX9/CIf/3GOO+a0xejc+p7xVjSH8oyLQ6IggLLfBuv2Of7
baKax2SzG4wm80wwHJDC+yJzIZwfan4mH6JmHE0snVRJ6VByNbpMQOQDJjs3
-----END AGE ENCRYPTED FILE-----
"""
"""Its private key, sealed by that passphrase as `age -p` does, but with so little work that a test is quick."""
KINDS = ("age", "ed25519", "rsa")


@dataclass(frozen=True)
class Pair:
    """A pair of keys: the file of the private one, and the public one as it is written into the settings."""

    file: Path
    public: str

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """For whom to seal."""
        return parse_recipients(self.public)

    @property
    def fingerprint(self) -> str:
        """Of the public key."""
        return self.recipients[0].fingerprint

    @property
    def identities(self) -> Identities:
        """What opens it."""
        return Identities([KeyFile(str(self.file), self.file.read_bytes)])


def make_pair(directory: Path, kind: str = "age", name: str = "", passphrase: str = "") -> Pair:
    """By age-keygen or ssh-keygen."""
    file = directory / (name or f"key_{kind}")
    if kind == "age":
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
        public = subprocess.run(["age-keygen", "-y", file], check=True, capture_output=True, text=True).stdout
        return Pair(file, public.strip())
    size = ["-b", "2048"] if kind == "rsa" else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "who@where", "-f", file]
    subprocess.run(command, check=True)
    return Pair(file, file.with_name(f"{file.name}.pub").read_text().strip())


def opened(sealed: bytes, key: Path) -> bytes:
    """What `age -d` makes of a sealed file. Raises CalledProcessError where it refuses."""
    return subprocess.run(["age", "-d", "-i", key], input=sealed, check=True, capture_output=True).stdout


def sealed_by_age(plain: bytes, public: str) -> bytes:
    """What `age -r` makes."""
    return subprocess.run(["age", "-r", public], input=plain, check=True, capture_output=True).stdout
