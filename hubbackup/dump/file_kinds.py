"""What a file is that is no plain dump, by its first bytes: so that who restores it knows what to take instead."""

from __future__ import annotations

import re

FIRST_BYTES = 512
"""So many are enough."""

_BEGINNINGS = (
    (rb"PGDMP", "an archive in pg_dump's custom format, which pg_restore reads"),
    (rb"(?s).{257}ustar", "a tar archive; one that pg_dump -Ft wrote is read by pg_restore"),
    (rb"\x1f\x8b", "gzip data; it was compressed twice, or has another name than it should"),
    (rb"\x28\xb5\x2f\xfd", "zstd data, whose name should end with .zst"),
    (rb"BZh[1-9]", "bzip2 data"),
    (rb"\xfd7zXZ\0", "xz data"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"age-encryption\.org/|-----BEGIN AGE", "sealed by age; its name should end with .sql.gz.age"),
    (rb"\x85[\x01-\x04]|-----BEGIN PGP|[\x8c\xc3]\x0d\x04", "encrypted by PGP: decrypt it first"),
    (rb"\0+\Z", "zeros, as in a file that never was written"),
    (rb"(?i)\s*(?:<!doctype html|<html)", "a web page, such as a portal or a proxy answers"),
    (rb"\s*<\?xml", "XML, such as S3 answers for an error"),
    (rb"\s*[{\[]", "JSON, such as a manifest"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16, as PowerShell's > writes it; pg_dump --file is not changed on its way"),
    (rb"\xef\xbb\xbf", "text with a byte order mark, which an editor put there"),
    (rb"--\r\n", "a dump whose line breaks were changed on the way (CRLF); copy it as binary"),
    (rb"--\n-- PostgreSQL database dump\n", "a plain dump that is not compressed: gzip it first"),
    (rb"--\n-- PostgreSQL database cluster dump", "a dump of a whole server, by pg_dumpall: psql reads it"),
)
KINDS = tuple((re.compile(pattern), kind) for pattern, kind in _BEGINNINGS)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def kind_of(first: bytes) -> str:
    """What begins with `first`, in words that follow "it is"; empty for what is not known."""
    head = first[:FIRST_BYTES]
    for pattern, kind in KINDS:
        if pattern.match(head):
            return kind
    if head and _TEXT.fullmatch(head):
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.start < len(head) - 3:  # else a character is cut
                return ""
        return "text that pg_dump did not write"
    return ""
