"""A real pgbouncer before an embedded server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.embedded_postgres import UNPRIVILEGED, EmbeddedPostgres, _free_port

INI = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = 10
logfile = {log}
"""


@contextmanager
def pgbouncer(server: EmbeddedPostgres, mode: str) -> Iterator[int]:
    """Its port. It gets a session of the server's to several clients in turn, as `pool_mode` has it."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    assert program is not None, "pgbouncer is not installed: .ci/provision does it"
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        listen, ini = _free_port(), home / "pgbouncer.ini"
        users = home / "users"
        users.write_text(f'"{server.user}" "{server.password}"\n')
        ini.write_text(
            INI.format(host=server.host, port=server.port, listen=listen, users=users, mode=mode, log=home / "log")
        )
        nobody = None
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = UNPRIVILEGED
            entry = pwd.getpwnam(nobody)
            for path in (home, users, ini):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        process = subprocess.Popen(
            [program, str(ini)], user=nobody, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 20
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", listen)) == 0:
                        break
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield listen
        finally:
            process.terminate()
            process.wait(10)
