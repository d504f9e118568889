"""Random requests about users and roles, and requests of users: few names, so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from onerack.kv.messages import LIBRARY
from tests.kv.server.beside.keys import KEYS, KeyRequests
from tests.kv.server.beside.sides import Step

USERS: Final = ("root", "ann", "bob", "cid", "")
ROLES: Final = ("root", "r1", "r2", "r3", "")
PASSWORDS: Final = ("pw", "pw", "pw", "other")
"""No empty one: with us nobody signs in with that."""
_ENDS: Final = (b"", b"", b"\0", b"b0", b"c", b"a", b"\xff", b"b/")

FOR_ANYBODY: Final = ("Compact", "LeaseGrant", "LeaseRevoke", "LeaseLeases", "Alarm")
"""With etcd they need no token although authentication is on; with us they do."""

OPENING: Final = [
    Step("UserAdd", {"name": "root", "password": "pw"}),
    Step("UserGrantRole", {"user": "root", "role": "root"}),
    Step("RoleAdd", {"name": "r1"}),
    Step("UserAdd", {"name": "ann", "password": "pw"}),
    Step("UserGrantRole", {"user": "ann", "role": "r1"}),
    Step("AuthEnable", {}),
    *(Step("Authenticate", {"name": name, "password": "pw"}) for name in ("root", "ann")),
]


class UserRequests:
    """Draws the next request."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._keys = KeyRequests(random, for_users=True)
        self._end_of = {key: random.choice(_ENDS) for key in (b"", *KEYS)}
        """One for each key: of two etcd takes the second one twice."""

    def draw(self, revision: int, known: list[str]) -> Step:
        """`known`: users who have a token; others ask nothing that etcd would do for anybody."""
        while True:
            step = self._drawn(revision)
            if step.method == "Authenticate":
                return msgspec.structs.replace(step, user="")  # A void token would be looked at by etcd, even now.
            if step.user in known or step.method not in FOR_ANYBODY:
                return step

    def _drawn(self, revision: int) -> Step:
        random = self._random
        user = random.choice(("root", "root", "root", "ann", "ann", "bob", "cid", "", "nobody"))
        if random.random() < 0.35:
            return self._keys.draw(revision, user)
        kinds: list[tuple[int, str, Callable[[], dict[str, Any]]]] = [
            (14, "Authenticate", lambda: {"name": self._user(), "password": random.choice((*PASSWORDS, ""))}),
            (2, "AuthEnable", dict),
            (1, "AuthDisable", dict),
            (5, "UserAdd", self._new_user),
            (2, "UserDelete", lambda: {"name": self._user()}),
            (3, "UserChangePassword", lambda: {"name": self._user(), "password": random.choice(PASSWORDS)}),
            (7, "UserGrantRole", lambda: {"user": self._user(), "role": random.choice(ROLES)}),
            (3, "UserRevokeRole", lambda: {"name": self._user(), "role": random.choice(ROLES)}),
            (3, "UserGet", lambda: {"name": self._user()}),
            (1, "UserList", dict),
            (5, "RoleAdd", lambda: {"name": random.choice(ROLES)}),
            (2, "RoleDelete", lambda: {"role": random.choice(ROLES)}),
            (3, "RoleGet", lambda: {"role": random.choice(ROLES)}),
            (1, "RoleList", dict),
            (12, "RoleGrantPermission", self._grant),
            (4, "RoleRevokePermission", self._revoke),
            (1, "MemberList", dict),
            (1, "Status", dict),
            (1, "Alarm", dict),
            (1, "MemberRemove", lambda: {"ID": 1}),
            (1, "MemberUpdate", lambda: {"ID": 1, "peerURLs": ["http://127.0.0.1:1"]}),
        ]
        _, method, fields = random.choices(kinds, [weight for weight, *_ in kinds])[0]
        return Step(method, fields(), random.randrange(3), user)

    def _user(self) -> str:
        return self._random.choice((*USERS, "ann", "bob", "nobody"))

    def _new_user(self) -> dict[str, Any]:
        """With or without a password."""
        random = self._random
        options = random.choice(({}, {}, {"options": LIBRARY["UserAddOptions"](no_password=random.random() < 0.6)}))
        name = random.choice(USERS)
        return {"name": name, "password": random.choice(PASSWORDS), **(options if name != "root" else {})}

    def _grant(self) -> dict[str, Any]:
        """Never without a permission: of that every node of etcd 3.4 dies."""
        random = self._random
        key = random.choice((b"", *KEYS))
        permission = LIBRARY["Permission"](permType=random.choice((0, 1, 2, 2)), key=key, range_end=self._end_of[key])
        return {"name": random.choice(ROLES), "perm": permission}

    def _revoke(self) -> dict[str, Any]:
        random = self._random
        key = random.choice((b"", *KEYS))
        return {"role": random.choice(ROLES), "key": key, "range_end": random.choice((self._end_of[key], b""))}
