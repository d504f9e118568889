"""One test per sentence of what etcd promises of watches: ordered, unique, atomic, reliable, resumable, bookmarkable.

The events of random histories were compared with those of a real etcd 3.4.23, watch by watch: they are the same, but
that etcd leaves a previous pair out when it has compacted it before it came to send the event; this hub does not.
"""

from __future__ import annotations

from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv import messages
from onerack.kv.core import Kind
from onerack.kv.core.watch import PASS_REVISIONS, WatchHub
from onerack.kv.messages import Event, WatchCreateRequest
from tests.kv.core.client import Client, delete_op, put_op

STREAM = 1


class Watching:
    """A store, its hub, and what each stream has been told."""

    def __init__(self, config: KvConfig | None = None) -> None:
        self.client = Client(config)
        self.hub = WatchHub(self.client.machine)

    def create(self, key: bytes, range_end: bytes = b"", stream: int = STREAM, user: str = "", **fields: Any) -> None:
        self.hub.create(stream, user, WatchCreateRequest(key=key, range_end=range_end, **fields))

    def told(self, stream: int = STREAM) -> list[Any]:
        """All that the stream is told until nothing is left to tell."""
        found = list(self.hub.advance())
        while self.hub.busy:
            found += self.hub.advance()
        return [messages.WatchResponse.FromString(response) for number, response in found if number == stream]

    def events(self, stream: int = STREAM) -> list[tuple[int, str, bytes, int]]:
        """(watch, PUT or DELETE, key, revision)."""
        return [
            (response.watch_id, Event.EventType.Name(event.type), event.kv.key, event.kv.mod_revision)
            for response in self.told(stream)
            for event in response.events
        ]


@pytest.fixture
def watching() -> Watching:
    return Watching()


# ------------------------------------------------------------------------------------------------ to begin


def test_created_comes_first_then_what_is_new(watching: Watching) -> None:
    watching.client.put(b"a", b"old")
    watching.create(b"a")
    watching.client.put(b"a", b"new")
    created, told = watching.told()
    assert (created.created, created.watch_id, created.header.revision, len(created.events)) == (True, 0, 2, 0)
    assert [event.kv.value for event in told.events] == [b"new"]


def test_what_was_put_before_the_watch_but_not_yet_told_to_anybody_is_not_new(watching: Watching) -> None:
    watching.create(b"a")
    watching.told()
    watching.client.put(b"a")
    watching.create(b"a")
    assert watching.events() == [(0, "PUT", b"a", 2)]


def test_a_start_revision_in_the_past_tells_what_was(watching: Watching) -> None:
    watching.client.put(b"a")
    watching.client.put(b"b")
    watching.client.delete(b"a")
    watching.create(b"a", start_revision=2)
    assert watching.events() == [(0, "PUT", b"a", 2), (0, "DELETE", b"a", 4)]


def test_a_range_is_watched(watching: Watching) -> None:
    watching.create(b"b", b"d")
    watching.create(b"c", b"\0")
    for key in (b"a", b"b", b"c", b"d"):
        watching.client.put(key)
    assert watching.events() == [
        (0, "PUT", b"b", 3), (0, "PUT", b"c", 4), (1, "PUT", b"c", 4), (1, "PUT", b"d", 5)
    ]  # fmt: skip


def test_no_key_and_no_end_means_the_smallest_key_and_with_an_end_of_zero_all_keys(watching: Watching) -> None:
    watching.create(b"", b"\0")
    watching.client.put(b"\0")
    watching.client.put(b"\xff")
    assert [key for _, _, key, _ in watching.events()] == [b"\0", b"\xff"]


def test_numbers_are_given_from_zero_or_taken_as_asked(watching: Watching) -> None:
    for asked in (0, 1, 0, 0):
        watching.create(b"a", watch_id=asked)
    assert [response.watch_id for response in watching.told()] == [0, 1, 2, 3]


