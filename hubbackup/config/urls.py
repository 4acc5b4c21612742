"""URLs in settings: where one ends, what in it is secret by itself, and what makes it one that can be asked."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

SEPARATOR = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Between two URLs; a comma inside one (`?to=a@x,b@y`) separates nothing."""
CREDENTIALS = re.compile(r"://([^/\s?#]*)@")
BLANK = re.compile(r"[\x00-\x20\x7f]")
AWS = "amazonaws.com"
TOKEN_CHARACTERS = 12
"""A shorter word of a URL is not a token, and to mask it would mask ordinary words."""


def split_urls(text: str) -> list[str]:
    """The URLs in a list that is separated by commas or white space."""
    bare = (part.strip(" ,\t\r\n") for part in SEPARATOR.split(text.strip(" ,\t\r\n")))
    return [url for url in bare if url]


def is_web_url(text: str) -> bool:
    """Whether it can be asked over http or https: with a host, a port that exists, and no blank in it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not BLANK.search(text)


def passwords(text: str) -> list[str]:
    """The passwords before the hosts of URLs, as they stand there and percent-decoded."""
    found = [credentials.partition(":")[2] for credentials in CREDENTIALS.findall(text)]
    return sorted({form for part in found for form in (part, unquote(part)) if form})


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


def origin_of(endpoint_url: str) -> str:
    """Which S3 server an endpoint is: equal for two ways to write one. Empty is AWS, by whichever of its names."""
    if not endpoint_url:
        return AWS
    parts = urlsplit(endpoint_url)
    host = (parts.hostname or "").rstrip(".")
    if re.fullmatch(r"(.+\.)?amazonaws\.com", host):
        return AWS
    port = parts.port or (80 if parts.scheme == "http" else 443)
    place = host if port in (80, 443) else f"{host}:{port}"
    return place + parts.path.rstrip("/")
