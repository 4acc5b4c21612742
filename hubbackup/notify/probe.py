"""Whether a sink would take a message, found out without sending one: as far as that can be known.

A mail server is greeted as for a mail, over TLS and with the login; of an HTTP endpoint of one's own, and of the
dead man's switch, the address is connected to, unless a proxy (HTTPS_PROXY, HTTP_PROXY) stands before it. Whether a
service such as Slack knows a token, only a message shows.
"""

from __future__ import annotations

import contextlib
import functools
import smtplib
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

SECONDS = 5.0
OWN_ENDPOINTS = ("json", "xml", "form")


def probe(scheme: str, sender: Any) -> bool:
    """Whether `sender`, apprise's object for a URL of `scheme`, was tried at all.

    Raises OSError, smtplib.SMTPException where it would not take a message.
    """
    if getattr(sender, "smtp_host", ""):
        _greet(sender)
    elif scheme.removesuffix("s") in OWN_ENDPOINTS:
        return _connect("https" if sender.secure else "http", sender.host, sender.port)
    else:
        return False
    return True


def probe_url(url: str) -> bool:
    """Connect to the host of an http(s) URL: whether that was tried at all. Raises OSError."""
    parts = urlsplit(url)
    return _connect(parts.scheme, parts.hostname or "", parts.port)


def _connect(scheme: str, host: str, port: int | None) -> bool:
    """Not where a message would go through a proxy: that it can't be reached directly says nothing then."""
    if scheme in getproxies() and not proxy_bypass(host):
        return False
    with socket.create_connection((host, port or (443 if scheme == "https" else 80)), timeout=SECONDS):
        return True


def _greet(sender: Any) -> None:
    context = ssl.create_default_context()
    if not sender.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with_tls = functools.partial(smtplib.SMTP_SSL, context=context)
    server = (with_tls if sender.secure_mode == "ssl" else smtplib.SMTP)(
        sender.smtp_host, sender.port, timeout=SECONDS
    )
    try:
        if sender.secure_mode == "starttls":
            server.starttls(context=context)
        if sender.user and sender.password:
            server.login(sender.user, sender.password)
        else:
            server.ehlo_or_helo_if_needed()
    finally:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
