"""The real etcd, to be compared with."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kv.server.group import free_port

needs_etcdctl = pytest.mark.skipif(shutil.which("etcdctl") is None, reason="no etcdctl: apt-get install etcd-client")
needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd: apt-get install etcd-server")


def interpreter(variable: str) -> str:
    """The Python of an environment that holds a client library. Skips the test: there is none."""
    python = os.environ.get(variable, "")
    if not python or shutil.which(python) is None:
        pytest.skip(f"{variable} names no python of an environment with that library")
    return python


@asynccontextmanager
async def etcd(directory: Path) -> AsyncIterator[str]:
    """One etcd that is alone; `host:port`."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    process = await asyncio.create_subprocess_exec(
            "etcd", "--name", "n1", "--data-dir", str(directory / "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"n1={peer}",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    endpoint = client.removeprefix("http://")
    try:
        while not await asyncio.to_thread(is_healthy, endpoint):
            assert process.returncode is None, "etcd has ended"
        yield endpoint
    finally:
        process.kill()
        await process.wait()


def is_healthy(endpoint: str) -> bool:
    asked = ["etcdctl", "--endpoints", endpoint, "endpoint", "health"]
    return (
        subprocess.run(asked, capture_output=True, check=False, env={**os.environ, "ETCDCTL_API": "3"}).returncode == 0
    )
