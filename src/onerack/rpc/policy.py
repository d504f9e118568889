"""Policy: who may call what, decided per method from the peer's identity.

The idea: with mutual TLS every peer has a name that the cluster's CA vouches for. A policy says for each method which
names may call it. The rule: what no entry covers is refused, once there is a policy; "not executed" is then sure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from onerack.errors import UsageError
from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.sessions import Reply
from onerack.rpc.link import Peer
from onerack.rpc.messages import Status

Allow = Callable[[str, Peer], bool]
"""(`Service.method`, peer) -> whether the call may be made."""


class Policy:
    """Made by `of` from what a user gives to `serve`."""

    def __init__(self, allow: Allow) -> None:
        self._allow = allow

    @classmethod
    def of(cls, given: object) -> Policy | None:
        """A function (method, peer) -> bool, or {"Service.method" or "Service.*": [patterns of names]}, or None.

        `{"Account.balance": ["*"], "Account.*": ["spiffe://bank/teller/*"]}`: the first entry that covers a method
        decides. A pattern is compared with every name of the peer's certificate.
        Raises: UsageError.
        """
        if given is None or isinstance(given, Policy):
            return given
        if callable(given):
            return cls(given)
        if not isinstance(given, Mapping):
            raise UsageError(f"policy={given!r}: must be a function (method, peer) -> bool, or a mapping of patterns")
        rules = [(str(method), _patterns(method, names)) for method, names in given.items()]
        return cls(lambda method, peer: _allowed(rules, method, peer))

    def refusal(self, method: str, peer: Peer) -> Reply | None:
        """Why the peer may not call the method; None: it may. The builtin services are for everybody."""
        if method.startswith("onerack.") or self._allow(method, peer):
            return None
        who = peer.identity or "a peer without a certificate"
        return fault_reply(Status.REFUSED, "forbidden", f"{who} may not call {method}")


def _patterns(method: object, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UsageError(f"policy for {method!r}: must be a list of patterns of names, found {names!r}")
    return tuple(map(str, names))


def _allowed(rules: list[tuple[str, tuple[str, ...]]], method: str, peer: Peer) -> bool:
    names = peer.names or (peer.identity,)
    for covered, patterns in rules:
        if fnmatchcase(method, covered):
            return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
    return False
