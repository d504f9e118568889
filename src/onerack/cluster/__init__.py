"""Racks: how nodes are put together from the systems below, and started on a machine.

control     ControlNode: raft, the store and all its doors, as one thing that starts and ends
http        a tiny door for people and monitors: health, metrics, status
record      cluster.json: which nodes of a rack there are on this machine, and where
processes   processes that outlive whoever started them, and that nobody is taken for
rack        up, down, status: a whole rack on this machine
restoring   a data directory made from a saved store
"""
