"""Raft: a replicated log for your own state machine.

The idea: a few nodes keep the same log, and each applies it to its own copy of a state machine. One of them leads; what
a majority has on its disks is committed, and will never be lost nor changed, whoever dies. So the copies are the same,
and the service lives as long as a majority does.

    messages     what nodes say to each other, keep on the disk, and tell their host
    core         the protocol, pure: elections, replication, membership, reads, snapshots
    invariants   what must always be true of it, by the paper's names
    storage      the log and the snapshots on a disk

The rule: nothing is acknowledged before it is durable, and a read sees every write that was acknowledged before it
began.

Source: Ongaro & Ousterhout, In Search of an Understandable Consensus Algorithm (extended version), 2014; Ongaro,
Consensus: Bridging Theory and Practice (dissertation), 2014.
"""
