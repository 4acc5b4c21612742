"""`hubbackup` and `python -m hubbackup`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; `health` takes a short way, since HEALTHCHECK calls it every minute."""
    if sys.argv[1:] == ["health"]:
        from hubbackup.errors import EXIT_FAILED, EXIT_SUCCESS
        from hubbackup.health import check_beat, health_path

        healthy, sentence = check_beat(health_path())
        print(sentence)
        sys.exit(EXIT_SUCCESS if healthy else EXIT_FAILED)
    from hubbackup.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
