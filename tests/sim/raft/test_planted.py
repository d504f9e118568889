"""Every planted bug is found: by a scenario that has its name, or by a seed of the ordinary set, and for its reason."""

from __future__ import annotations

import pytest

from onerack.sim.raft import PLANTED, ScheduleFailed, run_schedule
from onerack.sim.raft.scenarios import ScenarioFailed, play

SEEDS = 600
"""A bug must be found within so many."""

PLAYED = {
    "answers_of_earlier_terms_count": "answer_of_an_earlier_term",
    "entries_of_old_terms_are_counted": "fig8_old_term_commit",
    "failed_syncs_are_ignored": "fsync_fails_once_then_ok",
    "followers_answer_reads_at_once": "stale_follower_read",
    "half_of_an_even_cluster_commits": "even_cluster_split",
    "half_of_an_even_cluster_elects": "even_cluster_two_candidates",
    "leaders_answer_reads_at_once": "paused_leader_stale_read",
    "leaders_of_earlier_terms_are_heard": "append_of_a_deposed_leader",
    "learners_elect": "learner_is_no_voter",
    "leases_begin_with_the_answer": "paused_leader_with_a_lease",
    "leases_survive_a_transfer": "transfer_voids_the_lease",
    "logs_are_compared_by_length": "longer_log_is_not_newer",
    "reads_before_the_first_commit": "read_before_the_first_commit",
    "reads_join_the_round_under_way": "read_joins_no_round_under_way",
    "restarts_forget_the_lease": "restart_within_the_lease",
    "restarts_forget_the_vote": "vote_then_restart",
    "sessions_are_not_looked_at": "reply_lost_retry_other_node",
    "snapshots_without_sessions": "snapshot_then_retry_same_xid",
    "the_new_majority_commits": "two_disjoint_majorities",
    "the_new_majority_elects": "candidates_of_two_configurations",
    "votes_are_given_twice": "vote_then_restart",
    "votes_are_not_written": "vote_then_restart",
    "votes_of_earlier_terms_count": "late_vote",
    "what_is_read_is_believed": "fsync_fails_once_then_ok",
}
"""Planted bug -> the scenario that finds it."""

DRAWN = {
    "changes_before_the_first_commit": (34, "one_change_at_a_time"),
    "conflicts_are_kept": (1, ""),
    "directories_are_not_synced": (4, ""),
    "entries_are_applied_before_they_are_committed": (0, ""),
    "heirs_are_leaders_at_once": (78, "election_safety"),
    "late_appends_shorten_the_log": (7, ""),
    "late_syncs_count_for_what_they_did_not_write": (6, ""),
    "leaders_count_what_they_have_not_written": (4, "committed_is_durable"),
    "leaders_do_not_step_back": (2, "liveness"),
    "learners_commit": (4, ""),
    "logs_are_not_compared": (5, "leader_completeness"),
    "new_terms_keep_the_vote": (1, ""),
    "newer_terms_are_not_noticed": (1, ""),
    "nobody_rises": (0, "liveness"),
    "places_are_not_compared": (55, "log_matching"),
    "refusals_are_not_heard": (2, "liveness"),
    "replies_before_commit": (0, "linearizability"),
    "sends_do_not_wait_for_the_disk": (1, "said_after_durable"),
    "snapshots_keep_the_wrong_log": (1993, "state_machine_safety"),
    "snapshots_name_the_newest_configuration": (8, "snapshots_hold_their_configuration"),
    "snapshots_reach_too_far": (5, ""),
    "synced_is_said_too_early": (0, "committed_is_durable"),
    "terms_are_not_written": (1, ""),
    "the_commit_index_is_believed": (5, ""),
    "the_joint_phase_ends_at_once": (4, "one_change_at_a_time"),
    "the_log_is_cut_before_the_snapshot": (18, ""),
    "two_changes_at_once": (4, "one_change_at_a_time"),
    "witnesses_lead": (19, ""),
}
"""Planted bug -> a seed that finds it, and what it says; where cores change it may be another one."""

SURVIVORS = {"acknowledges_the_whole_log"}
"""Nobody finds these yet. To answer an Append with the end of the log does harm only if a tail of another leader is
behind it, and this leader sends nothing that it conflicts with: only an empty Append, to a node that it has probed."""


@pytest.mark.parametrize("name", sorted(PLAYED))
def test_a_scenario_finds_it(name: str) -> None:
    with pytest.raises(ScenarioFailed) as failed:
        play(PLAYED[name], name)
    assert "the_script_goes_on" not in str(failed.value)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_seed_finds_it(name: str) -> None:
    first, complaint = DRAWN[name]
    for seed in (first, *range(SEEDS)):  # a bug is found long before the last of them
        try:
            run_schedule(seed, name)
        except ScheduleFailed as failed:
            if complaint in failed.reason:
                run_schedule(seed)  # and an honest cluster lives through the same world
                return
    raise AssertionError(f"{SEEDS} seeds do not find {name}")


def test_every_planted_bug_is_found_or_known_to_survive() -> None:
    assert sorted([*PLAYED, *DRAWN, *SURVIVORS]) == sorted(PLANTED)
    assert len(PLANTED) >= 50
    assert len(SURVIVORS) <= len(PLANTED) // 20
