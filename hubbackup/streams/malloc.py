"""glibc's heap, kept small: some 26 MB of an idle daemon that uploads to S3 were memory it had long freed.

Elsewhere than on glibc (musl, macOS) nothing is done, and nothing is needed.
"""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8
"""Of mallopt(3)."""


def one_heap() -> None:
    """Let all threads share one heap; by default each new one gets its own, which keeps the most it ever held.

    Caller's duty: before the first thread. Python's threads seldom allocate at the same time anyway.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Return to the system what is free in the heap: malloc_trim(3)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
