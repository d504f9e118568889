"""Three nodes on this machine: ours, or Debian's etcd. Started for one measurement, and gone after it.

The idea: whoever measures sees the same thing of both: endpoints that speak etcd v3, who leads, the processes (to read
their CPU time, to kill one, to start it again). Each node has a directory of its own on the same disk, and syncs.

The rule: no node outlives its measurement, whatever happens; a cluster is ready when a write has been answered.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.raft_peers.api import Api
from benchmarks.raft_peers.ports import free_ports
from benchmarks.rpc_peers.server_process import cpu_s

NAMES = ("n1", "n2", "n3")
READY_S = 30.0
ETCD = "etcd"
OURS = "onerack"


@dataclass
class Node:
    """One member."""

    name: str
    endpoint: str
    """host:port of the etcd API."""
    command: Sequence[str]
    directory: Path
    rpc: str = ""
    """Where our own clients go."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.directory.parent / f"{self.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@dataclass
class Cluster:
    kind: str
    nodes: list[Node] = field(default_factory=list)

    @property
    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes]

    def leader(self) -> Node:
        """Raises: RuntimeError: nobody leads in time."""
        end = time.perf_counter() + READY_S
        while time.perf_counter() < end:
            for node in self.nodes:
                with contextlib.suppress(OSError, RuntimeError):
                    with Api(node.endpoint) as api:
                        status = api.status()
                    if status.leader and status.leader == status.member_id:
                        return node
            time.sleep(0.02)
        raise RuntimeError(f"nobody leads: {self._last_words()}")

    def cpu_s(self) -> float:
        return sum(cpu_s(node.pid) for node in self.nodes if node.process is not None)

    def _last_words(self) -> str:
        logs = [(node.directory.parent / f"{node.name}.log").read_text(errors="replace") for node in self.nodes]
        return "\n".join("\n".join(log.splitlines()[-8:]) for log in logs)


@contextlib.contextmanager
def prepared(kind: str, directory: Path, names: Sequence[str] = NAMES) -> Iterator[Cluster]:
    """Not started yet. `directory` is made, and removed at the end."""
    directory.mkdir(parents=True)
    ports = free_ports(2 * len(names))
    make = _etcd if kind == ETCD else _onerack
    one = Cluster(kind, make(directory, names, ports[: len(names)], ports[len(names) :]))
    try:
        yield one
    finally:
        for node in one.nodes:
            node.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def cluster(kind: str, directory: Path, names: Sequence[str] = NAMES) -> Iterator[Cluster]:
    """Ready for load."""
    with prepared(kind, directory, names) as one:
        for node in one.nodes:
            node.start()
        wait_until_writable(one)
        yield one


def wait_until_writable(one: Cluster) -> None:
    end = time.perf_counter() + READY_S
    while True:
        try:
            with Api(one.leader().endpoint) as api:
                api.put(b"ready", b"")
            return
        except (OSError, RuntimeError):
            if time.perf_counter() > end:
                raise
            time.sleep(0.02)


def _etcd(directory: Path, names: Sequence[str], peers: Sequence[int], clients: Sequence[int]) -> list[Node]:
    program = shutil.which("etcd")
    if program is None:
        raise RuntimeError("etcd is not installed")
    initial = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, peers, strict=True))
    nodes = []
    for name, peer, client in zip(names, peers, clients, strict=True):
        place = directory / name
        urls = (f"http://127.0.0.1:{peer}", f"http://127.0.0.1:{client}")
        command = (
            program, "--name", name, "--data-dir", str(place), "--initial-cluster", initial,
            "--initial-advertise-peer-urls", urls[0], "--listen-peer-urls", urls[0],
            "--listen-client-urls", urls[1], "--advertise-client-urls", urls[1],
            "--log-level", "error", "--quota-backend-bytes", str(8 << 30),
        )  # fmt: skip
        nodes.append(Node(name, f"127.0.0.1:{client}", command, place))
    return nodes


def _onerack(directory: Path, names: Sequence[str], peers: Sequence[int], clients: Sequence[int]) -> list[Node]:
    initial = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(names, peers, strict=True))
    nodes = []
    for name, peer, client in zip(names, peers, clients, strict=True):
        place = directory / name
        command = (
            sys.executable, "-m", "onerack.cli", "kv", "serve", "--name", name, "--data", str(place),
            "--peers", initial, "--listen-etcd", f"127.0.0.1:{client}", "--cluster", "benchmark",
        )  # fmt: skip
        nodes.append(Node(name, f"127.0.0.1:{client}", command, place, rpc=f"tcp://127.0.0.1:{peer}"))
    return nodes
