"""Tests of the service Auth on real nodes: logging in, tokens on every node, and their end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from onerack.config import KvConfig
from onerack.kv.messages import Permission
from tests.kv.server.client import Client, connected, refused
from tests.kv.server.group import group
from tests.rpc.links import run

WRONG = (3, "etcdserver: authentication failed, invalid user ID or password")
INVALID = (16, "etcdserver: invalid auth token")
DENIED = (7, "etcdserver: permission denied")


async def founded(client: Client) -> str:
    """Root, and ann who may read and write under `a/`; authentication is on. Root's token."""
    await client.call("UserAdd", name="root", password="secret")
    await client.call("RoleAdd", name="root")
    await client.call("UserGrantRole", user="root", role="root")
    await client.call("UserAdd", name="ann", password="pw")
    await client.call("RoleAdd", name="writer")
    permission = Permission(permType=2, key=b"a/", range_end=b"a0")
    await client.call("RoleGrantPermission", name="writer", perm=permission)
    await client.call("UserGrantRole", user="ann", role="writer")
    await client.call("AuthEnable")
    return str((await client.call("Authenticate", name="root", password="secret")).token)


def test_a_token_is_good_on_every_node_and_nobody_sees_a_password(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            async with connected(found.places["n1"].address) as client:
                await founded(client)
                assert await refused(client.call("Authenticate", name="ann", password="no")) == WRONG
                assert await refused(client.call("Authenticate", name="nobody", password="no")) == WRONG
                token = (await client.call("Authenticate", name="ann", password="pw")).token
                assert await refused(client.call("Put", key=b"a/1")) == (3, "etcdserver: user name is empty")
            for place in found.places.values():
                await place.node.catch_up()
                async with connected(place.address, token=token) as client:
                    await client.call("Put", key=b"a/1", value=b"v")
                    assert (await client.call("Range", key=b"a/1")).count == 1
                    assert await refused(client.call("Put", key=b"b")) == DENIED
                    assert await refused(client.call("Range", key=b"b", serializable=True)) == DENIED
                    for method in ("UserList", "Defragment", "HashKV", "AuthDisable"):
                        assert await refused(client.call(method)) == DENIED
                async with connected(place.address, token="forged") as client:
                    assert await refused(client.call("Put", key=b"a/1")) == INVALID
            for place in found.places.values():
                user = place.machine.auth.user("ann")
                assert user.password.startswith("scrypt$")

    run(main())


def test_a_changed_password_ends_all_that_was_begun_with_the_old_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            address = found.places["n1"].address
            async with connected(address) as client:
                root = await founded(client)
                token = (await client.call("Authenticate", name="ann", password="pw")).token
            async with connected(address, token=root) as admin:
                await admin.call("UserChangePassword", name="ann", password="new")
                assert (await admin.call("UserGet", name="ann")).roles == ["writer"]
                assert (await admin.call("UserList")).users == ["ann", "root"]
                assert (await admin.call("RoleGet", role="writer")).perm[0].key == b"a/"
                assert await refused(admin.call("Authenticate", name="ann", password="pw")) == WRONG
                assert (await admin.call("Authenticate", name="ann", password="new")).token != token
                assert (await admin.call("AuthStatus")).enabled
            async with connected(address, token=token) as client:
                assert await refused(client.call("Put", key=b"a/1")) == INVALID

    run(main())


def test_a_token_that_is_used_anywhere_lives_and_one_that_is_not_ends_everywhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3", config=KvConfig(auth_token_ttl_s=1.0)) as found:
            follower = found.follower
            async with connected(follower.address) as client:
                await founded(client)
                used = (await client.call("Authenticate", name="ann", password="pw")).token
                unused = (await client.call("Authenticate", name="ann", password="pw")).token
            async with connected(follower.address, token=used) as client:
                while any(unused in place.machine.auth.state.tokens for place in found.places.values()):
                    await client.call("Put", key=b"a/1")
                    await asyncio.sleep(0.05)
                await client.call("Put", key=b"a/1")

    run(main())
