"""A world for RPC: the production client and server, and a user's services, under virtual time and seeded faults.

The idea: nothing is replaced but the loop, the transport and the disk. Shells, cores, logs and services are the ones
that run in production; each seed decides when messages are lost and when machines lose power; and a ledger that
survives everything compares what callers were told with what was done.

    proof.py        many seeds, or a crash at each point; what is said of one that fails
    seed.py         one run: a stage, a scenario, a verdict
    world.py        what a scenario sees
    nodes, lives    machines, and processes that die without a last word
    sea, links      sim://
    calls, judge    who called, what ran, what was told

The public door is onerack.rpc.testing.
"""
