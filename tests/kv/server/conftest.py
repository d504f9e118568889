"""The mark of tests that need programs of the etcd project: where these are not installed, they are skipped."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "etcd: needs etcdctl, etcd or a client library of theirs; skipped without")
