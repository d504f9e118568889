"""RPC: calls that say what a failure means. Each method declares its delivery semantics; each outcome says if it ran."""
