"""`hubbackup` and `python -m hubbackup`."""

from __future__ import annotations

import contextlib
import gc
import os
import sys


def main() -> None:
    """Run the command line; `health` takes a short way, since HEALTHCHECK calls it every minute."""
    if sys.argv[1:] == ["health"]:
        from hubbackup.errors import EXIT_FAILED, EXIT_SUCCESS
        from hubbackup.health import check_beat, health_path

        healthy, sentence = check_beat(health_path())
        print(sentence)
        sys.exit(EXIT_SUCCESS if healthy else EXIT_FAILED)
    _fill_standard_streams()
    gc.disable()  # imports make no garbage; the command that is called enables it again
    from hubbackup.cli import run

    code = run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader has gone: Python would try once more, and exit with 120
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _fill_standard_streams() -> None:
    """Where one is closed, the next file that is opened would take its number, and get what is printed."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123


if __name__ == "__main__":
    main()
