"""The public names of `onerack.rpc`: all are there, and none costs what is not used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from onerack import rpc


def test_every_public_name_is_there() -> None:
    assert sorted(rpc._HOMES) == sorted(rpc.__all__)
    assert all(getattr(rpc, name) is not None for name in rpc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        rpc.nobody  # noqa: B018 - asking is the test


def test_a_client_imports_neither_server_nor_log_nor_numpy() -> None:
    program = "import sys; from onerack.rpc import connect; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "onerack.rpc.channel" in loaded
    assert not {"onerack.rpc.server", "onerack.rpc.durable.log", "numpy"} & set(loaded)
