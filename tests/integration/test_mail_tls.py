"""Mail as a real provider takes it: over TLS, with a login, from a server whose certificate is looked at."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.program import Done, Program
from tests.support.sinks import mail_sink, self_signed

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # what it is about

PASSWORD = "canary-Mot/2:Passe@"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program with all of its log, and a database's password that no server asks for here."""
    (tmp_path / "backups").mkdir()
    settings = {
        "BACKUP_SOURCE": "direct",
        "PGHOST": "127.0.0.1",
        "PGPORT": "9",
        "POSTGRES_DB": "hub_chantier",
        "BACKUP_DIR": str(tmp_path / "backups"),
        "NOTIFICATION_HOST": "srv1",
        "LOG_LEVEL": "debug",
        "LOG_FILE": str(tmp_path / "backups" / "hubbackup.log"),
    }
    return Program(tmp_path, settings)


def no_password(program: Program, *runs: Done) -> None:
    """The password is in nothing that was printed, logged or left on disk, in none of its forms."""
    texts = [run.out + run.err for run in runs]
    texts += [path.read_text(errors="replace") for path in program.directory.rglob("*") if path.is_file()]
    texts += [str(path) for path in program.directory.rglob("*")]
    encoded = base64.b64encode(f"\0backup\0{PASSWORD}".encode()).decode()
    for form in (PASSWORD, "canary-Mot", "canary-Mot%2F2", encoded):
        assert not [text for text in texts if form in text]


@pytest.mark.parametrize("mode", ["starttls", "ssl"])
def test_a_mail_over_tls_with_a_login(program: Program, certificate: Path, mode: str) -> None:
    """STARTTLS and TLS from the first byte on: the mail of a failed run arrives, encrypted, after a login; the
    password is in the URL alone."""
    with mail_sink(certificate, password=PASSWORD, implicit_tls=mode == "ssl") as mail:
        trust = {"NOTIFICATION_URLS": mail.secure_url(PASSWORD, mode), "SSL_CERT_FILE": str(certificate)}
        tested = program.run("notify-test", **trust)
        assert (tested.code, tested.out) == (0, "mailtos#1: sent\n"), tested.err
        failed = program.run("backup", **trust)
        assert failed.code == 1
        assert failed.event("notify.sent")["sinks"] == ["mailtos#1"]
    assert [found["subject"] for found in mail.mails] == [
        "hubbackup on srv1: test",
        "ALERTE: backup of hub_chantier on srv1 failed",
    ]
    assert mail.encrypted == [True, True]
    assert mail.logins == [("backup", PASSWORD)] * 2
    no_password(program, tested, failed)


def test_an_untrusted_certificate_is_told_and_changes_no_result(program: Program, certificate: Path) -> None:
    """A certificate that nobody vouches for: no mail and no password is sent, each line says why, the message
    waits, and the run ends as it would have ended."""
    with mail_sink(certificate, password=PASSWORD) as mail:
        url = mail.secure_url(PASSWORD)
        alone = program.run("backup")
        failed = program.run("backup", NOTIFICATION_URLS=url)
        assert (failed.code, failed.sentences) == (alone.code, alone.sentences)
        (said,) = failed.event("notify.failed")["sinks"].values()
        assert "certificate verify failed: self-signed certificate" in said
        tested = program.run("notify-test", NOTIFICATION_URLS=url)
        assert tested.code == 1
        assert "mailtos#1: FAILED" in tested.out
        assert "certificate verify failed" in tested.out
        assert (mail.raw, mail.logins) == ([], [])
        no_password(program, failed, tested)
        assert len(list((program.backups / ".hubbackup" / "spool").glob("*.json"))) == 1
        unchecked = program.run("notify-test", NOTIFICATION_URLS=f"{url}&verify=no")
        assert unchecked.code == 0, unchecked.out
    assert mail.encrypted == [True]


def test_a_refused_login_is_told(program: Program, certificate: Path) -> None:
    """With the server's own words, and not with the password."""
    with mail_sink(certificate, password="another") as mail:
        trust = {"NOTIFICATION_URLS": mail.secure_url(PASSWORD), "SSL_CERT_FILE": str(certificate)}
        tested = program.run("notify-test", **trust)
    assert tested.code == 1
    assert "535" in tested.out
    assert mail.raw == []
    no_password(program, tested)


def test_a_server_without_tls_gets_neither_password_nor_mail(program: Program) -> None:
    """`mailtos://` never falls back to sending in clear, though this server would take it."""
    with mail_sink(password=PASSWORD) as mail:
        tested = program.run("notify-test", NOTIFICATION_URLS=mail.secure_url(PASSWORD))
    assert tested.code == 1
    assert "STARTTLS" in tested.out
    assert (mail.raw, mail.logins) == ([], [])
    no_password(program, tested)
