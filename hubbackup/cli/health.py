"""`hubbackup health`."""

from __future__ import annotations


def health() -> int:
    """Tell whether the daemon is alive and scheduling, for HEALTHCHECK: exit code 0 or 1."""
    from hubbackup.health import health_path, judge

    healthy, sentence = judge(health_path())
    print(sentence)
    return 0 if healthy else 1