def test_a_number_that_is_taken_is_refused(watching: Watching) -> None:
    watching.create(b"a", watch_id=5)
    watching.create(b"a", watch_id=5)
    _, second = watching.told()
    assert (second.created, second.canceled, second.watch_id) == (True, True, -1)
    assert second.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"


def test_an_empty_range_is_refused(watching: Watching) -> None:
    watching.create(b"b", b"a")
    (response,) = watching.told()
    assert (response.created, response.canceled, response.watch_id) == (True, True, -1)
    assert response.cancel_reason == "mvcc: watcher range is empty"


def test_streams_number_their_watches_apart(watching: Watching) -> None:
    watching.create(b"a", stream=1)
    watching.create(b"a", stream=2)
    assert [response.watch_id for response in watching.told(2)] == [0]


# ------------------------------------------------------------------------------------------------ what is told


def test_a_deletion_tells_key_and_revision_only(watching: Watching) -> None:
    watching.client.put(b"a", b"v")
    watching.create(b"a")
    watching.client.delete(b"a")
    kv = watching.told()[1].events[0].kv
    assert (kv.key, kv.mod_revision, kv.create_revision, kv.version, kv.value) == (b"a", 3, 0, 0, b"")


def test_the_previous_pair_is_told_if_asked(watching: Watching) -> None:
    watching.create(b"a", prev_kv=True)
    watching.create(b"a")
    watching.client.put(b"a", b"1")
    watching.client.put(b"a", b"2")
    watching.client.delete(b"a")
    watching.client.put(b"a", b"3")
    responses = {response.watch_id: response for response in watching.told()[2:]}
    previous = [event.prev_kv.value if event.HasField("prev_kv") else None for event in responses[0].events]
    assert previous == [None, b"1", b"2", None]
    assert not any(event.HasField("prev_kv") for event in responses[1].events)


def test_filters_leave_out_puts_or_deletions(watching: Watching) -> None:
    watching.create(b"a", filters=[WatchCreateRequest.NOPUT])
    watching.create(b"a", filters=[WatchCreateRequest.NODELETE])
    watching.create(b"a", filters=[WatchCreateRequest.NOPUT, WatchCreateRequest.NODELETE])
    watching.client.put(b"a")
    watching.client.delete(b"a")
    assert sorted(watching.events()) == [(0, "DELETE", b"a", 3), (1, "PUT", b"a", 2)]


def test_events_of_one_revision_come_in_the_order_of_the_transaction_in_one_response(watching: Watching) -> None:
    watching.client.put(b"x")
    watching.create(b"a", b"\0")
    watching.client.txn([], [put_op(b"c"), delete_op(b"x"), put_op(b"a")])
    _, told = watching.told()
    assert [event.kv.key for event in told.events] == [b"c", b"x", b"a"]


def test_a_revision_is_never_split_however_large() -> None:
    small = Watching(KvConfig(watch_response_bytes_max=100))
    small.create(b"\0", b"\0")
    for _ in range(3):
        small.client.txn([], [put_op(b"%d" % number, b"v" * 60) for number in range(4)])
    responses = small.told()[1:]
    assert [{event.kv.mod_revision for event in response.events} for response in responses] == [{2}, {3}, {4}]
    assert [len(response.events) for response in responses] == [4, 4, 4]
    assert [response.header.revision for response in responses] == [2, 3, 4], "none promises what the next one tells"


def test_fragments_are_allowed_if_asked_and_say_so_but_the_last(watching: Watching) -> None:
    small = Watching(KvConfig(watch_response_bytes_max=200))
    small.create(b"\0", b"\0", fragment=True)
    small.client.txn([], [put_op(b"%d" % number, b"v" * 60) for number in range(5)])
    responses = small.told()[1:]
    assert [len(response.events) for response in responses] == [2, 2, 1]
    assert [response.fragment for response in responses] == [True, True, False]
    assert [event.kv.key for response in responses for event in response.events] == [b"0", b"1", b"2", b"3", b"4"]


