"""Resolvers: from a service's name to the addresses where it may be found.

The idea: `name://accounts` is looked up each time a connection is made, so a service may move. The interface is one
method; where the names are kept (a dict, a file, a key-value store) is the resolver's business.

The rule: what a resolver gives are addresses, tried in their order; an empty answer is an error that names the service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from onerack.errors import InputError, UsageError


class Resolver(Protocol):
    async def resolve(self, name: str) -> Sequence[str]:
        """The addresses of a service. Raises: UsageError: there is no such name."""


class StaticResolver:
    """Names that are known from the start."""

    def __init__(self, names: Mapping[str, str | Sequence[str]]) -> None:
        self._names = {name: _several(name, addresses) for name, addresses in names.items()}

    async def resolve(self, name: str) -> Sequence[str]:
        return _look_up(self._names, name, "the resolver")


class FileResolver:
    """A JSON file {"accounts": ["tcp://10.0.0.1:700", ...], ...}, read anew whenever a connection is made."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def resolve(self, name: str) -> Sequence[str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(str(self._path), f"the file of services cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(str(self._path), f"the file of services is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise InputError(str(self._path), "the file of services must hold an object: name -> address or addresses")
        return _look_up({key: _several(key, value) for key, value in found.items()}, name, str(self._path))


def _look_up(names: Mapping[str, Sequence[str]], name: str, where: str) -> Sequence[str]:
    if not names.get(name):
        raise UsageError(f"name://{name}: {where} knows no such service; it knows {', '.join(sorted(names)) or 'none'}")
    return names[name]


def _several(name: str, addresses: object) -> Sequence[str]:
    listed = [addresses] if isinstance(addresses, str) else addresses
    if not isinstance(listed, Sequence) or not all(isinstance(address, str) for address in listed):
        raise UsageError(f"the addresses of {name!r} must be a text or a list of texts; found {addresses!r}")
    return list(listed)
