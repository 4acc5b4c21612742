"""Small files that outlive a process, in `.hubbackup` and the runtime directory: replaced whole, and private."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Replace the file by `text`, mode 0600; its directory is made where it is missing. Raises OSError.

    Until the end the old file stays as it was. A link in the place of the new one is not followed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def write_json(path: Path, document: Any) -> None:
    """As `write_text`, of a document that JSON can hold. Raises OSError."""
    write_text(path, json.dumps(document, ensure_ascii=False))


def read_json(path: Path) -> Any:
    """What the file holds; None where there is none, or where it makes no sense."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
