"""What botocore reads to make an S3 client: read once for all clients, and without what S3 never needs.

By itself each client takes some 13 MB, half of it for the prose of the S3 model and the endpoints of four hundred
other services; a daemon makes several clients, and lives for months.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.loaders import Loader

SERVICES = ("s3", "sts", "sso", "oidc", "portal.sso", "signin")
"""S3, and those that credentials come from: their names in botocore's `endpoints`."""
READING = threading.Lock()
"""Held while a client is made: two that are made at once would each read it all."""
OPENERS: dict[str, Callable[[str, str], Any]] = {".json": open, ".json.gz": gzip.open}


@lru_cache(maxsize=1)
def loader() -> Loader:
    """The one that all sessions share: what it has read it keeps."""
    import botocore.loaders

    files: Any = LeanFiles()  # its stub wants botocore's own class, its document these two methods
    return botocore.loaders.Loader(file_loader=files)


class LeanFiles:
    """A `file_loader` of botocore's Loader: the same files, but only what `lean` leaves of them."""

    def exists(self, file_path: str) -> bool:
        """Whether there is such a file, compressed or not."""
        return any(Path(file_path + suffix).is_file() for suffix in OPENERS)

    def load_file(self, file_path: str) -> Any:
        """The file's JSON; None where there is none, as the Loader wants it."""
        for suffix, opener in OPENERS.items():
            if Path(file_path + suffix).is_file():
                with opener(file_path + suffix, "rb") as file:
                    return json.loads(file.read(), object_hook=lean)
        return None


def lean(data: dict[str, Any]) -> dict[str, Any]:
    """One JSON object, without its prose; a partition of `endpoints` with SERVICES only."""
    if isinstance(data.get("documentation"), str):
        data["documentation"] = ""
    if "partition" in data and "services" in data:
        data["services"] = {name: data["services"][name] for name in SERVICES if name in data["services"]}
    return data
