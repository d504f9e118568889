"""Seeds: one number decides a whole run, through one stream of chance for each purpose.

The idea: if workload, network and faults drew from one stream, one more message would change everything after it.
With a stream each, one kind of fault can be switched off and the rest of the run stays as it was.

The rule: a stream depends on (seed, name) only; not on the process, the platform, or the order of asking.
"""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, name: str) -> random.Random:
    """The stream of chance of one purpose."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - the point is that it can be repeated
