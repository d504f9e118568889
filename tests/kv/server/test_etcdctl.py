"""The real etcdctl against us, and everywhere beside it against the real etcd: what it prints must be the same."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onerack.kv.core import KvMachine
from onerack.kv.server.saved import pieces_of
from onerack.kv.server.server import KvServer
from tests.kv.server.etcdctl import commands, etcdctl, struck
from tests.kv.server.group import Group, group
from tests.kv.server.theirs import etcd, needs_etcd, needs_etcdctl
from tests.rpc.links import run

pytestmark = [pytest.mark.etcd, needs_etcdctl]

OTHERWISE = {"--user ann:pw defrag": "etcd's own error is not one of its API: code Unknown, auth: permission denied"}
"""Where we are not as etcd, and why."""


@asynccontextmanager
async def ours(directory: Path) -> AsyncIterator[str]:
    async with group(directory) as found:
        yield endpoint_of(found)


def endpoint_of(found: Group, name: str = "n1") -> str:
    return found.places[name].address.removeprefix("tcp://")


async def said(endpoint: str, line: str, typed: str = "") -> str:
    return await asyncio.to_thread(etcdctl, endpoint, line, typed)


@needs_etcd
def test_a_script_of_commands_has_the_same_outcome_as_with_etcd(tmp_path: Path) -> None:
    async def outcomes(endpoint: str) -> list[str]:
        return [f"$ {line}\n" + struck(await said(endpoint, line, typed)) for line, typed in commands()]

    async def main() -> None:
        async with ours(tmp_path) as here, etcd(tmp_path) as there:
            found, expected = await asyncio.gather(outcomes(here), outcomes(there))
            compared = [
                (one, other)
                for (line, _), one, other in zip(commands(), found, expected, strict=True)
                if line not in OTHERWISE
            ]
            assert [one for one, _ in compared] == [other for _, other in compared]

    asyncio.run(main())  # Some three hundred processes: on a busy machine they take their time.


async def watched(endpoint: str) -> str:
    """What `etcdctl watch` prints of a few changes, from the past on."""
    await said(endpoint, "put w/1 a")
    process = await asyncio.create_subprocess_exec(
        "etcdctl", "--endpoints", endpoint, "watch", "w/", "--prefix", "--rev", "2", "--prev-kv",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "ETCDCTL_API": "3"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        printed = [await process.stdout.readline() for _ in range(3)]
        await said(endpoint, "put w/1 b")
        await said(endpoint, "put w/2 c")
        await said(endpoint, "put elsewhere d")
        await said(endpoint, "del w/ --prefix")
        printed += [await process.stdout.readline() for _ in range(18)]
    finally:
        process.kill()
        await process.wait()
    return b"".join(printed).decode()


@needs_etcd
def test_a_watch_prints_the_same_as_with_etcd(tmp_path: Path) -> None:
    async def main() -> None:
        async with ours(tmp_path) as here, etcd(tmp_path) as there:
            found, expected = await asyncio.gather(watched(here), watched(there))
            assert found == expected
            assert "DELETE\nw/2\nc\nw/2\n" in found
            await asyncio.gather(*(said(endpoint, "compaction 5") for endpoint in (here, there)))
            late = await asyncio.gather(*(said(endpoint, "watch w/1 --rev 2") for endpoint in (here, there)))
            assert struck(late[0]) == struck(late[1])
            assert "compacted" in late[0]

    run(main())


def test_locks_and_elections_of_etcdctl(tmp_path: Path) -> None:
    async def main() -> None:
        async with ours(tmp_path) as here:
            locked = await said(here, "lock door env")
            assert re.search(r"\nETCD_LOCK_KEY=door/[0-9a-f]+\n", locked)
            assert re.search(r"\nETCD_LOCK_REV=\d+\n", locked)
            assert locked.startswith("0\n")
            assert (await said(here, "lock door false")).startswith("1\n")
            process = await asyncio.create_subprocess_exec(
                "etcdctl", "--endpoints", here, "elect", "throne", "me",
                stdout=asyncio.subprocess.PIPE, env={**os.environ, "ETCDCTL_API": "3"},
            )  # fmt: skip
            assert process.stdout is not None
            try:
                assert (await process.stdout.readline()).startswith(b"throne/")
                assert await process.stdout.readline() == b"me\n"
            finally:
                process.kill()
                await process.wait()

    run(main())


def test_a_lease_from_grant_to_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with ours(tmp_path) as here:
            granted = await said(here, "lease grant 100")
            [number] = re.findall(r"lease ([0-9a-f]+) granted with TTL\(100s\)", granted)
            await said(here, f"put k v --lease={number}")
            assert "keepalived with TTL(100)" in await said(here, f"lease keep-alive --once {number}")
            alive = await said(here, f"lease timetolive --keys {number}")
            assert re.search(r"granted with TTL\(100s\), remaining\(\d+s\), attached keys\(\[k\]\)", alive)
            assert "revoked" in await said(here, f"lease revoke {number}")
            assert await said(here, "get k") == "0\n"

    run(main())


def test_a_saved_snapshot_is_one_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with ours(tmp_path) as here:
            await said(here, "put k v")
            path = tmp_path / "saved"
            printed = await said(here, f"snapshot save {path}")
            assert printed.startswith("0\n"), printed
            content = path.read_bytes()
            # etcdctl keeps the sum in the file.
            assert content[-32:] == hashlib.sha256(content[:-32]).digest()
            machine = KvMachine()
            machine.restore(pieces_of(io.BytesIO(content), str(path)))
            assert machine.store.now(b"k") is not None

    run(main())


def test_a_cluster_of_three_as_etcdctl_sees_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            await found.until(lambda: len(found.places["n1"].node.book.all()) == 3)
            everywhere = ",".join(endpoint_of(found, name) for name in found.places)
            listed = await said(endpoint_of(found), "member list")
            assert [re.search(f"started, {name}, ", listed) is not None for name in found.places] == [True] * 3
            status = (await said(everywhere, "endpoint status")).splitlines()[1:]
            assert [", true, " in line for line in status].count(True) == 1
            assert (await said(everywhere, "endpoint health")).count("is healthy") == 3
            assert (await said(endpoint_of(found), "endpoint health --cluster")).count("is healthy") == 3
            hashes = await said(everywhere, "endpoint hashkv")
            assert len(set(re.findall(r", (\d+)\n", hashes))) == 1
            added = await said(everywhere, "member add n4 --learner --peer-urls=http://127.0.0.1:1")
            [number] = re.findall(r"Member\s+([0-9a-f]+) added", added)
            assert "in sync with leader" in await said(everywhere, f"member promote {number}")
            assert f"{number}, unstarted, , http://127.0.0.1:1, , true" in await said(everywhere, "member list")
            assert "removed" in await said(everywhere, f"member remove {number}")

    run(main())


def test_a_mirror_follows(tmp_path: Path) -> None:
    async def main() -> None:
        async with ours(tmp_path / "from") as here, ours(tmp_path / "to") as there:
            await said(here, "put m/1 a")
            await said(here, "put m/2 b")
            process = await asyncio.create_subprocess_exec(
                "etcdctl", "--endpoints", here, "make-mirror", "--prefix", "m/", there,
                stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "ETCDCTL_API": "3"},
            )  # fmt: skip
            try:
                await until_said(there, "get m/ --prefix", "0\nm/1\na\nm/2\nb\n")
                await said(here, "txn", "\nput m/3 c\ndel m/1\n\n\n")
                await until_said(there, "get m/ --prefix", "0\nm/2\nb\nm/3\nc\n")
            finally:
                process.kill()
                await process.wait()

    run(main())


async def until_said(endpoint: str, line: str, expected: str) -> None:
    async with asyncio.timeout(20):
        while await said(endpoint, line) != expected:
            await asyncio.sleep(0.05)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_performance_check_ends_with_figures(tmp_path: Path) -> None:
    """Whether it passes is a matter of the machine."""

    async def main() -> None:
        async with ours(tmp_path) as here:
            printed = await asyncio.to_thread(etcdctl, here, "check perf --load=s", "", 200.0)
            assert re.search(r"Throughput is \d+ writes/s", printed)
            assert "request took" in printed

    asyncio.run(main())


def test_etcdctl_with_certificates(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from tests.rpc.certificates import Authority

    async def main() -> None:
        authority = Authority(tmp_path)
        tls = authority.server(authority.issue("server", addresses=["127.0.0.1"]))
        shown = authority.issue("somebody")
        async with group(tmp_path) as found:
            place = found.places["n1"]
            async with KvServer(place.node, place.machine, "tls://127.0.0.1:0", tls=tls) as server:
                url = server.address.replace("tls://", "https://")
                with_certificate = f"--cacert {authority.path} --cert {shown} --key {shown}"
                assert await said(url, f"{with_certificate} put k v") == "0\nOK\n"
                assert await said(endpoint_of(found), "get k") == "0\nk\nv\n"
                assert not (await said(url, f"--cacert {authority.path} --command-timeout 1s get k")).startswith("0")

    run(main())
