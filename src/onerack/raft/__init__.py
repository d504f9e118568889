"""Raft: a replicated log for your own state machine; see messages.py for what its nodes say to each other."""
