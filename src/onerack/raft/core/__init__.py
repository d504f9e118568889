"""The pure protocol."""
