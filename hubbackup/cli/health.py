"""`hubbackup health`. HEALTHCHECK calls it by a shorter path, in `__main__`."""

from __future__ import annotations

from hubbackup.cli.output import say
from hubbackup.errors import EXIT_FAILED, EXIT_SUCCESS
from hubbackup.health import check_beat, health_path


def health() -> int:
    """Report whether the daemon is alive, for HEALTHCHECK.

    Exit code 0, or 1 where it is not alive, or does not schedule.
    """
    healthy, sentence = check_beat(health_path())
    say(sentence)
    return EXIT_SUCCESS if healthy else EXIT_FAILED
