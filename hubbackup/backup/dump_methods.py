"""How pg_dump delivers its bytes: its compression, and the transport."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup.errors import ToolError


@dataclass(frozen=True)
class DumpMethod:
    """How pg_dump delivers its bytes.

    `compress` is what `--compress` is asked for. `bulk`: the bytes need a cheap transport (`Runner.start`).
    """

    compress: str
    bulk: bool = False

    @property
    def codec(self) -> str:
        """What pg_dump must have been built with; digits alone mean gzip to every version, and 0 none."""
        return self.compress.partition(":")[0]


def dump_methods() -> list[DumpMethod]:
    """The methods that are tried, best first. What comes is decoded, and packed anew in members for the file.

    A pg_dump that can't compress like that says so and exits.

    Left to itself pg_dump writes by 4 KiB, and each write costs more than what it carries. zstd at level -1000 hardly
    looks for matches: it takes no longer than a copy, and makes pieces of 128 KiB. A pg_dump without zstd is mostly
    one before 16, which heeds the buffer that a `bulk` start gives it. Where the engine relays every byte, a small
    dump is the cheaper one: there pg_dump compresses. The last works with any pg_dump. Measured in
    docs/performance.md.
    """
    return [
        DumpMethod("zstd:level=-1000", bulk=True),
        DumpMethod("zstd:1"),
        DumpMethod("0", bulk=True),
        DumpMethod("1"),
        DumpMethod("0"),
    ]


def dump_options(method: DumpMethod, *, lock_wait_seconds: float) -> list[str]:
    """The plain format, compressed for the method, never waiting forever."""
    return [
        "--format=plain",
        f"--compress={method.compress}",
        f"--lock-wait-timeout={int(lock_wait_seconds * 1000)}",
    ]


def refuses_method(error: ToolError) -> bool:
    """Whether pg_dump only said that it can't compress like that, before it did anything."""
    return "compress" in error.stderr.lower() and "query" not in error.stderr
