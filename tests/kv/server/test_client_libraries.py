"""The libraries etcd3 and aetcd, unchanged, against us and against the real etcd: they must tell the same story.

Each needs an environment of its own, since they want protobufs that do not go together; a variable names its python:

    python3 -m venv /tmp/etcd3 && /tmp/etcd3/bin/pip install etcd3 'protobuf<4'     ONERACK_ETCD3_PYTHON
    python3 -m venv /tmp/aetcd && /tmp/aetcd/bin/pip install aetcd                  ONERACK_AETCD_PYTHON
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kv.server.group import group
from tests.kv.server.theirs import etcd, interpreter, needs_etcd, needs_etcdctl
from tests.rpc.links import run

pytestmark = [pytest.mark.etcd, needs_etcdctl, needs_etcd]

LIBRARIES = {"etcd3": 25, "aetcd": 17}
"""And how many lines each story has."""


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_library_tells_the_same_story_as_with_etcd(library: str, tmp_path: Path) -> None:
    python = interpreter(f"ONERACK_{library.upper()}_PYTHON")
    story = Path(__file__).with_name(f"story_{library}.py")

    async def told(endpoint: str) -> str:
        process = await asyncio.create_subprocess_exec(
            python, str(story), endpoint, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        printed, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()
        return printed.decode()

    async def main() -> None:
        async with group(tmp_path) as found, etcd(tmp_path) as there:
            here = found.places["n1"].address.removeprefix("tcp://")
            ours, theirs = await asyncio.gather(told(here), told(there))
            assert ours == theirs
            assert ours.count("\n") >= LIBRARIES[library]

    run(main())
