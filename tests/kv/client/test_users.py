"""Users of the native interface: signing in, what a user may, and tokens that are void."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import CallError, NotExecuted, Unknown, UsageError
from onerack.kv import client as kv
from onerack.kv.client.signed import Badge
from onerack.kv.core import Kind, encode_command
from onerack.raft.commands import KV
from tests.kv.client.nodes import Nodes, run

PATIENCE_S = 180.0
"""Hashing passwords takes its time where others work, too."""


async def founded(store: kv.KvClient) -> None:
    """Root, and ann who may read and write under `a/`; authentication is on."""
    auth = store.auth
    await auth.add_user("root", "secret")
    await auth.grant_role("root", "root")
    await auth.add_user("ann", "pw")
    await auth.add_role("writer")
    await auth.grant_permission("writer", "readwrite", "a/", prefix=True)
    await auth.grant_role("ann", "writer")
    await auth.enable()


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(kv.KvRefused) as caught:
        await call
    assert caught.value.executed is False
    return caught.value.cause, str(caught.value)


DENIED = ("permission_denied", "etcdserver: permission denied")
NAMELESS = ("invalid_argument", "etcdserver: user name is empty")
WRONG = ("invalid_argument", "etcdserver: authentication failed, invalid user ID or password")


def test_a_user_may_what_his_roles_may_and_nobody_may_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            nobody = nodes.client
            await founded(nobody)
            ann = await nodes.connect(user="ann", password="pw")
            await ann.put("a/1", "v")
            await ann.put("a/2", "v", previous=True)
            found = await ann.get("a/1")
            assert found is not None
            assert (await ann.find("a/", prefix=True)).count == 2
            assert (await ann.txn(success=[kv.Put(b"a/3", b"v")])).succeeded
            assert (await ann.delete("a/3")).deleted == 1
            denied: list[Any] = [
                ann.put("b", "v"), ann.get("b"), ann.get("b", serializable=True), ann.find("a", prefix=True),
                ann.delete("b"), ann.txn(success=[kv.Get(b"b")]), ann.txn(success=[kv.Put(b"b", b"")]),
                anext(ann.watch("b")), ann.manage("remove", "n1"), ann.add_member("n2", "tcp://h:1"),
                anext(ann.snapshot()), ann.defragment(), ann.auth.users(), ann.auth.disable(),
                ann.auth.add_user("eve", "pw"), ann.auth.roles_of("root"),
            ]  # fmt: skip
            for call in denied:
                assert await refused(call) == DENIED
            nameless: list[Any] = [
                nobody.put("a/1", "v"), nobody.get("a/1"), nobody.get("a/1", serializable=True), nobody.leases(),
                nobody.find("a/", prefix=True), nobody.alarms(), nobody.renew(1), nobody.remaining(1),
            ]  # fmt: skip
            for call in nameless:
                assert await refused(call) == NAMELESS
            assert (await nobody.status()).name == "n1"
            assert [member.name for member in await nobody.members()] == ["n1"]

    run(test, timeout_s=PATIENCE_S)


def test_users_and_roles_are_listed_changed_and_taken_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            await founded(nodes.client)
            root = (await nodes.connect(user="root", password="secret")).auth
            assert (await root.status()).enabled
            assert (await root.users(), await root.roles()) == (["ann", "root"], ["writer"])
            assert await root.roles_of("ann") == ["writer"]
            assert await root.permissions_of("writer") == [kv.Permission("readwrite", b"a/", b"a0")]
            await root.grant_permission("writer", "read", "a/", prefix=True)
            await root.grant_permission("writer", "write", "c")
            assert [each.kind for each in await root.permissions_of("writer")] == ["read", "write"]
            await root.revoke_permission("writer", "a/", prefix=True)
            assert await refused(root.revoke_permission("writer", "a/")) == (
                "failed_precondition", "etcdserver: permission is not granted to the role"
            )  # fmt: skip
            ann = await nodes.connect(user="ann", password="pw")
            assert await ann.auth.roles_of("ann") == ["writer"]
            await ann.put("c", "v")
            assert await refused(ann.put("a/1", "v")) == DENIED
            await root.revoke_role("ann", "writer")
            assert await refused(ann.put("c", "v")) == DENIED
            await root.delete_role("writer")
            await root.delete_user("ann")
            assert await refused(ann.put("c", "v")) == WRONG  # his token is void, and he cannot get another one
            await root.disable()
            await ann.put("c", "v")

    run(test, timeout_s=PATIENCE_S)


def test_a_wrong_password_and_an_unknown_user_sound_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            await founded(nodes.client)
            for user in ("ann", "nobody"):
                stranger = await nodes.connect(user=user, password="no")
                assert await refused(stranger.put("a/1", "v")) == WRONG
                assert await refused(anext(stranger.watch("a/1"))) == WRONG
            with pytest.raises(UsageError, match="without a user"):
                await nodes.connect(password="pw")

    run(test, timeout_s=PATIENCE_S)


def test_a_client_signs_in_when_users_are_asked_for_and_again_when_its_token_is_void(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            ann = await nodes.connect(user="ann", password="pw")
            await ann.put("b", "v")  # nobody is asked yet
            await founded(nodes.client)
            assert await refused(ann.put("b", "v")) == DENIED
            await asyncio.gather(*(ann.put(f"a/{number}", "v") for number in range(20)))
            auth = nodes.machines["n1"].auth
            (token,) = auth.state.tokens  # all of them with one token
            watched = ann.watch_all("a/", prefix=True)
            await anext(watched)
            await nodes.nodes["n1"].execute(KV, encode_command(Kind.LOG_OUT, b"", token.encode()))
            await asyncio.gather(*(ann.put(f"a/{number}", "w") for number in range(20)))
            (another,) = auth.state.tokens
            assert another != token
            assert (await anext(watched)).events  # it had begun, and goes on
            await nodes.nodes["n1"].execute(KV, encode_command(Kind.LOG_OUT, b"", another.encode()))
            assert (await anext(ann.watch_all("a/", prefix=True))).revision
            root = await nodes.connect(user="root", password="secret")
            await root.auth.change_password("ann", "new")
            assert await refused(ann.get("a/1")) == WRONG

    run(test, timeout_s=PATIENCE_S)


def test_a_token_is_good_on_every_node_and_outlives_the_leader(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            await founded(nodes.client)
            ann = await nodes.connect(user="ann", password="pw")
            await ann.put("a/1", "v")
            leader = nodes.leader
            (token,) = nodes.machines[leader].auth.state.tokens
            await nodes.nodes[leader].close()
            await ann.put("a/1", "w")
            for name in nodes.addresses.keys() - {leader}:
                await nodes.nodes[name].catch_up()
                # The same token: nobody had to show a password again.
                assert list(nodes.machines[name].auth.state.tokens) == [token]
                there = await nodes.connect(name, user="ann", password="pw", follow_leader=False)
                assert there._link._badge is not None
                there._link._badge._token = token
                found = await there.get("a/1")
                assert found is not None
                assert found.text == "w"

    run(test, timeout_s=PATIENCE_S)


class _Failing:
    """A stub whose sign-in is lost."""

    def __init__(self, error: CallError) -> None:
        self._error = error

    async def sign_in(self, name: str, password: str) -> str:
        raise self._error


def test_what_was_not_made_because_nobody_could_sign_in_was_not_executed() -> None:
    async def test() -> None:
        lost: Any = _Failing(Unknown("the connection was lost", cause="disconnected"))
        with pytest.raises(NotExecuted) as caught:
            await Badge("ann", "pw").token(lost)
        assert caught.value.cause == "disconnected"

    run(test, timeout_s=PATIENCE_S)
