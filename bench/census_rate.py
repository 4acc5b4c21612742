"""`python -m bench.census_rate FILE`: bytes per second of the census over a plain dump, from memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hubbackup.backup.pipeline import BATCH_BYTES
from hubbackup.dump.census import Census


def main() -> None:
    """Read the file, then time the census alone, in the pipeline's own portions; the best of three."""
    data = Path(sys.argv[1]).read_bytes()
    portions = [data[start : start + BATCH_BYTES] for start in range(0, len(data), BATCH_BYTES)]
    best = float("inf")
    for _ in range(3):
        census = Census()
        clock = time.perf_counter()
        for portion in portions:
            census.feed(portion)
        best = min(best, time.perf_counter() - clock)
        census.finish()
    print(len(data) / best)


if __name__ == "__main__":
    main()
