"""Passwords: how they are kept, and how one is compared.

The idea: to hash a password is slow on purpose, and salt is chance, so both happen before the command enters the
log: what is replicated is the finished hash, and applying it costs nothing. The server calls `hashed` and `matches`
in a worker thread.

    scrypt$<n>$<r>$<p>$<salt, hex>$<hash, hex>

The rule: a plain password never enters the log, a snapshot or a message to another node.

Source: Percival 2009, RFC 7914.
"""

from __future__ import annotations

import hashlib
from typing import Final

SALT_BYTES: Final = 16
_N, _R, _P = 1 << 14, 8, 1
_HASH_BYTES: Final = 32


def hashed(password: str, salt: bytes) -> str:
    """What may enter the log. `salt`: SALT_BYTES from the operating system, drawn for this one password."""
    return _text(password, salt, _N, _R, _P)


def matches(password: str, stored: str) -> bool:
    """Whether `stored` was made from this password. False also for what is not a hash, such as no password at all."""
    try:
        kind, n, r, p, salt, _ = stored.split("$")
        found = _text(password, bytes.fromhex(salt), int(n), int(r), int(p))
    except ValueError:
        return False
    # Compared by their digests, so that the time says nothing about where the first difference lies.
    return kind == "scrypt" and hashlib.blake2b(found.encode()).digest() == hashlib.blake2b(stored.encode()).digest()


def _text(password: str, salt: bytes, n: int, r: int, p: int) -> str:
    digest = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, dklen=_HASH_BYTES)
    return f"scrypt${n}${r}${p}${salt.hex()}${digest.hex()}"
