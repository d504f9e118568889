"""What a failed call of the store means, in three classes.

    KvRefused     definite: the store has looked at it and said no; nothing was changed
    NotExecuted   definite: it never happened and never will; it may be tried again
    Unknown       indefinite: it may have happened, once; look before you try again

The idea: what a node says of a command comes as an error of its handler, for the handler did run; here it becomes what
it means for the caller. The rule: nothing that is not proved becomes definite.
"""

from __future__ import annotations

from typing import Final

from onerack.errors import ApplicationError, CallError, NotExecuted, Unknown

TOKEN: Final = "onerack-token"
"""The metadata by which a call says who makes it: the token that `sign_in` has given."""
_SIGNED_OUT: Final = "etcdserver: user name is empty"
_FINAL: Final = frozenset({"too_large", "invalid", "bad_arguments", "no_method", "forbidden", "closed", "deadline"})
"""Why a call was not executed that would not be executed the next time either."""

_LEADERLESS: Final = frozenset({"no_leader", "not_leader", "leader_changed"})


class KvRefused(ApplicationError):
    """The store has refused: nothing was changed. The message is etcd's text, the cause gRPC's word for its code."""

    executed = False
    """The handler ran, as that of any ApplicationError; what its caller asked for was not done."""


def meaning_of(error: CallError) -> CallError:
    """The error as callers of the store get it."""
    if not isinstance(error, ApplicationError) or isinstance(error, KvRefused):
        return error
    words = str(error).partition(f" raised {error.type}: ")[2] or str(error)
    if error.type == "KvRefused":
        return KvRefused(words, cause=error.cause)
    if error.type in ("NotExecuted", "Overloaded"):
        return NotExecuted(words, cause=error.cause)
    if error.type == "Unknown":
        return Unknown(words, cause=error.cause)
    return error


def is_signed_out(error: CallError) -> bool:
    """The store did not know who called: authentication was turned on, or the token is void."""
    if not isinstance(error, ApplicationError) or error.type != "KvRefused":
        return False
    return error.cause == "unauthenticated" or str(error).endswith(_SIGNED_OUT)


def may_be_tried_again(error: CallError, *, reads: bool, orders: bool = False) -> bool:
    """Whether another attempt can do no harm, and may do better. `error`: as `meaning_of` gives it.

    `orders`: it is one to change the group. What the leader has refused then is for whoever gave it to know.
    """
    if isinstance(error, NotExecuted) and orders:
        return error.cause in _LEADERLESS
    if isinstance(error, NotExecuted):
        return error.cause not in _FINAL
    return reads and isinstance(error, Unknown)
