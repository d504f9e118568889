"""The engines we compare ourselves with: one program each, run in its own process, writing its result as lines.

Each program takes `CASE INPUT OUTPUT` and is the best reasonable way we know to do the case with that engine on this
many cores. The rule: it does what a careful user of that engine would do, no more and no less than ours does; where
two formulations are reasonable both are kept and the faster counts.
"""
