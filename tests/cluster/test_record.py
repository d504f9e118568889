"""cluster.json: what is written is read, and what is none is named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from onerack.cluster.record import FILE, ClusterRecord, NodeEndpoints, NodeRecord, read_record, write_record
from onerack.errors import InputError, StorageFull

WHERE = NodeEndpoints("tcp://h:1", "tcp://h:2", "http://h:3")
RECORD = ClusterRecord("c", (NodeRecord("n1", "control", WHERE, 7, "x"),))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "nothing") is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    assert RECORD.rpc_endpoints == ["tcp://h:1"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"cluster": 7}', b"\xff", b'{"cluster": "c", "nodes": [{}]}'])
def test_a_file_that_describes_no_rack_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match=FILE):
        read_record(tmp_path)


def test_on_a_full_disk_the_old_record_stays_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, RECORD)

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFull, match=FILE):
        write_record(tmp_path, ClusterRecord("other", ()))
    assert read_record(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
