"""Three nodes of each, for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from onerack.config import KvConfig
from tests.kv.server.beside.sides import Sides
from tests.kv.server.group import QUICK, Group, free_port, group
from tests.kv.server.theirs import is_healthy

CALM = msgspec.structs.replace(QUICK, heartbeat_interval_s=0.1, election_timeout_s=1.0)
"""As etcd's: nobody is elected because the machine is busy."""
NAMES = ("n1", "n2", "n3")


class Etcds:
    """A cluster of three."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clients = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
        self.peers = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        client, peer = self.clients[name], self.peers[name]
        everybody = ",".join(f"{other}={url}" for other, url in self.peers.items())
        with (self.directory / f"etcd-{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                    "etcd", "--name", name, "--data-dir", str(self.directory / f"etcd-{name}"), "--bcrypt-cost", "4",
                    "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                    "--initial-advertise-peer-urls", peer, "--initial-cluster", everybody,
                stdout=log, stderr=log,
            )  # fmt: skip

    async def until_healthy(self) -> None:
        for client in self.clients.values():
            while not await asyncio.to_thread(is_healthy, client.removeprefix("http://")):
                assert all(process.returncode is None for process in self.processes.values()), "etcd has ended"

    @property
    def addresses(self) -> list[str]:
        return [self.clients[name].replace("http://", "tcp://") for name in NAMES]

    async def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def etcds(directory: Path) -> AsyncIterator[Etcds]:
    found = Etcds(directory)
    try:
        for name in NAMES:
            await found.start(name)
        await found.until_healthy()
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def both(directory: Path, config: KvConfig | None = None) -> AsyncIterator[tuple[Sides, Group]]:
    """Both, healthy, to be asked together; and ours as it is inside."""
    async with etcds(directory) as there, group(directory, *NAMES, config=config, raft=CALM) as here:
        await here.until(lambda: all(len(place.node.book.all()) == len(NAMES) for place in here.places.values()))
        sides = Sides([here.places[name].address for name in NAMES], there.addresses)
        try:
            yield sides, here
        finally:
            await sides.close()
