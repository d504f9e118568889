"""A linearizable key-value store that speaks etcd v3."""
