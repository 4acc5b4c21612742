"""The status page of a daemon: collector, cache and server put together for one App."""

from __future__ import annotations

import time
from collections.abc import Callable

from hubbackup.app import App
from hubbackup.health import check_beat, health_path, remark_of
from hubbackup.jobs.current import all_alive
from hubbackup.web.cache import SnapshotCache


def serve_status(app: App, *, patience_seconds: float = 0.0) -> Callable[[], None]:
    """Look at the stores and listen on STATUS_PORT, in threads; nothing where it is unset. Returns what ends it.

    The threads end with the process too. An App of its own keeps them from sharing a connection with the runs.
    A port that can't be opened is logged; for `patience_seconds` it may still be an earlier server's of this process.
    """
    if app.settings.status_port is None:
        return lambda: None
    own = App(app.loaded, cancel=app.cancel, log=app.log)
    cache = SnapshotCache(own.collector().take, own.state.history.stamp, app.log)
    return _serve(own, cache, patience_seconds)


def serve_refusal(app: App) -> Callable[[], None]:
    """As `serve_status`, where there is nothing to look at: the settings can't be used, and the page says so."""
    return _serve(app, None, 0.0) if app.settings.status_port is not None else lambda: None


def _serve(app: App, cache: SnapshotCache | None, patience_seconds: float) -> Callable[[], None]:
    from hubbackup.web.server import Login, StatusApp, StatusServer

    settings, log = app.settings, app.log
    assert settings.status_port is not None  # noqa: S101 - the callers have looked
    login = Login(settings.status_user, settings.status_password.get_secret_value()) if settings.status_user else None
    page = StatusApp(
        lambda: cache.current if cache is not None else None,
        lambda: check_beat(health_path()),
        log,
        login,
        at_work=lambda: all_alive(app.state.directory),
        remark=lambda: remark_of(health_path()),
        typable=lambda: app.host_reader.typable,
    )
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            server = StatusServer(page, settings.status_port)
            break
        except OSError as error:
            if time.monotonic() < deadline:
                app.cancel.wait(0.2)
                continue
            log.error(
                "status.unavailable",
                message=f"the status page can't listen on port {settings.status_port}: {error.strerror or error}",
                remedy="choose another STATUS_PORT",
            )
            return lambda: None
    if cache is not None:
        cache.start()
    server.start()
    log.info("status.started", message="the status page is listening", port=server.port, login=login is not None)

    def stop() -> None:
        if cache is not None:
            cache.stop()
        server.stop()

    return stop
