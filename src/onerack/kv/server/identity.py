"""Who is who in etcd's API: numbers for names, and URLs for addresses.

The idea: etcd calls clusters and members by 64-bit numbers, and says `http://` where we say `tcp://`. A number is the
hash of a name, so every node gives the same one, and nobody has to agree on it.

The rule: a number is never 0, which means "nobody".
"""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = {"tcp": "http", "tls": "https"}
_BACK: Final = {"http": "tcp", "https": "tls"}


def member_id(name: str) -> int:
    return _number(name, b"member")


def cluster_id(name: str) -> int:
    return _number(name, b"cluster")


def _number(name: str, kind: bytes) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=kind).digest()
    return int.from_bytes(digest, "big") or 1


def url_of(address: str) -> str:
    """`tcp://h:p` as etcd's clients write it; what is neither tcp nor tls stays as it is."""
    scheme, colon, rest = address.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}{colon}{rest}"


def address_of(url: str) -> str:
    """The reverse. Raises: ValueError: it is no http(s) URL of a host and a port."""
    parts = urlsplit(url)
    if parts.scheme not in _BACK or not parts.hostname or parts.port is None or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not http(s)://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{_BACK[parts.scheme]}://{host}:{parts.port}"
