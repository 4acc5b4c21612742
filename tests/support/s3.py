"""A real S3 server for tests: moto in a process of its own, over HTTP on a loopback port."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import boto3

from hubbackup.stores.s3 import S3Store
from hubbackup.stores.s3_calls import S3Limits

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

QUICK = S3Limits(
    connect_seconds=1,
    read_seconds=1.5,
    call_seconds=1.5,
    answer_seconds=1.8,
    after_silence_seconds=0.5,
    attempts=4,
    part_attempts=6,
    backoff_seconds=0.02,
    longest_backoff_seconds=0.1,
    no_progress_seconds=1.8,
    abort_seconds=0.5,
)
"""S3Store's limits, scaled so that a test of the whole way to giving up takes seconds."""


SMALL_PARTS = 8 << 10
"""The parts of S3Store, scaled by 1:1024."""


@dataclass(frozen=True)
class S3Server:
    """A running server. It accepts any credentials, and parts of any size."""

    endpoint_url: str
    access_key_id: str = "AKIATESTTESTTESTTEST"
    secret_access_key: str = "the-secret-that-no-message-may-show"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @cached_property
    def client(self) -> S3Client:
        """A plain client, for what the tests look at behind the store's back."""
        return self.client_at(self.endpoint_url)

    def client_at(self, endpoint_url: str) -> S3Client:
        """The same by another way."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )

    def bucket(self) -> str:
        """A fresh, empty bucket."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client.create_bucket(Bucket=name)
        return name

    def store(self, bucket: str, prefix: str = "backups/", **options: Any) -> S3Store:
        """A store in `bucket`, quick to give up and with small parts unless `options` say otherwise."""
        settings: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "region": "us-east-1",
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "limits": QUICK,
            "smallest_part_bytes": SMALL_PARTS,
        }
        return S3Store(bucket, prefix, **(settings | options))

    def settings(self, bucket: str) -> dict[str, str]:
        """The environment of a program that uses `bucket`."""
        return {
            "S3_BACKUP_BUCKET": bucket,
            "S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def unfinished(self, bucket: str) -> list[str]:
        """The keys of the multipart uploads that were begun and neither completed nor aborted."""
        return [upload["Key"] for upload in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    def keys(self, bucket: str) -> list[str]:
        """Every key in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Starts the server, waits until it answers, stops it at the end."""
    # Parts of a few KiB keep the tests fast; their sizes are tested against S3's own limits elsewhere.
    sizes = {"S3_UPLOAD_PART_MIN_SIZE": "1", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 << 20)}
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "moto.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdout=out,
                stderr=out,
                env=os.environ | sizes,
            )
        try:
            yield S3Server(_wait_for_answer(process, log))
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_for_answer(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            with urlopen(f"{found[1]}/moto-api/", timeout=10):
                return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"moto did not start: {log.read_text()}")
