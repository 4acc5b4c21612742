"""A bucket that only lists: ListObjectsV2 answered with pages prepared beforehand, in a process of its own.

What a listing of a hundred thousand objects costs on our side can be measured with it: a real server's time, and
that of moto all the more, would be counted with ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

from hubbackup.catalog.backup import BackupName
from hubbackup.stores.s3 import S3Store

PAGE_KEYS = 1000
FIRST = datetime(2021, 1, 1, 3)
PREFIX = "backups/"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bucket</Name><Prefix>backups/</Prefix><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter>"
    "<EncodingType>url</EncodingType>"
)
OBJECT = (
    "<Contents><Key>{key}</Key><LastModified>2026-02-08T03:00:07.000Z</LastModified>"
    "<ETag>&quot;9b2cf535f27731c974343645a3985328-3&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>"
    "</Contents>"
)


def name_of(number: int) -> BackupName:
    """The name of the backup with this number: one an hour."""
    return BackupName("hub_chantier", FIRST + timedelta(hours=number))


@dataclass(frozen=True)
class PreparedBucket:
    """The running server."""

    endpoint_url: str

    def store(self) -> S3Store:
        """The bucket as hubbackup sees it."""
        return S3Store(
            "bucket", endpoint_url=self.endpoint_url, region="us-east-1", access_key_id="a", secret_access_key="b"
        )

    def requests(self) -> int:
        """How many pages it was asked for until now."""
        with urlopen(f"{self.endpoint_url}/requests") as answer:
            return int(answer.read())


@contextmanager
def prepared_bucket(backups: int) -> Iterator[PreparedBucket]:
    """Lists so many backups, a file and a manifest each, until it is left."""
    argv = [sys.executable, "-m", "tests.support.prepared_bucket", str(backups)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield PreparedBucket(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait(timeout=10)


def _pages(backups: int) -> list[bytes]:
    objects = []
    for number in range(backups):
        name = name_of(number)
        objects.append(OBJECT.format(key=PREFIX + name.manifest, size=1834))
        objects.append(OBJECT.format(key=f"{PREFIX}{name}", size=1_000_000))
    pages = []
    for start in range(0, max(len(objects), 1), PAGE_KEYS):
        more = start + PAGE_KEYS < len(objects)
        told = objects[start : start + PAGE_KEYS]
        tail = f"<KeyCount>{len(told)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            tail += f"<NextContinuationToken>{len(pages) + 1}</NextContinuationToken>"
        pages.append(f"{HEAD}{tail}{''.join(told)}</ListBucketResult>".encode())
    return pages


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: list[bytes]
    asked = 0

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/requests":
            body = str(_Handler.asked).encode()
        else:
            _Handler.asked += 1  # by one client, one request after the other
            body = self.pages[int(parse_qs(url.query).get("continuation-token", ["0"])[0])]
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(backups: int) -> None:
    """Serve until terminated; the endpoint's URL is the first line of stdout."""
    _Handler.pages = _pages(backups)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
