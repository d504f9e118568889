"""RPC: calls that say what a failure means. Methods declare delivery semantics; outcomes say whether the call ran."""
