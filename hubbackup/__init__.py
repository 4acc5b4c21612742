"""hubbackup: PostgreSQL backups for docker compose, proven to restore."""


def package_version() -> str:
    """The installed version of hubbackup, as `0.1.0`."""
    from importlib.metadata import version  # here, for the sake of `hubbackup health`

    return version("hubbackup")
