"""A Range request: which keys, in which order, and how many of them.

The idea: the store gives the keys of a range in their order. Filters, another order and the limit come on top, in
the order in which etcd applies them: with an order or a filter the limit comes last, else first.

The rules (etcd's, and clients depend on them): `count` is that of all keys in the range, whatever filter or limit; a
target without an order means ascending, but after the limit; versions that are equal to the order come by key.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from onerack.kv.core.errors import EMPTY_KEY, Refused
from onerack.kv.core.store import Store, end_of
from onerack.kv.core.version import Version

_NO_ORDER, _ASCENDING, _DESCENDING = range(3)
_BY_TARGET: Final[list[Callable[[Version], Any]]] = [
    attrgetter("key"),
    attrgetter("version"),
    attrgetter("create"),
    attrgetter("mod"),
    attrgetter("value"),
]


class Found(msgspec.Struct):
    """The answer to a Range request, not yet encoded."""

    versions: list[Version]
    more: bool
    count: int


def check_range(request: Any) -> None:
    """Raises: Refused: the request makes no sense."""
    if not request.key:
        raise Refused(EMPTY_KEY)


def find(store: Store, request: Any, revision: int) -> Found:
    """Requires: `revision` is the present one, maybe with an unfinished transaction on top.

    Raises: Refused: the revision asked for is compacted, or not there yet.
    """
    key, end = request.key, end_of(request.range_end)
    filtered = _is_filtered(request)
    limit = 0 if filtered or request.sort_order != _NO_ORDER else max(request.limit, 0)
    past = 0 < request.revision < revision
    if request.revision > 0 and request.revision != revision:
        store.check_readable(request.revision)
    if request.count_only:
        count = store.range_at(key, end, request.revision)[1] if past else store.count_now(key, end)
        return Found([], False, count)
    # One more than asked for: not to be shown, but it may change the order, as it does in etcd.
    wanted = limit + 1 if limit else 0
    versions, count = store.range_at(key, end, request.revision, wanted) if past else store.range_now(key, end, wanted)
    if filtered:
        versions = [version for version in versions if _passes(version, request)]
    versions = _ordered(versions, request)
    more = 0 < request.limit < len(versions)
    return Found(versions[: request.limit] if more else versions, more, count)


def _ordered(versions: list[Version], request: Any) -> list[Version]:
    order, target = request.sort_order, request.sort_target
    if (order == _NO_ORDER and target == 0) or not _NO_ORDER <= order <= _DESCENDING:
        return versions  # An order of which nobody knows is none, although a target is named.
    by = _BY_TARGET[target] if 0 <= target < len(_BY_TARGET) else _BY_TARGET[0]
    return sorted(versions, key=by, reverse=order == _DESCENDING)


def _is_filtered(request: Any) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _passes(version: Version, request: Any) -> bool:
    return not (
        (request.max_mod_revision and version.mod > request.max_mod_revision)
        or (request.min_mod_revision and version.mod < request.min_mod_revision)
        or (request.max_create_revision and version.create > request.max_create_revision)
        or (request.min_create_revision and version.create < request.min_create_revision)
    )
