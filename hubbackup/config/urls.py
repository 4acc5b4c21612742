"""The URLs of NOTIFICATION_URLS and HEARTBEAT_URL: where one ends, and what in them is secret by itself."""

from __future__ import annotations

import re
from urllib.parse import unquote

SEPARATOR = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Between two URLs; a comma inside one (`?to=a@x,b@y`) separates nothing."""
TOKEN_CHARACTERS = 12
"""A shorter word of a URL is not a token, and to mask it would mask ordinary words."""


def split_urls(text: str) -> list[str]:
    """The URLs in a list that is separated by commas or white space."""
    bare = (part.strip(" ,\t\r\n") for part in SEPARATOR.split(text.strip(" ,\t\r\n")))
    return [url for url in bare if url]


def secret_parts(urls: str) -> list[str]:
    """Each URL whole, its password, and the long words of its path and query (tokens), also percent-decoded."""
    found = []
    for url in split_urls(urls):
        rest = url.partition("://")[2]
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]  # an `@` after it is one of an address
        credentials = authority.rpartition("@")[0]
        place = rest[len(credentials) :]
        words = [word for word in re.split(r"[/?&=,;]", place) if len(word) >= TOKEN_CHARACTERS]
        tokens = [word for word in words if not {"@", "."} & set(unquote(word))]  # no address, no host
        found += [url, credentials.partition(":")[2], *tokens]
    return sorted({form for part in found for form in (part, unquote(part)) if form})
