"""A backup by whatever an operator copies: a name, a path, a manifest, an address in S3; and never another one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hubbackup.catalog.typed_name import in_path, parse_name
from hubbackup.errors import UsageError

NAME = "hub_chantier_backup_20260208_030000.sql.gz"
STEM = NAME.removesuffix(".sql.gz")


@dataclass(frozen=True)
class At:
    """A place by its address."""

    address: str

    def describe(self) -> str:
        return self.address


PLACES = [At("/var/backups/hub-chantier"), At("s3://bucket/backups/")]


@pytest.mark.parametrize("last", [NAME, f"{STEM}.manifest.json", f"{STEM}.pinned"])
@pytest.mark.parametrize(
    "address", ["", "/var/backups/hub-chantier/", "backups/", "bucket/backups/", "s3://bucket/backups/"]
)
def test_the_same_backup_by_every_name_of_it(address: str, last: str) -> None:
    """What `ls`, `aws s3 ls` and `hubbackup list` print, and the manifest that stands above it in `ls -lt`."""
    assert str(parse_name(f"{address}{last}", PLACES)) == NAME


def test_the_manifest_of_another_format() -> None:
    """`.sql.zst` has its manifest behind its whole name."""
    assert str(parse_name(f"{STEM}.sql.zst.manifest.json")) == f"{STEM}.sql.zst"


@pytest.mark.parametrize(
    "typed",
    [
        f"s3://other/backups/{NAME}",
        f"s3://bucket/{NAME}",
        f"/srv/{NAME}",
        f"../{NAME}",
        f"/{NAME}",
        f"ups/{NAME}",
        f"s3://bucket/backups/../{NAME}",
    ],
)
def test_an_address_elsewhere_is_refused(typed: str) -> None:
    """The same name may rest in another bucket too: it is not taken for ours. The remedy names what can be typed."""
    with pytest.raises(UsageError, match=r"is not in /var/backups/hub-chantier, s3://bucket/backups/") as caught:
        parse_name(typed, PLACES)
    assert caught.value.remedy == f"give the name alone: {NAME}"


@pytest.mark.parametrize("typed", ["", "/", "..", "x.sql.gz", f"{NAME}\0", f"{NAME} ", f"{NAME}.partial", "é\ud800"])
def test_what_is_no_name_is_refused(typed: str) -> None:
    """One sentence that can be printed, and the command that prints the names."""
    with pytest.raises(UsageError, match="is not a name of a backup") as caught:
        parse_name(typed, PLACES)
    str(caught.value).encode()


def test_a_path_keeps_its_directory() -> None:
    """Only the last part is looked at, and only where it is one of ours."""
    assert str(in_path(f"/mnt/usb/{STEM}.manifest.json")) == f"/mnt/usb/{NAME}"
    assert str(in_path("/mnt/usb/dump.manifest.json")) == "/mnt/usb/dump.manifest.json"
