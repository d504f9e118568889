"""Free ports of this machine: nodes must know each other's addresses before any of them runs."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """All different, because they are held together until the last is found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
