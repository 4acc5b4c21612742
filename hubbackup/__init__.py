"""hubbackup: PostgreSQL backups for docker compose, proven to restore."""

from importlib.metadata import version


def package_version() -> str:
    """The installed version of hubbackup, as `0.1.0`."""
    return version("hubbackup")
