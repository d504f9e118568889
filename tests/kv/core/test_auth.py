"""One test per sentence of what etcd promises of users and roles.

Compared with a real etcd 3.4.23 at random: the same answers, but where this store is stricter on purpose (the tests
named `..._unlike_etcd_3_4`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onerack.kv import messages
from onerack.kv.core import Kind, KvError, errors
from onerack.kv.core.commands import log_in, with_hashed_password
from onerack.kv.core.passwords import hashed, matches
from onerack.kv.messages import Permission
from tests.kv.core.client import Client, compare, delete_op, put_op, range_op, refused, txn_op

READ, WRITE, READWRITE = Permission.READ, Permission.WRITE, Permission.READWRITE


@pytest.fixture
def client() -> Client:
    """Authentication is on. `root` may all; `reader` may read [a, c); `writer` may write [a, c) and read [b, c)."""
    client = Client()
    grants = {"reader": [(b"a", b"c", READ)], "writer": [(b"a", b"c", WRITE), (b"b", b"c", READ)]}
    client.command(Kind.USER_ADD, name="root")
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    for name, permissions in grants.items():
        client.command(Kind.USER_ADD, name=name)
        client.command(Kind.ROLE_ADD, name=f"role of {name}")
        client.command(Kind.USER_GRANT_ROLE, user=name, role=f"role of {name}")
        for permission in permissions:
            grant(client, f"role of {name}", *permission)
    client.command(Kind.AUTH_ENABLE)
    return client


def each_refused(error: KvError, *calls: Callable[[], object]) -> None:
    for call in calls:
        with refused(error):
            call()


def grant(client: Client, role: str, key: bytes, range_end: bytes, kind: int) -> None:
    permission = Permission(key=key, range_end=range_end, permType=kind)
    client.command(Kind.ROLE_GRANT_PERMISSION, name=role, perm=permission)


# ------------------------------------------------------------------------------------------------ on and off


def test_authentication_needs_a_root_user_with_the_root_role() -> None:
    client = Client()
    with refused(errors.ROOT_USER_MISSING):
        client.command(Kind.AUTH_ENABLE)
    client.command(Kind.USER_ADD, name="root")
    with refused(errors.ROOT_ROLE_MISSING):
        client.command(Kind.AUTH_ENABLE)
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    client.command(Kind.AUTH_ENABLE)
    with refused(errors.USER_EMPTY):
        client.put(b"a")


def test_off_again_nobody_is_asked(client: Client) -> None:
    client.user = "root"
    client.command(Kind.AUTH_DISABLE)
    client.user = ""
    client.put(b"a")
    client.command(Kind.AUTH_DISABLE)


def test_each_change_of_users_and_roles_raises_the_auth_revision(client: Client) -> None:
    client.user = "root"
    before = client.ask("AuthStatus").authRevision
    client.command(Kind.ROLE_ADD, name="r")
    client.command(Kind.AUTH_ENABLE)
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    assert client.ask("AuthStatus").authRevision == before + 1
    assert client.ask("AuthStatus").enabled


# ------------------------------------------------------------------------------------------------ keys


def test_who_may_read_reads_and_does_not_write(client: Client) -> None:
    client.user = "reader"
    client.range(b"a", b"c")
    each_refused(
        errors.PERMISSION_REFUSED,
        lambda: client.range(b"a", b"cc"),
        lambda: client.range(b"a", b"\0"),
        lambda: client.range(b"c"),
        lambda: client.put(b"a"),
        lambda: client.delete(b"a"),
    )


def test_who_may_write_writes_and_does_not_see_what_was(client: Client) -> None:
    client.user = "writer"
    client.put(b"a")
    client.put(b"b", prev_kv=True)
    client.delete(b"a", b"c")
    each_refused(
        errors.PERMISSION_REFUSED,
        lambda: client.range(b"a"),
        lambda: client.put(b"a", prev_kv=True),
        lambda: client.delete(b"a", b"c", prev_kv=True),
        lambda: client.delete(b"a", b"\0"),
        lambda: client.put(b"c"),
    )


def test_root_may_all_and_a_stranger_nothing(client: Client) -> None:
    client.user = "root"
    client.put(b"z")
    client.user = "stranger"
    with refused(errors.PERMISSION_REFUSED):
        client.range(b"a")
    client.user = ""
    with refused(errors.USER_EMPTY):
        client.range(b"a")


def test_a_transaction_needs_the_permission_for_all_of_both_branches(client: Client) -> None:
    client.user = "writer"
    client.txn([compare(b"b", "EQUAL", "VERSION")], [put_op(b"a")], [delete_op(b"b")])
    forbidden: list[tuple[list[Any], list[Any], list[Any]]] = [
        ([compare(b"a", "EQUAL", "VERSION")], [], []),
        ([], [put_op(b"a")], [range_op(b"a")]),
        ([], [put_op(b"a"), put_op(b"c")], []),
        ([], [delete_op(b"a", prev_kv=True)], []),
    ]
    for parts in forbidden:
        with refused(errors.PERMISSION_REFUSED):
            client.txn(*parts)


def test_what_is_inside_an_inner_transaction_needs_the_permission_too_unlike_etcd_3_4(client: Client) -> None:
    client.user = "writer"
    for inner in (put_op(b"z"), range_op(b"a"), put_op(b"a", prev_kv=True), txn_op([], [put_op(b"z")])):
        with refused(errors.PERMISSION_REFUSED):
            client.txn([], [txn_op([], [], [inner])])


def test_who_attaches_a_key_to_a_lease_or_ends_it_must_be_allowed_to_write_its_keys(client: Client) -> None:
    client.user = "root"
    client.grant(7)
    client.put(b"z", lease=7)
    client.user = "writer"
    each_refused(
        errors.PERMISSION_REFUSED,
        lambda: client.put(b"a", lease=7),
        lambda: client.txn([], [put_op(b"a", lease=7)]),
        lambda: client.revoke(7),
        lambda: client.time_to_live(7, keys=True),
    )
    client.time_to_live(7)
    client.grant(8)
    client.put(b"a", lease=8)
    client.revoke(8)


def test_what_concerns_no_key_must_still_come_from_somebody_unlike_etcd_3_4(client: Client) -> None:
    each_refused(
        errors.USER_EMPTY,
        lambda: client.grant(7),
        lambda: client.compact(1),
        lambda: client.command(Kind.ALARM, action=1),
    )


def test_a_lease_expires_without_anybodys_permission(client: Client) -> None:
    client.user = "root"
    client.grant(7)
    client.put(b"z", lease=7)
    client.user = ""
    client.expire(7)
    assert 7 not in client.machine.leases


def test_a_permission_counts_from_its_place_in_the_log_on(client: Client) -> None:
    client.user = "root"
    client.command(Kind.ROLE_REVOKE_PERMISSION, role="role of writer", key=b"a", range_end=b"c")
    client.user = "writer"
    with refused(errors.PERMISSION_REFUSED):
        client.put(b"a")
    client.user = "root"
    grant(client, "role of writer", b"a", b"", READWRITE)
    client.user = "writer"
    client.put(b"a", prev_kv=True)


# ------------------------------------------------------------------------------------------------ users


def test_management_needs_root_and_everybody_may_ask_about_himself(client: Client) -> None:
    client.user = "reader"
    assert client.ask("UserGet", name="reader").roles == ["role of reader"]
    assert client.ask("RoleGet", role="role of reader").perm[0].range_end == b"c"
    each_refused(
        errors.PERMISSION_REFUSED,
        lambda: client.ask("UserGet", name="writer"),
        lambda: client.ask("RoleGet", role="role of writer"),
        lambda: client.ask("UserList"),
        lambda: client.ask("RoleList"),
        lambda: client.command(Kind.USER_ADD, name="x"),
        lambda: client.command(Kind.AUTH_DISABLE),
    )


def test_lists_are_sorted(client: Client) -> None:
    client.user = "root"
    assert client.ask("UserList").users == ["reader", "root", "writer"]
    assert client.ask("RoleList").roles == ["role of reader", "role of writer"]


def test_refusals_of_user_management(client: Client) -> None:
    client.user = "root"
    command = client.command
    for error, kind, fields in (
        (errors.USER_EMPTY, Kind.USER_ADD, {"name": ""}),
        (errors.USER_EXISTS, Kind.USER_ADD, {"name": "reader"}),
        (errors.USER_NOT_FOUND, Kind.USER_DELETE, {"name": "x"}),
        (errors.USER_NOT_FOUND, Kind.USER_CHANGE_PASSWORD, {"name": "x"}),
        (errors.USER_NOT_FOUND, Kind.USER_GRANT_ROLE, {"user": "x", "role": "root"}),
        (errors.ROLE_NOT_FOUND, Kind.USER_GRANT_ROLE, {"user": "reader", "role": "x"}),
        (errors.ROLE_NOT_GRANTED, Kind.USER_REVOKE_ROLE, {"name": "reader", "role": "role of writer"}),
        (errors.INVALID_AUTH_MANAGEMENT, Kind.USER_DELETE, {"name": "root"}),
        (errors.INVALID_AUTH_MANAGEMENT, Kind.USER_REVOKE_ROLE, {"name": "root", "role": "root"}),
        (errors.INVALID_AUTH_MANAGEMENT, Kind.ROLE_DELETE, {"role": "root"}),
        (errors.ROLE_EMPTY, Kind.ROLE_ADD, {"name": ""}),
        (errors.ROLE_EXISTS, Kind.ROLE_ADD, {"name": "role of reader"}),
        (errors.ROLE_NOT_FOUND, Kind.ROLE_DELETE, {"role": "x"}),
        (errors.ROLE_NOT_FOUND, Kind.ROLE_GRANT_PERMISSION, {"name": "x", "perm": Permission(key=b"a")}),
        (errors.PERMISSION_NOT_GIVEN, Kind.ROLE_GRANT_PERMISSION, {"name": "role of reader"}),
        (errors.ROLE_NOT_FOUND, Kind.ROLE_REVOKE_PERMISSION, {"role": "x"}),
        (errors.PERMISSION_NOT_GRANTED, Kind.ROLE_REVOKE_PERMISSION, {"role": "role of reader", "key": b"a"}),
    ):
        with refused(error):
            command(kind, **fields)


def test_a_role_that_is_granted_twice_is_granted_once(client: Client) -> None:
    client.user = "root"
    client.command(Kind.USER_GRANT_ROLE, user="reader", role="role of reader")
    assert client.ask("UserGet", name="reader").roles == ["role of reader"]


def test_a_permission_for_the_same_range_replaces_the_old_one(client: Client) -> None:
    client.user = "root"
    grant(client, "role of reader", b"a", b"c", WRITE)
    (permission,) = client.ask("RoleGet", role="role of reader").perm
    assert permission.permType == WRITE


def test_a_deleted_role_is_taken_from_its_users(client: Client) -> None:
    client.user = "root"
    client.command(Kind.ROLE_DELETE, role="role of reader")
    assert client.ask("UserGet", name="reader").roles == []
    client.user = "reader"
    with refused(errors.PERMISSION_REFUSED):
        client.range(b"a")


# ------------------------------------------------------------------------------------------------ passwords, tokens


def test_a_password_is_hashed_before_it_enters_the_log() -> None:
    request = messages.AuthUserAddRequest(name="u", password="secret", hashedPassword="forged").SerializeToString()
    rewritten = with_hashed_password(Kind.USER_ADD, request, b"salt" * 4)
    assert b"secret" not in rewritten
    assert b"forged" not in rewritten
    client = Client()
    client.apply(Kind.USER_ADD, rewritten)
    stored = client.machine.auth.user("u").password
    assert matches("secret", stored)
    assert not matches("Secret", stored)


def test_the_same_password_with_another_salt_is_another_hash() -> None:
    assert hashed("p", b"1" * 16) != hashed("p", b"2" * 16)


def test_nothing_matches_what_is_no_hash() -> None:
    for stored in ("", "scrypt$1$2", "x$16384$8$1$00$00", "scrypt$16384$8$1$zz$00"):
        assert not matches("", stored)


def test_a_user_without_password_cannot_get_one_hashed_to_log_in_with() -> None:
    client = Client()
    options = messages.UserAddOptions(no_password=True)
    client.command(Kind.USER_ADD, name="u", hashedPassword="scrypt$...", options=options)
    client.command(Kind.USER_CHANGE_PASSWORD, name="u", hashedPassword="scrypt$...")
    assert client.machine.auth.user("u").password == ""


def test_a_token_is_remembered_until_its_user_changes_or_it_is_given_back(client: Client) -> None:
    auth = client.machine.auth

    def log_in_again() -> None:
        client.user = ""
        answer = client.apply(Kind.LOG_IN, log_in("reader", "token"))
        assert messages.AuthenticateResponse.FromString(answer).token == "token"
        assert auth.user_of("token") == "reader"
        client.user = "root"

    log_in_again()
    client.command(Kind.USER_CHANGE_PASSWORD, name="reader", hashedPassword="x")
    assert auth.user_of("token") is None
    log_in_again()
    client.apply(Kind.LOG_OUT, b"other\ntoken\n")
    assert auth.user_of("token") is None
    log_in_again()
    client.command(Kind.ROLE_DELETE, role="role of reader")
    assert auth.user_of("token") == "reader"  # He may do less now, but is who he was.
    client.command(Kind.USER_DELETE, name="reader")
    assert auth.user_of("token") is None


def test_permissions_of_one_key_stand_in_the_order_in_which_they_were_granted(client: Client) -> None:
    client.user = "root"
    client.command(Kind.ROLE_ADD, name="wide")
    for key, end, kind in ((b"b", b"z", 0), (b"a", b"", 0), (b"b", b"c", 1), (b"b", b"z", 2)):
        client.command(Kind.ROLE_GRANT_PERMISSION, name="wide", perm=Permission(key=key, range_end=end, permType=kind))
    assert client.machine.auth.role("wide").grants == [(b"a", b"", 0), (b"b", b"z", 2), (b"b", b"c", 1)]


def test_nobody_logs_in_while_authentication_is_off() -> None:
    client = Client()
    client.command(Kind.USER_ADD, name="u")
    with refused(errors.AUTH_NOT_ENABLED):
        client.apply(Kind.LOG_IN, log_in("u", "token"))
