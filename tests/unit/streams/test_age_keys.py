"""Keys: which ones are taken, what is said of the others, and that no private key is ever shown."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from pathlib import Path

import pytest

from hubbackup.errors import PassphraseError, UsageError
from hubbackup.shown_text import mask
from hubbackup.streams import ssh_keys
from hubbackup.streams.age import seal_text
from hubbackup.streams.age_keys import Identities, KeyFile, generate, parse_recipients
from tests.support.age import KINDS, PASSPHRASE, PROTECTED, PROTECTED_PUBLIC, make_pair


def identities_of(text: str | bytes, ask: object = None) -> Identities:
    data = text.encode() if isinstance(text, str) else text
    return Identities([KeyFile("the file", lambda: data)], ask)  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [",", ", ", "\n", ",\n", "\r\n"])
def test_several_recipients(tmp_path: Path, separator: str) -> None:
    """Separated by commas or line breaks; an ssh key may have its comment; one that comes twice counts once."""
    pairs = [make_pair(tmp_path, kind) for kind in KINDS]
    publics = [pair.public.removesuffix(" who@where") for pair in pairs]
    found = parse_recipients(separator.join([*publics, publics[0], f"{publics[1]} a comment", ""]))
    assert [one.text for one in found] == publics
    assert parse_recipients(f"{publics[0]} {publics[0]}")[0].text == publics[0]
    assert parse_recipients(" ,\n") == ()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_the_fingerprint_of_an_ssh_key_is_its_own(tmp_path: Path, kind: str) -> None:
    """As `ssh-keygen -l` prints it; of the private key the same, with a passphrase or without."""
    pair = make_pair(tmp_path, kind)
    printed = subprocess.run(["ssh-keygen", "-l", "-f", pair.file], check=True, capture_output=True, text=True).stdout
    assert printed.split()[1] == pair.fingerprint
    assert pair.identities.keys()


def test_the_fingerprint_of_an_age_key_is_found_in_its_file(tmp_path: Path) -> None:
    """It is the beginning of the public key, which stands in what age-keygen writes."""
    pair = make_pair(tmp_path)
    assert len(pair.fingerprint) == 16
    assert pair.public.startswith(pair.fingerprint)
    assert pair.fingerprint in pair.file.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "age1",
        "age1qqqq",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa é",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI",
        "hub",
        "é\x1b[31m",
        "AGE1" + "Q" * 58,
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    """In one sentence that says what is taken."""
    with pytest.raises(UsageError, match=r"is not a public key of age: it takes age1…, ssh-ed25519 … or ssh-rsa …"):
        parse_recipients(text)


def test_a_private_key_among_the_recipients_is_never_shown(tmp_path: Path) -> None:
    """The worst mistake there is to make."""
    private, public = generate()
    for text in (private, f"{public},{private}", private.lower(), make_pair(tmp_path, "ed25519").file.read_text()):
        with pytest.raises(UsageError, match="there is a private key among the recipients") as raised:
            parse_recipients(text)
        assert private[20:] not in str(raised.value) + raised.value.remedy


def test_a_file_of_keys(tmp_path: Path) -> None:
    """As age-keygen writes it, several in one; comments and empty lines count for nothing. They are kept secret."""
    (first, _), (second, _) = generate(), generate()
    assert len(identities_of(f"# created\n# public key: age1\n{first}\n\n{second}\r\n").keys()) == 2
    assert mask(f"see {first}") == "see ********"
    assert len(make_pair(tmp_path).identities.keys()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no private key"),
        ("# a comment\n", "holds no private key"),
        ("age1qqqq", "holds a public key: what opens a backup is the private one"),
        ("ssh-ed25519 AAAA", "holds a public key"),
        ("AGE-SECRET-KEY-1QQQ", "holds something that is not a private key of age"),
        ("AGE-PLUGIN-YUBIKEY-1QQQ", "holds a key of an age plugin"),
        (b"\xff\x00\x1b[31m", "holds something that is not a private key"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "is not an ssh key that age",
        ),
        ("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "is not an ssh key that age knows"),
    ],
)
def test_a_file_that_holds_none(text: str | bytes, said: str) -> None:
    """One sentence, which never quotes the file."""
    with pytest.raises(UsageError, match=f"the file {said}"):
        identities_of(text).keys()


def test_no_file_is_read_before_it_is_needed() -> None:
    """And then once."""
    read = []
    private, _ = generate()

    def reading() -> bytes:
        read.append(1)
        return private.encode()

    identities = Identities([KeyFile("the file", reading)])
    assert identities.named
    assert not read
    assert identities.keys() == identities.keys()
    assert read == [1]


def test_a_passphrase_is_asked_for() -> None:
    """Of a file as `age -p` makes it, armored or not; a wrong one is one sentence, and so is a missing terminal."""
    import pyrage

    bare = base64.b64decode(b"".join(PROTECTED.splitlines()[1:-1]))
    for data in (PROTECTED, bare):
        asked: list[str] = []

        def ask(name: str, asked: list[str] = asked) -> str:
            asked.append(name)
            return PASSPHRASE

        identities = identities_of(data, ask)
        assert str(identities.keys()[0].to_public()) == PROTECTED_PUBLIC
        assert identities.keys()
        assert asked == ["the file"]
    with pytest.raises(UsageError, match="that is not the passphrase of the file; nothing was done"):
        identities_of(PROTECTED, lambda name: "wrong").keys()
    with pytest.raises(PassphraseError, match="the file has a passphrase, and there is no terminal to ask for it"):
        identities_of(PROTECTED).keys()
    private, public = generate()
    sealed = pyrage.encrypt(private.encode(), [one.key for one in parse_recipients(public)])
    with pytest.raises(UsageError, match="is sealed by another key, and not by a passphrase"):
        identities_of(sealed, lambda name: "x").keys()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_an_ssh_key_with_a_passphrase(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh-keygen opens it, in memory; without it, or without a terminal, one sentence says what to do."""
    pair = make_pair(tmp_path, kind, passphrase="se'same é")
    monkeypatch.setattr(ssh_keys, "IN_MEMORY", Path(tempfile.mkdtemp(dir=ssh_keys.IN_MEMORY)))
    data = pair.file.read_bytes()
    with pytest.raises(PassphraseError, match="has a passphrase, and there is no terminal to ask for it"):
        pair.identities.keys()
    with pytest.raises(UsageError, match="that is not the passphrase of the file; nothing was done"):
        identities_of(data, lambda name: "wrong").keys()
    identities = identities_of(data, lambda name: "se'same é")
    assert identities.open_text(seal_text("a text", [one.key for one in pair.recipients])) == "a text"
    assert pair.file.read_bytes() == data
    assert list(ssh_keys.IN_MEMORY.iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PassphraseError, match="only ssh itself opens, and there is no ssh-keygen here") as raised:
        identities_of(data, lambda name: "x").keys()
    assert "ssh-keygen -p" in raised.value.remedy
    ssh_keys.IN_MEMORY.rmdir()
