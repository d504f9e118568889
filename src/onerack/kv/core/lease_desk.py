"""Commands and questions about leases: from etcd's messages to `leases`, and back.

The idea: the end of a lease is the deletion of its keys, in one revision; whether a client ends it or the leader's
clock, makes no difference to the store.

The rules: who attaches a key to a lease, or ends it, must be allowed to write all its keys; a lease that is gone has a
TTL of -1, and that is no error.
"""

from __future__ import annotations

from typing import Any

from onerack.kv.core.alarms import Alarms
from onerack.kv.core.auth import Auth
from onerack.kv.core.commands import Changes, Handler, Kind, decode_expiry, decode_term
from onerack.kv.core.leases import Leases
from onerack.kv.core.operations import Operations
from onerack.kv.messages import LIBRARY

GONE: int = -1
"""The TTL of a lease that is not there."""


class LeaseDesk:
    """Where leases are granted, and end."""

    def __init__(self, leases: Leases, auth: Auth, alarms: Alarms, operations: Operations) -> None:
        self._leases = leases
        self._auth = auth
        self._alarms = alarms
        self._operations = operations

    def handlers(self) -> dict[int, tuple[Any, Handler]]:
        """By kind of command: the request's class (None: it is none of etcd's), and what carries it out."""
        return {
            Kind.LEASE_GRANT: (LIBRARY["LeaseGrantRequest"], self._on_grant),
            Kind.LEASE_REVOKE: (LIBRARY["LeaseRevokeRequest"], self._on_revoke),
            Kind.LEASE_EXPIRE: (None, self._on_expire),
            Kind.LEASE_TAKE_OVER: (None, self._on_take_over),
        }

    def _on_grant(self, user: str, request: Any, changes: Changes) -> bytes:
        self._auth.check_known(user)
        self._alarms.check_room()
        lease = self._leases.grant(request.ID, request.TTL)
        return bytes(LIBRARY["LeaseGrantResponse"](ID=lease.id, TTL=lease.ttl_s).SerializeToString())

    def _on_revoke(self, user: str, request: Any, changes: Changes) -> bytes:
        self._alarms.check_serving()
        self._auth.check_known(user)
        self._auth.check_keys_writable(user, self._leases.get(request.ID).keys)
        self._operations.delete_keys(self._leases.end(request.ID), changes)
        return b""

    def _on_expire(self, user: str, request: bytes, changes: Changes) -> bytes:
        term, ids = decode_expiry(request)
        if term >= self._leases.term:
            for number in ids:
                if number in self._leases:
                    self._operations.delete_keys(self._leases.end(number), changes)
        return b""

    def _on_take_over(self, user: str, request: bytes, changes: Changes) -> bytes:
        self._leases.take_over(decode_term(request))
        return b""

    # ------------------------------------------------------------------------------------------------ questions

    def time_to_live(self, user: str, request: Any, remaining_s: int) -> bytes:
        """A LeaseTimeToLiveResponse without header. Raises: Refused: its keys are none of the user's business."""
        response = LIBRARY["LeaseTimeToLiveResponse"](ID=request.ID, TTL=GONE)
        if request.ID in self._leases:
            lease = self._leases.get(request.ID)
            response.TTL, response.grantedTTL = remaining_s, lease.ttl_s
            if request.keys:
                for key in sorted(lease.keys):
                    self._auth.check_read(user, key, None)
                    response.keys.append(key)
        return bytes(response.SerializeToString())

    def all(self, user: str) -> bytes:
        """A LeaseLeasesResponse without header."""
        self._auth.check_known(user)
        status = LIBRARY["LeaseStatus"]
        leases = [status(ID=number) for number in sorted(self._leases.by_id)]
        return bytes(LIBRARY["LeaseLeasesResponse"](leases=leases).SerializeToString())
