"""The libraries whose calls we compare ours with, and ours: one program each, client and server in two processes.

Each program takes `CASE [--callers N] [--seconds S] ...`, starts its own server, keeps N calls open for S seconds in a
closed loop, checks every reply, and leaves its figures. The rule: each is the best way we know to make these calls with
that library; where two formulations are reasonable both are kept and the faster counts.
"""
