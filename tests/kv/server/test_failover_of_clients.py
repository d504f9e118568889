"""etcdctl with three endpoints while leaders move and nodes stop and return: nothing is missed, told twice or lost.

The idea: what a client sees of a change of leaders is the library's retries as much as our codes: it goes to another
node only on what it takes for passing. So the real one is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kv.server.beside.cluster import CALM, NAMES
from tests.kv.server.etcdctl import etcdctl
from tests.kv.server.group import Group, group
from tests.kv.server.theirs import needs_etcdctl

pytestmark = [pytest.mark.etcd, needs_etcdctl]
_LEASE_S = 60
"""Far longer than a busy machine stands still: the lease is renewed several times meanwhile."""


def endpoints(found: Group) -> str:
    return ",".join(found.places[name].address.removeprefix("tcp://") for name in NAMES)


async def said(everywhere: str, line: str) -> str:
    return await asyncio.to_thread(etcdctl, everywhere, line, "", 60.0)


@asynccontextmanager
async def running(everywhere: str, *words: str) -> AsyncIterator[asyncio.StreamReader]:
    """An etcdctl that goes on."""
    process = await asyncio.create_subprocess_exec(
        "etcdctl", "--endpoints", everywhere, *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "ETCDCTL_API": "3"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def trouble(found: Group) -> None:
    """Each node is stopped once; between that the leader moves."""
    for name in NAMES:
        leader = found.leader
        if leader is not None:
            other = next(other for other in NAMES if other != leader.node.name)
            await asyncio.gather(leader.node.manage("transfer", other), return_exceptions=True)
        address = found.places[name].address
        await found.places[name].stop()
        await found.until(lambda: found.leader is not None, 60.0)
        await asyncio.sleep(0.5)
        await found.add(name, address=address)
        await found.until(lambda: found.leader is not None, 60.0)
        await asyncio.sleep(0.5)


async def put_until(everywhere: str, done: asyncio.Event) -> list[int]:
    """The numbers that were acknowledged."""
    written, number = [], 0
    while not done.is_set():
        number += 1
        if (await said(everywhere, f"put w/{number:05} x")).startswith("0\n"):
            written.append(number)
    return written


async def told_until(reader: asyncio.StreamReader, last: int) -> list[int]:
    told: list[int] = []
    while not told or told[-1] != last:
        line = await asyncio.wait_for(reader.readline(), 60.0)
        if line.startswith(b"w/"):
            told.append(int(line[2:]))
    return told


def test_a_watch_resumes_and_a_lease_lives_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, *NAMES, raft=CALM) as found:
            everywhere = endpoints(found)
            lease = (await said(everywhere, f"lease grant {_LEASE_S}")).split()[2]
            assert (await said(everywhere, f"put alive x --lease={lease}")).startswith("0\n")
            async with (
                running(everywhere, "lease", "keep-alive", lease) as renewals,
                running(everywhere, "watch", "w/", "--prefix", "--rev", "1") as events,
            ):
                assert b"keepalived" in await asyncio.wait_for(renewals.readline(), 60.0)
                done = asyncio.Event()
                writing = asyncio.create_task(put_until(everywhere, done))
                await trouble(found)
                done.set()
                written = await writing
                assert (await said(everywhere, "put w/99999 x")).startswith("0\n")
                told = await told_until(events, 99999)
            assert told == sorted(set(told)), "in order, and once"
            assert set(written) <= set(told), "and all of them"
            assert (await said(everywhere, "get alive")) == "0\nalive\nx\n"

    asyncio.run(main())


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    """Who holds it appends to a file when he comes and when he goes."""

    async def main() -> None:
        log = tmp_path / "log"
        script = tmp_path / "hold.sh"
        script.write_text(f"echo in >> {log}\nsleep 0.05\necho out >> {log}\n")
        async with group(tmp_path, *NAMES, raft=CALM) as found:
            everywhere, done = endpoints(found), asyncio.Event()

            async def contend() -> int:
                held = 0
                while not done.is_set():
                    held += (await said(everywhere, f"lock --ttl {_LEASE_S} door sh {script}")).startswith("0\n")
                return held

            contenders = [asyncio.create_task(contend()) for _ in range(3)]
            await trouble(found)
            done.set()
            assert sum(await asyncio.gather(*contenders)) > 0
            lines = log.read_text().split()
            assert lines == ["in", "out"] * (len(lines) // 2)

    asyncio.run(main())
