"""Random schedules of raft: nothing is found, the same seed is the same run anywhere, and a failure can be told."""

from __future__ import annotations

import pytest

from onerack.sim.raft import ScheduleFailed, run_many, run_schedule, tell
from onerack.sim.raft.options import draw
from onerack.sim.seeds import stream
from tests.sim.elsewhere import hashes_elsewhere

SEEDS = 240
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_found(part: int) -> None:
    size = SEEDS // PARTS
    tally = run_many(range(part * size, (part + 1) * size))
    assert tally.schedules == size
    # That much happens at least, or the worlds have become too quiet to find anything.
    assert tally.faults > 20 * size
    assert tally.elections > size
    assert tally.entries > 8 * size
    assert tally.operations > 30 * size
    assert tally.restores > 0
    # Lists and registers with many lost answers can be too hard; most are not.
    assert tally.unknown <= size // 5


REGRESSIONS = {
    134: "reads waited for ever for followers who had been removed",
    150: "the last entry of a removed leader could never be committed",
    83: "what a failed sync had not written was acknowledged by the next life",
    2_000_365: "the judge wanted of a leader of an old term what was committed in a newer one",
    349: "a sole voter leads the same term twice, because it was lost before it was durable",
    1_017_480: "a sole voter led a term, lost it before it was durable, and another was elected in it with its vote",
    52_323: "another snapshot arrived while a slow disk kept the node from putting one in place",
}


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_what_was_found_stays_mended(seed: int) -> None:
    run_schedule(seed)


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    expected = [run_schedule(seed).trace_hash for seed in range(20)]
    for printed in hashes_elsewhere("onerack.sim.raft", 20):
        assert printed == expected


def test_different_seeds_give_different_runs() -> None:
    assert len({run_schedule(seed).trace_hash for seed in range(20)}) == 20


def test_a_calm_world_has_one_leader() -> None:
    """Clients alone depose nobody."""
    calm = [seed for seed in range(400) if draw(stream(seed, "options")).calm]
    assert len(calm) > 10
    for seed in calm[:8]:
        assert run_schedule(seed).elections == 1


def test_a_story_tells_options_messages_and_fate() -> None:
    story = tell(3)
    for word in ("weather = ", "becomes_leader", "Append term=", "FATE", "Request c1", "trace_hash="):
        assert word in story
    assert tell(3) == story


def test_a_failed_schedule_says_how_to_see_it_again() -> None:
    with pytest.raises(ScheduleFailed, match="--seed 0 --trace --planted synced_is_said_too_early"):
        run_schedule(0, "synced_is_said_too_early")
    assert "committed_is_durable" in tell(0, "synced_is_said_too_early")