def test_an_expired_lease_is_told_as_deletions_of_one_revision(watching: Watching) -> None:
    watching.client.grant(7)
    watching.client.put(b"a", lease=7)
    watching.client.put(b"b", lease=7)
    watching.create(b"\0", b"\0")
    watching.client.expire(7)
    assert watching.events() == [(0, "DELETE", b"a", 4), (0, "DELETE", b"b", 4)]


# ------------------------------------------------------------------------------------------------ to end


def test_a_cancelled_watch_says_so_and_is_told_nothing_more(watching: Watching) -> None:
    watching.create(b"a")
    watching.told()
    watching.hub.cancel(STREAM, 0)
    watching.client.put(b"a")
    (response,) = watching.told()
    assert (response.canceled, response.watch_id, response.compact_revision) == (True, 0, 0)
    watching.hub.cancel(STREAM, 0)
    watching.hub.cancel(99, 0)
    assert watching.told() == [], "of a watch that is not there nothing is said"


def test_a_closed_stream_is_forgotten(watching: Watching) -> None:
    watching.create(b"a")
    watching.create(b"a", b"\0", start_revision=1)
    watching.hub.close(STREAM)
    watching.client.put(b"a")
    assert watching.told() == []
    assert not watching.hub.busy


def test_a_compacted_start_is_created_then_cancelled_with_the_compacted_revision(watching: Watching) -> None:
    for _ in range(4):
        watching.client.put(b"a")
    watching.client.compact(4)
    watching.create(b"a", start_revision=3)
    created, canceled = watching.told()
    assert (created.created, created.canceled) == (True, False)
    assert (canceled.created, canceled.canceled, canceled.compact_revision) == (False, True, 4)
    watching.client.put(b"a")
    assert watching.told() == []


def test_a_number_that_a_compaction_has_ended_is_taken_until_the_client_cancels_it(watching: Watching) -> None:
    for _ in range(3):
        watching.client.put(b"a")
    watching.client.compact(3)
    watching.create(b"a", start_revision=2, watch_id=1)
    watching.create(b"a", watch_id=1)
    watching.create(b"a", start_revision=2)
    watching.create(b"a")
    assert [response.watch_id for response in watching.told()] == [1, 1, -1, 0, 0, 2]
    watching.hub.cancel(STREAM, 1)
    watching.hub.cancel(STREAM, 1)
    watching.create(b"a", watch_id=1)
    assert [(response.watch_id, response.canceled) for response in watching.told()] == [(1, True), (1, False)]


def test_who_was_not_permitted_is_told_so(watching: Watching) -> None:
    client = watching.client
    client.command(Kind.USER_ADD, name="root")
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    client.command(Kind.AUTH_ENABLE)
    watching.create(b"a", user="", watch_id=4)
    watching.create(b"a", user="root")
    refused, created = watching.told()
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, 4)
    assert refused.cancel_reason == "etcdserver: permission denied"
    assert not created.canceled


# ------------------------------------------------------------------------------------------------ progress


def test_progress_on_demand_concerns_the_whole_stream(watching: Watching) -> None:
    watching.create(b"a")
    watching.told()
    watching.client.put(b"b")
    watching.hub.ask_progress(STREAM)
    (response,) = watching.told()
    assert (response.watch_id, response.header.revision, len(response.events)) == (-1, 2, 0)


def test_periodic_progress_is_for_those_who_asked_and_heard_nothing_else(watching: Watching) -> None:
    watching.create(b"a", progress_notify=True)
    watching.create(b"b", progress_notify=True)
    watching.create(b"c")
    watching.told()
    watching.client.put(b"b")
    watching.told()
    watching.hub.announce_progress()
    assert [(response.watch_id, response.header.revision) for response in watching.told()] == [(0, 2)]
    watching.hub.announce_progress()
    assert [response.watch_id for response in watching.told()] == [0, 1]


