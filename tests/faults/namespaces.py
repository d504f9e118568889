"""Links of real network namespaces: each node has a network of its own, and a pair of wires to each other node.

    n1 (10.77.0.1) ──v1-2── n2 (10.77.0.2)        a cut link is a route into nowhere, in the namespace of who speaks:
        └──c1── here (10.77.0.99) ──c2──┘         his packets are gone, those of the other one arrive

The idea: unlike a relay, a cut loses packets: the kernels see no end of a connection, send again and again, and give
up when they like. Needs the right to make network namespaces; the whole run takes place in one (see __main__.py), so
nothing of it is left on the machine.

The rule: only nodes are cut from each other; clients always get through.
"""

from __future__ import annotations

import subprocess
from itertools import combinations
from random import Random

from tests.faults.links import Link

HERE = "10.77.0.99"
PORT = 7001


class NamespaceLinks:
    """Requires: this process is in a network namespace of its own, and may change it."""

    kind = "namespaces"

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        """A process for each node, which keeps its namespace while the node comes and goes, and ends with this one."""
        self._numbers: dict[str, int] = {}
        self._cut: set[Link] = set()

    async def start(self, names: list[str]) -> None:
        """Raises: OSError: the system does not allow it."""
        call("ip", "link", "set", "lo", "up")
        call("ip", "address", "add", f"{HERE}/32", "dev", "lo")
        for number, name in enumerate(names, 1):
            self._numbers[name] = number
            holder = self._holders[name] = subprocess.Popen(  # noqa: ASYNC220 - it takes no time
                ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert holder.stdout is not None
            holder.stdout.readline()  # Now it is in its namespace.
            self._inside(name, "ip", "link", "set", "lo", "up")
            self._inside(name, "ip", "address", "add", f"{self._host(name)}/32", "dev", "lo")
            call("ip", "link", "add", f"c{number}", "type", "veth", "peer", "name", "c", "netns", str(holder.pid))
            call("ip", "link", "set", f"c{number}", "up")
            call("ip", "route", "add", self._host(name), "dev", f"c{number}", "src", HERE)
            self._inside(name, "ip", "link", "set", "c", "up")
            self._inside(name, "ip", "route", "add", HERE, "dev", "c", "src", self._host(name))
        for one, other in combinations(names, 2):
            self._join(one, other)

    def address(self, name: str) -> str:
        return f"{self._host(name)}:{PORT}"

    def listen(self, name: str) -> str:
        return self._host(name)

    def command(self, name: str) -> list[str]:
        return ["nsenter", "--net", "--target", str(self._holders[name].pid)]

    def runs(self, name: str, pid: int, port: int) -> None: ...

    async def cut(self, *links: Link) -> None:
        for speaker, hearer in links:
            if (speaker, hearer) not in self._cut:
                self._cut.add((speaker, hearer))
                self._inside(speaker, "ip", "route", "replace", "blackhole", self._host(hearer))

    async def mend(self, chance: Random) -> None:
        for speaker, hearer in sorted(self._cut):
            self._inside(speaker, "ip", "route", "del", "blackhole", self._host(hearer))
            self._route(speaker, hearer)
        self._cut.clear()

    async def close(self) -> None:
        for holder in self._holders.values():
            holder.kill()
            holder.communicate()

    def _host(self, name: str) -> str:
        return f"10.77.0.{self._numbers[name]}"

    def _join(self, one: str, other: str) -> None:
        first, second = self._numbers[one], self._numbers[other]
        call(
            "ip", "link", "add", f"v{second}", "netns", str(self._holders[one].pid), "type", "veth",
            "peer", "name", f"v{first}", "netns", str(self._holders[other].pid),
        )  # fmt: skip
        for name, peer in ((one, other), (other, one)):
            self._inside(name, "ip", "link", "set", f"v{self._numbers[peer]}", "up")
            self._route(name, peer)

    def _route(self, name: str, peer: str) -> None:
        wire = f"v{self._numbers[peer]}"
        self._inside(name, "ip", "route", "replace", self._host(peer), "dev", wire, "src", self._host(name))

    def _inside(self, name: str, *words: str) -> None:
        call(*self.command(name), *words)


def call(*words: str) -> None:
    """Raises: OSError: it is not there, or said no; with what it said."""
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
