"""Everything that the store may answer instead of a response: one table of codes and texts.

The idea: etcd's clients do not look at numbers of our own, they compare texts. Go's client turns the exact text into
a typed error and retries by the code, so both are part of the protocol, and they stand here and nowhere else.

The rule: an error is definite. Whoever does not know whether a write was applied answers one of the TIMEOUT texts,
never one that means "not done".

Source: the error table of etcd 3.4; the codes are gRPC's.
"""

from __future__ import annotations

from typing import Final

import msgspec

UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16


class KvError(msgspec.Struct, frozen=True):
    """A refusal: gRPC's status code, and the text that clients compare."""

    code: int
    text: str


class Refused(Exception):
    """How a refusal travels inside the core. Never leaves it: the machine answers its `error`."""

    def __init__(self, error: KvError) -> None:
        super().__init__(error.text)
        self.error = error


def _invalid(text: str) -> KvError:
    return KvError(INVALID_ARGUMENT, f"etcdserver: {text}")


def _failed(text: str) -> KvError:
    return KvError(FAILED_PRECONDITION, f"etcdserver: {text}")


def _unavailable(text: str) -> KvError:
    return KvError(UNAVAILABLE, f"etcdserver: {text}")


# Requests that make no sense, whatever the store holds.
EMPTY_KEY: Final = _invalid("key is not provided")
KEY_NOT_FOUND: Final = _invalid("key not found")
VALUE_PROVIDED: Final = _invalid("value is provided")
LEASE_PROVIDED: Final = _invalid("lease is provided")
TOO_MANY_OPS: Final = _invalid("too many operations in txn request")
DUPLICATE_KEY: Final = _invalid("duplicate key given in txn request")
INVALID_CLIENT_API: Final = _invalid("invalid client api version")
REQUEST_TOO_LARGE: Final = _invalid("request is too large")
MALFORMED: Final = KvError(INTERNAL, "grpc: error unmarshalling request")
"""Bytes that are no message; the text is gRPC's own."""

# Revisions.
COMPACTED: Final = KvError(OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION: Final = KvError(OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")

# Room.
NO_SPACE: Final = KvError(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
TOO_MANY_REQUESTS: Final = KvError(RESOURCE_EXHAUSTED, "etcdserver: too many requests")
CORRUPT_CLUSTER: Final = KvError(DATA_LOSS, "etcdserver: corrupt cluster")

# Leases.
LEASE_NOT_FOUND: Final = KvError(NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS: Final = _failed("lease already exists")
LEASE_TTL_TOO_LARGE: Final = KvError(OUT_OF_RANGE, "etcdserver: too large lease TTL")

# Watches; these come as a reason of a cancelled watch, without a code.
WATCH_RANGE_EMPTY: Final = "mvcc: watcher range is empty"
WATCH_ID_TAKEN: Final = "mvcc: duplicate watch ID provided on the WatchStream"
WATCH_COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"

# Members.
MEMBER_EXISTS: Final = _failed("member ID already exist")
PEER_URL_EXISTS: Final = _failed("Peer URLs already exists")
MEMBERS_NOT_STARTED: Final = _failed("re-configuration failed due to not enough started members")
UNHEALTHY: Final = _unavailable("unhealthy cluster")
MEMBER_BAD_URLS: Final = _invalid("given member URLs are invalid")
MEMBER_NOT_FOUND: Final = KvError(NOT_FOUND, "etcdserver: member not found")
MEMBER_NOT_LEARNER: Final = _failed("can only promote a learner member")
LEARNER_NOT_READY: Final = _failed("can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS: Final = _failed("too many learner members in cluster")
NOT_FOR_LEARNER: Final = _unavailable("rpc not supported for learner")

# Users and roles.
ROOT_USER_MISSING: Final = _failed("root user does not exist")
ROOT_ROLE_MISSING: Final = _failed("root user does not have root role")
USER_EXISTS: Final = _failed("user name already exists")
USER_EMPTY: Final = _invalid("user name is empty")
USER_NOT_FOUND: Final = _failed("user name not found")
ROLE_EXISTS: Final = _failed("role name already exists")
ROLE_EMPTY: Final = _invalid("role name is empty")
ROLE_NOT_FOUND: Final = _failed("role name not found")
AUTH_FAILED: Final = _invalid("authentication failed, invalid user ID or password")
PERMISSION_NOT_GIVEN: Final = _invalid("permission not given")
PERMISSION_REFUSED: Final = KvError(PERMISSION_DENIED, "etcdserver: permission denied")
ROLE_NOT_GRANTED: Final = _failed("role is not granted to the user")
PERMISSION_NOT_GRANTED: Final = _failed("permission is not granted to the role")
AUTH_NOT_ENABLED: Final = _failed("authentication is not enabled")
INVALID_TOKEN: Final = KvError(UNAUTHENTICATED, "etcdserver: invalid auth token")
INVALID_AUTH_MANAGEMENT: Final = _invalid("invalid auth management")
AUTH_REVISION_OLD: Final = _invalid("revision of auth store is old")

# The cluster.
NO_LEADER: Final = _unavailable("no leader")
NOT_LEADER: Final = _failed("not leader")
LEADER_CHANGED: Final = _unavailable("leader changed")
NOT_CAPABLE: Final = _unavailable("not capable")
STOPPED: Final = _unavailable("server stopped")
TIMEOUT: Final = _unavailable("request timed out")
TIMEOUT_LEADER_FAILED: Final = _unavailable("request timed out, possibly due to previous leader failure")
TIMEOUT_CONNECTION_LOST: Final = _unavailable("request timed out, possibly due to connection lost")
BAD_TRANSFEREE: Final = _failed("bad leader transferee")
UNKNOWN_METHOD: Final = KvError(UNIMPLEMENTED, "etcdserver: unknown method")
