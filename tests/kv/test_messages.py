"""The protobuf messages: their bytes are those that etcd's clients send and expect.

The numbers were compared with the descriptors inside etcd 3.4.23's own program, and with those of the packages etcd3
0.12 and aetcd 1.0: of more than four hundred names none differs. Here stand a few encodings, written down by hand.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool

from onerack.kv import messages
from onerack.kv.messages import LIBRARY, METHODS


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("PutRequest", {"key": b"k", "value": b"v", "lease": 1, "prev_kv": True}, "0a016b12017618012001"),
        ("RangeRequest", {"key": b"k", "limit": 5, "sort_order": 2, "sort_target": 3}, "0a016b180528023003"),
        ("Compare", {"result": 1, "target": 3, "key": b"k", "value": b"v", "range_end": b"z"},
         "080110031a016b3a01768204017a"),
        ("KeyValue", {"key": b"k", "create_revision": 2, "mod_revision": 3, "version": 4, "value": b"v", "lease": 5},
         "0a016b1002180320042a01763005"),
        ("LeaseGrantRequest", {"TTL": 60, "ID": -1}, "083c10ffffffffffffffffff01"),
        ("WatchResponse", {"watch_id": -1, "compact_revision": 9, "fragment": True},
         "10ffffffffffffffffff0128093801"),
        ("WatchCreateRequest", {"key": b"k", "filters": [0, 1], "fragment": True}, "0a016b2a0200014001"),
        ("AlarmRequest", {"action": 1, "memberID": 2, "alarm": 1}, "080110021801"),
        ("StatusResponse", {"raftAppliedIndex": 1, "errors": ["x"], "dbSizeInUse": 2, "isLearner": True},
         "380142017848025001"),
        ("CampaignRequest", {"name": b"n", "lease": 1, "value": b"v"}, "0a016e10011a0176"),
        ("Permission", {"permType": 2, "key": b"k", "range_end": b"z"}, "080212016b1a017a"),
    ],
)  # fmt: skip
def test_bytes_of_messages(name: str, fields: dict[str, object], expected: str) -> None:
    message = LIBRARY[name](**fields)
    assert message.SerializeToString().hex() == expected
    assert LIBRARY[name].FromString(bytes.fromhex(expected)) == message


def test_one_of_several_is_set() -> None:
    op = messages.RequestOp(request_put=messages.PutRequest(key=b"k"))
    op.request_range.key = b"r"
    assert op.WhichOneof("request") == "request_range"
    assert op.SerializeToString().hex() == "0a030a0172"


def test_every_message_is_an_attribute_and_nothing_else_is() -> None:
    for name in LIBRARY:
        assert getattr(messages, name) is LIBRARY[name]
    with pytest.raises(AttributeError, match="PutRequests"):
        _ = messages.PutRequests


def test_every_method_has_messages() -> None:
    assert len(METHODS) == 48, "46 of etcd 3.4, and AuthStatus and Downgrade of 3.5"
    for path, method in METHODS.items():
        assert path == method.path == f"/{method.service}/{method.name}"
        assert method.request_class.DESCRIPTOR.name == method.request
        assert method.response_class.DESCRIPTOR.name == method.response


def test_streams() -> None:
    streams = {(m.name, m.client_streams, m.server_streams) for m in METHODS.values() if m.server_streams}
    assert streams == {
        ("Watch", True, True), ("LeaseKeepAlive", True, True), ("Snapshot", False, True), ("Observe", False, True)
    }  # fmt: skip


def test_the_pool_is_our_own() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest")


def test_the_server_side_is_imported_without_grpc() -> None:
    program = "import sys; import onerack.kv.core; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
