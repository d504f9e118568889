"""The deterministic simulator: production cores under virtual time and seeded faults."""