# ------------------------------------------------------------------------------------------------ slow ones


def test_a_paused_stream_misses_nothing(watching: Watching) -> None:
    watching.create(b"a")
    watching.create(b"a", b"\0", stream=2)
    watching.told()
    watching.hub.pause(STREAM)
    for _ in range(3):
        watching.client.put(b"a")
    assert [revision for *_, revision in watching.events(2)] == [2, 3, 4]
    watching.hub.resume(STREAM)
    watching.client.put(b"a")
    assert [revision for *_, revision in watching.events()] == [2, 3, 4, 5]


def test_a_paused_stream_that_compaction_passes_is_told_so(watching: Watching) -> None:
    watching.create(b"a")
    watching.told()
    watching.hub.pause(STREAM)
    for _ in range(3):
        watching.client.put(b"a")
    watching.hub.advance()
    watching.client.compact(4)
    watching.hub.resume(STREAM)
    (response,) = watching.told()
    assert (response.canceled, response.compact_revision) == (True, 4)


def test_one_pass_does_not_take_for_ever(watching: Watching) -> None:
    for number in range(PASS_REVISIONS + 5):
        watching.client.machine.apply(b"\x01\x00\x0a\x01a\x12\x01%d" % (number % 10), False)
    watching.create(b"a", start_revision=1)
    first = watching.hub.advance()
    assert watching.hub.busy
    second = watching.hub.advance()
    counts = [len(messages.WatchResponse.FromString(response).events) for _, response in (*first, *second)]
    assert counts == [0, PASS_REVISIONS, 5]
    last = messages.WatchResponse.FromString(first[-1][1])
    assert last.header.revision == last.events[-1].kv.mod_revision, "the header promises no more than was told"


def test_a_watch_goes_on_over_a_snapshot(watching: Watching) -> None:
    watching.create(b"a")
    watching.create(b"a", stream=2)
    watching.client.put(b"a")
    assert [revision for *_, revision in watching.events()] == [2]
    ahead = Client()
    for _ in range(4):
        ahead.put(b"a")
    watching.client.machine.restore(ahead.machine.snapshot())
    assert [revision for *_, revision in watching.events()] == [3, 4, 5]
    watching.client.machine.apply(b"\x01\x00\x0a\x01a", False)
    assert [revision for *_, revision in watching.events()] == [6]


def test_a_watch_that_a_compacted_snapshot_passes_is_told_so(watching: Watching) -> None:
    watching.create(b"a")
    watching.told()
    ahead = Client()
    for _ in range(4):
        ahead.put(b"a")
    ahead.compact(4)
    ahead.put(b"b")
    watching.client.machine.restore(ahead.machine.snapshot())
    (response,) = watching.told()
    assert (response.canceled, response.compact_revision) == (True, 4)


def test_a_laggard_that_is_ahead_of_another_hears_nothing_twice(watching: Watching) -> None:
    for _ in range(2 * PASS_REVISIONS):
        watching.client.machine.apply(b"\x01\x00\x0a\x01a", False)
    watching.hub.advance()
    ahead = PASS_REVISIONS + 50
    watching.create(b"a", start_revision=2)
    watching.create(b"a", start_revision=ahead)
    events = watching.events()
    assert [revision for number, *_, revision in events if number == 0] == list(range(2, 2 * PASS_REVISIONS + 2))
    assert [revision for number, *_, revision in events if number == 1] == list(range(ahead, 2 * PASS_REVISIONS + 2))


def test_a_quiet_watch_has_missed_nothing_that_was_compacted_before_it_was_paused(watching: Watching) -> None:
    watching.create(b"quiet")
    for _ in range(4):
        watching.client.put(b"a")
    watching.told()
    watching.client.compact(4)
    watching.hub.pause(STREAM)
    watching.hub.resume(STREAM)
    watching.client.put(b"quiet")
    assert watching.events() == [(0, "PUT", b"quiet", 6)]
