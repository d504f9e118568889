"""The news of a commit waits a moment for entries to travel with, unless somebody waits for it."""

from __future__ import annotations

import msgspec

from onerack.raft.core import RaftCore
from onerack.raft.messages import Append, Change, Configuration, FindReadIndex, HeartbeatReply, Propose
from onerack.runtime.seam import Tick
from tests.raft.network import CONFIG
from tests.raft.single import T, accept, flush, lead, messages_of, peer

NOTICE_S = 0.001
NOW = 2 * T


def leader() -> RaftCore:
    """Its first entry is committed, and everybody knows."""
    core = lead(peer(config=msgspec.structs.replace(CONFIG, commit_notice_s=NOTICE_S)))
    flush(core, NOW)
    accept(core, "n2", "n3", now=NOW)
    flush(core, NOW)
    core.step(Tick(), "n1", NOW + NOTICE_S)
    assert [append.commit for _, append in messages_of(flush(core), Append)] == [1, 1]
    return core


def commit_one(core: RaftCore, *, hurry: bool = False) -> list[tuple[str, Append]]:
    """What leaves when a command is committed."""
    core.step(Propose(1, b"x", hurry), "n1", NOW)
    flush(core, NOW)
    accept(core, "n2", "n3", now=NOW)
    return messages_of(flush(core, NOW), Append)


def test_the_news_waits_for_the_next_entries() -> None:
    core = leader()
    assert commit_one(core) == []
    core.step(Propose(2, b"y"), "n1", NOW)
    assert [append.commit for _, append in messages_of(flush(core, NOW), Append)] == [2, 2]
    wake_at = core.drain().wake_at
    assert wake_at is not None
    assert wake_at > NOW + NOTICE_S  # Nobody need be told of that one any more.


def test_without_entries_it_goes_alone_after_a_moment_and_once() -> None:
    core = leader()
    assert commit_one(core) == []
    core.step(Tick(), "n1", NOW + NOTICE_S)
    output = flush(core, NOW)
    assert [(append.commit, append.quiet) for _, append in messages_of(output, Append)] == [(2, True), (2, True)]
    assert output.wake_at is not None
    assert output.wake_at > NOW + NOTICE_S
    core.step(Tick(), "n1", NOW + 2 * NOTICE_S)
    assert messages_of(flush(core), Append) == []


def test_it_goes_at_once_when_another_node_has_proposed() -> None:
    assert [append.commit for _, append in commit_one(leader(), hurry=True)] == [2, 2]


def test_it_goes_at_once_to_a_follower_that_reads() -> None:
    core = leader()
    assert commit_one(core) == []
    core.step(FindReadIndex(core.term, 7), "n2", NOW)
    flush(core, NOW)
    for follower in ("n2", "n3"):
        core.step(HeartbeatReply(core.term, 1), follower, NOW)
    assert [(to, append.commit) for to, append in messages_of(flush(core, NOW), Append)] == [("n2", 2)]


def test_a_configuration_is_told_at_once() -> None:
    core = leader()
    core.step(Change(1, Configuration(voters=("n1", "n2"))), "n1", NOW)
    flush(core, NOW)
    accept(core, "n2", "n3", now=NOW)
    assert {append.commit for _, append in messages_of(flush(core, NOW), Append)} == {2}
