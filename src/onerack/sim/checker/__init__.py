"""Checkers: was what clients saw possible?

    from onerack.sim.checker import History, check_linearizable, check_zones
    history = History()
    number = history.begin("c1", "x", "write", 7, now_ns)
    history.end(number, None, later_ns)
    verdict = check_linearizable(history.operations(), REGISTER)

The idea: a checker knows nothing of the system, only what was asked, what was answered, and when. Three of them look
from different sides, and where two can look at the same history they must agree: a search for an order that explains
it (wgl.py), a comparison of intervals for registers whose values are unique (zones.py), and, for a store that numbers
its revisions, a replay in the order that the store itself claims (revisions.py). history.py holds what they read.
"""

from onerack.sim.checker.history import Anomaly, History, Operation, Verdict
from onerack.sim.checker.revisions import Read, Store, Watch, Write, check_revisions
from onerack.sim.checker.wgl import APPENDS, REGISTER, Model, check_linearizable
from onerack.sim.checker.zones import check_zones

__all__ = [
    "APPENDS",
    "REGISTER",
    "Anomaly",
    "History",
    "Model",
    "Operation",
    "Read",
    "Store",
    "Verdict",
    "Watch",
    "Write",
    "check_linearizable",
    "check_revisions",
    "check_zones",
]
