"""Whether backups are tried by restoring them: the schema after a change, the whole each week."""

from __future__ import annotations

from hubbackup.doctor import Check, Diagnosis, each, ok, skip, warn
from hubbackup.doctor.site import Site
from hubbackup.runners.engine import Engine


def server(site: Site) -> Diagnosis:
    """A throwaway server can be made like the database's own."""
    settings = site.app.settings
    if settings.drills_in_database or not settings.drills_have_a_place:
        return skip("no server is made for drills")
    import docker.errors

    engine = Engine(settings.docker_host)
    try:
        with engine.errors():
            engine.client.images.get(site.runner.identity)
    except docker.errors.ImageNotFound:
        return warn(
            f"no drill is possible: the image of {site.runner.place} is not on this machine any more",
            "recreate the database's container (docker compose up -d)",
        )
    return ok("a throwaway server can be made of the database's own image")


def schema(site: Site) -> Diagnosis:
    """The schema was shown to restore, or when that is tried."""
    app = site.app
    if not app.settings.backup_schema_drill:
        return skip("BACKUP_SCHEMA_DRILL=false: whether the schema restores is seen only by a drill")
    proof = app.state.schema_proofs.of(site.database)
    if proof.skipped_because:
        return warn(
            f"whether the schema restores could not be tried: {proof.skipped_because}",
            "hubbackup drill --schema tries it now",
        )
    if proof.passed_at is None:
        return ok("whether the schema restores is tried after the next backup")
    return ok(f"the schema of {proof.name} was restored at {proof.passed_at:%Y-%m-%d %H:%M} UTC")


CHECKS = (
    Check("drill server", server, needs=("database",)),
    Check("schema drill", each(schema, reachable=False)),
)
