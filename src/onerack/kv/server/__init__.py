"""The edges of the key-value store: how clients reach it."""
