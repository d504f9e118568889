"""Durable: what makes exactly-once calls survive. A log on this machine's disk; a replicated one binds the same way."""
