"""Real processes of `onerack kv serve`, on their disks, joined by links: started, killed, stopped, and looked at."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from onerack import rpc
from onerack.errors import OnerackError
from onerack.kv.client import Kv, NodeStatus
from tests.faults.disks import Disk
from tests.faults.links import Links
from tests.faults.patience import patiently
from tests.raft.server.processes import kill

ROOT = Path(__file__).parents[2]


class Nodes:
    """`async with Nodes(directory, 3, links) as nodes`: all run, and one of them leads."""

    def __init__(self, directory: Path, count: int, links: Links, *, has_disks: bool = False) -> None:
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.links = links
        self.disks = {name: Disk(directory, name) for name in self.names} if has_disks else {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ill: set[str] = set()
        """Those with whom something is wrong now; clients mostly leave them alone."""
        self.rpc: dict[str, str] = {}
        self.etcd: dict[str, str] = {}
        self._directory = directory

    async def __aenter__(self) -> Nodes:
        try:
            await self.links.start(self.names)
            for disk in self.disks.values():
                disk.make()
            await asyncio.gather(*map(self.start, self.names))
            await self.led()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        for disk in self.disks.values():
            disk.thaw()
        for name in list(self.running):
            await self.kill(name)
        for disk in self.disks.values():
            disk.remove()
        await self.links.close()

    # ------------------------------------------------------------------------------------------------ processes

    async def start(self, name: str) -> None:
        host = self.links.listen(name)
        port = self.links.address(name).rpartition(":")[2] if self.links.kind == "namespaces" else "0"
        peers = ",".join(f"{each}={self.links.address(each)}" for each in self.names)
        with open(self._directory / f"{name}.log", "ab") as log:  # noqa: ASYNC230 - a test may wait for its disk
            process = self.running[name] = subprocess.Popen(  # noqa: ASYNC220
                [
                    *self.links.command(name), sys.executable, "-m", "tests.faults.node", "--name", name,
                    "--data", str(self._directory / name / "data"), "--peers", peers, "--listen", f"{host}:{port}",
                    "--listen-etcd", f"{host}:0", "--listen-http", "127.0.0.1:0", "--insecure", "--json",
                ],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line.startswith(b"{"), f"{name} did not start: {line!r} {self.said(name)}"
        said = json.loads(line)
        self.rpc[name], self.etcd[name] = said["endpoints"]["rpc"], said["endpoints"]["etcd"]
        self.links.runs(name, said["pid"], int(self.rpc[name].rpartition(":")[2]))
        self.ill.discard(name)

    def said(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()[-3000:]

    async def kill(self, name: str) -> None:
        """As a power switch would."""
        process = self.running.pop(name)
        self.ill.add(name)
        await kill(process)

    def stop(self, name: str) -> None:
        self.ill.add(name)
        self.running[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGCONT)
        self.ill.discard(name)

    def check_alive(self) -> None:
        """Raises: AssertionError: one has ended that nobody has killed."""
        for name, process in self.running.items():
            assert process.poll() is None, f"{name} has ended with {process.returncode}: {self.said(name)}"

    # ------------------------------------------------------------------------------------------------ looking

    @property
    def well(self) -> list[str]:
        return [name for name in self.names if name in self.running and name not in self.ill]

    async def status(self, name: str) -> NodeStatus | None:
        """As the node sees itself; None: it does not say."""
        try:
            client = await rpc.connect(Kv, self.rpc[name], connect_timeout=1.0, deadline=1.0, insecure=True)
        except OnerackError:
            return None
        try:
            return await client.stub.status()
        except OnerackError:
            return None
        finally:
            await client.close()

    async def described(self) -> str:
        """How all of them see themselves, for whoever has to find out why something did not come."""
        found = await asyncio.gather(*map(self.status, self.running))
        return "\n".join(f"{name}: {status}" for name, status in zip(self.running, found, strict=True))

    async def led(self, besides: Sequence[str] = ()) -> str:
        """Who leads in the highest term, when somebody does; not one of `besides`, who cannot know yet."""

        async def look() -> str:
            while True:
                self.check_alive()
                names = [name for name in self.running if name not in besides and name not in self.ill]
                found = await asyncio.gather(*map(self.status, names))
                leaders = [(each.term, each.name) for each in found if each is not None and each.role == "leader"]
                if leaders:
                    return max(leaders)[1]
                await asyncio.sleep(0.02)

        return await patiently(look(), self.described)
