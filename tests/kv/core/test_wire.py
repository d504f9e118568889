"""What is encoded by hand is what protobuf writes, byte for byte; what is parsed by hand is what protobuf reads."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onerack.kv import messages
from onerack.kv.core import wire
from onerack.kv.core.version import Version
from onerack.kv.messages import LIBRARY, Event, KeyValue, PutRequest, RangeRequest, ResponseHeader, WatchResponse

numbers = st.one_of(st.integers(1, 300), st.integers(1, 2**63 - 1))
texts = st.one_of(st.binary(min_size=1, max_size=5), st.binary(min_size=120, max_size=300))
leases = st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1))


def a_version(key: bytes, value: bytes, create: int, mod: int, version: int, lease: int) -> Version:
    """A first version is as old as its key."""
    return Version(key, value, create, create if version == 1 else mod, version, lease)


versions = st.builds(a_version, texts, st.one_of(st.just(b""), texts), numbers, numbers, numbers, leases)
many = settings(max_examples=150, deadline=None, derandomize=True)


def as_message(version: Version, with_value: bool = True) -> KeyValue:
    if not version.version:
        return KeyValue(key=version.key, mod_revision=version.mod)
    return KeyValue(
        key=version.key,
        create_revision=version.create,
        mod_revision=version.mod,
        version=version.version,
        value=version.value if with_value else b"",
        lease=version.lease,
    )


@given(st.integers(-(2**63), 2**64 - 1))
@many
@example(127)
@example(128)
@example(16383)
@example(16384)
@example(2097151)
@example(2097152)
@example(268435455)
@example(268435456)
def test_numbers(number: int) -> None:
    if number < 2**63:
        expected = LIBRARY["LeaseStatus"](ID=number).SerializeToString()[1:] or b"\0"
    else:
        expected = LIBRARY["MoveLeaderRequest"](targetID=number).SerializeToString()[1:]
    assert wire.varint(number) == expected
    if number >= 0:
        assert wire.revision_of(number) == wire.length_of(number) == expected


@given(*[st.one_of(st.just(0), st.integers(1, 2**64 - 1))] * 3, numbers)
@many
def test_a_header(cluster_id: int, member_id: int, raft_term: int, revision: int) -> None:
    header = ResponseHeader(cluster_id=cluster_id, member_id=member_id, raft_term=raft_term, revision=revision)
    expected = messages.PutResponse(header=header).SerializeToString()
    assert wire.Header(cluster_id, member_id, raft_term).at(revision) == expected
    inner = messages.PutResponse(header=ResponseHeader(revision=revision)).SerializeToString()
    assert wire.inner_header(revision) == inner


@given(versions, st.booleans())
@many
def test_a_pair(version: Version, with_value: bool) -> None:
    assert wire.key_value(version, with_value) == as_message(version, with_value).SerializeToString()


@given(texts, numbers)
@many
def test_a_tombstone(key: bytes, revision: int) -> None:
    tombstone = Version(key, b"", 0, revision, 0, 0)
    assert wire.key_value(tombstone) == as_message(tombstone).SerializeToString()


@given(st.lists(versions, max_size=4), st.booleans(), st.integers(0, 2**40), st.booleans())
@many
def test_a_range_response(found: list[Version], more: bool, count: int, with_values: bool) -> None:
    header = ResponseHeader(revision=5)
    kvs = [as_message(version, with_values) for version in found]
    expected = messages.RangeResponse(header=header, kvs=kvs, more=more, count=count).SerializeToString()
    assert wire.range_response(wire.inner_header(5), found, more, count, with_values) == expected


@given(versions)
@many
def test_the_rest_of_a_response_with_one_pair(version: Version) -> None:
    assert wire.only_kv(version) == messages.RangeResponse(kvs=[as_message(version)], count=1).SerializeToString()


@given(versions, st.one_of(st.none(), versions), st.booleans())
@many
def test_an_event(version: Version, previous: Version | None, deleted: bool) -> None:
    if deleted:
        version = Version(version.key, b"", 0, version.mod, 0, 0)
    event = Event(
        type=Event.DELETE if deleted else Event.PUT,
        kv=as_message(version),
        prev_kv=None if previous is None else as_message(previous),
    )
    assert wire.event(version, previous) == WatchResponse(events=[event]).SerializeToString()


@given(
    st.one_of(st.just(b""), texts),
    st.one_of(st.just(b""), texts, st.binary(min_size=16380, max_size=16390)),
    st.one_of(st.just(0), numbers),
    st.booleans(),
    st.binary(max_size=3),
)
@many
def test_a_put_that_is_read_by_hand(key: bytes, value: bytes, lease: int, prev_kv: bool, before: bytes) -> None:
    request = PutRequest(key=key, value=value, lease=lease, prev_kv=prev_kv).SerializeToString()
    plain = wire.plain_put(before + request, len(before))
    if plain is not None:
        assert plain == (key, value)
        assert not lease
        assert not prev_kv
    elif not lease and not prev_kv and 0 < len(key) < 128:
        assert len(value) > 16383, "plain, and not seen to be so"


@given(st.binary(max_size=40))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_bytes_that_are_taken_for_a_plain_put_are_one(request: bytes) -> None:
    plain = wire.plain_put(b"\x0a" + request, 0)
    if plain is not None:
        assert PutRequest.FromString(b"\x0a" + request) == PutRequest(key=plain[0], value=plain[1])


@given(texts, st.booleans(), st.booleans(), st.integers(0, 1))
@many
def test_a_range_that_is_read_by_hand(key: bytes, serializable: bool, keys_only: bool, limit: int) -> None:
    request = RangeRequest(key=key, serializable=serializable, keys_only=keys_only, limit=limit).SerializeToString()
    plain = wire.plain_key(request)
    assert plain == (None if keys_only or limit or len(key) > 127 else key)


@given(st.binary(max_size=20))
@settings(max_examples=500, deadline=None, derandomize=True)
@example(b"\x0a\x02\x38\x01")
@example(b"\x0a\x00\x38\x01")
def test_bytes_that_are_taken_for_a_plain_range_are_one(request: bytes) -> None:
    plain = wire.plain_key(request)
    if plain is not None:
        parsed = RangeRequest.FromString(request)
        parsed.serializable = False
        assert parsed == RangeRequest(key=plain)
