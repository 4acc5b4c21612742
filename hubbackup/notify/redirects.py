"""A POST that is answered by 301, 302 or 303 is repeated as a GET without its body: the message never arrives.

The library that sends for apprise does so in silence, and whoever answers the GET has then taken the message. In a
thread that sends, such an answer is an error instead. 307 and 308 keep the POST as it is, and are followed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

LOSSY = (301, 302, 303)

_sending = threading.local()


@contextmanager
def no_lossy_redirects() -> Iterator[None]:
    """In this thread, and inside the block, a redirect that loses the message is an error that names its target."""
    _watch()
    _sending.now = True
    try:
        yield
    finally:
        _sending.now = False


@lru_cache(maxsize=1)
def _watch() -> None:
    from requests import RequestException, Response, Session

    usual = Session.get_redirect_target

    def target(session: Session, response: Response) -> str | None:
        found: str | None = usual(session, response)
        lossy = response.status_code in LOSSY and response.request.method == "POST"
        if found and lossy and getattr(_sending, "now", False):
            # Its path may hold a token; the scheme is named since http to https is the usual case.
            to = urlsplit(urljoin(response.url, found))
            place = f"{to.scheme} at {to.hostname}" + (f":{to.port}" if to.port else "")
            raise RequestException(
                f"it redirects ({response.status_code}) to {place}, where the message would not arrive:"
                " set that address"
            )
        return found

    watched: Any = target
    Session.get_redirect_target = watched  # type: ignore[method-assign]
