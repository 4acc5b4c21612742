"""The status page of a daemon: collector, cache and server put together for one App."""

from __future__ import annotations

from collections.abc import Callable

from hubbackup.app import App
from hubbackup.health import check_beat, health_path
from hubbackup.jobs.current import all_alive
from hubbackup.web.cache import SnapshotCache


def serve_status(app: App) -> Callable[[], None]:
    """Look at the stores and listen on STATUS_PORT, in threads; nothing where it is unset. Returns what ends it.

    The threads end with the process too. An App of its own keeps them from sharing a connection with the runs.
    A port that can't be opened is logged.
    """
    settings, log = app.settings, app.log
    if settings.status_port is None:
        return lambda: None
    from hubbackup.web.server import Login, StatusApp, StatusServer

    own = App(app.loaded, cancel=app.cancel, log=log)
    cache = SnapshotCache(own.collector().take, own.state.history.stamp, log)
    login = Login(settings.status_user, settings.status_password.get_secret_value()) if settings.status_user else None
    page = StatusApp(
        lambda: cache.current,
        lambda: check_beat(health_path()),
        log,
        login,
        at_work=lambda: all_alive(own.state.directory),
    )
    try:
        server = StatusServer(page, settings.status_port)
    except OSError as error:
        log.error(
            "status.unavailable",
            message=f"the status page can't listen on port {settings.status_port}: {error.strerror or error}",
            remedy="choose another STATUS_PORT, then docker compose restart backup-cron",
        )
        return lambda: None
    cache.start()
    server.start()
    log.info("status.started", message="the status page is listening", port=server.port, login=login is not None)

    def stop() -> None:
        cache.stop()
        server.stop()

    return stop
