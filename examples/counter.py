"""A counter that three nodes keep, in twenty lines; then one of them is lost, and it counts on.

    python examples/counter.py

Each node keeps the log on its own disk. What `execute` has answered is on the disks of a majority: here, of two.
"""

import asyncio
import socket
import tempfile

from onerack.raft import Replica


class Counter:
    """All that is to be written: what a command does, and how the state is saved."""

    def __init__(self):
        self.total = 0

    def apply(self, command):
        self.total += int(command)
        return self.total

    def snapshot(self):
        return b"%d" % self.total

    def restore(self, snapshot):
        self.total = int(snapshot)


async def main(directory):
    members = {f"n{number}": f"tcp://127.0.0.1:{port}" for number, port in enumerate(free_ports(3), start=1)}
    nodes = [Replica(Counter(), name, f"{directory}/{name}", members=members) for name in members]
    for node in nodes:
        await node.__aenter__()

    for node, amount in zip(nodes, (1, 10, 100), strict=True):
        print(f"{node.node.name} adds {amount}: {await node.execute(b'%d' % amount)}")

    leader = next(node for node in nodes if node.node.is_leader)
    print(f"{leader.node.name} leads in term {leader.node.term}, and is lost now")
    await leader.__aexit__()
    rest = [node for node in nodes if node is not leader]
    print(f"{rest[0].node.name} adds 1000: {await rest[0].execute(b'1000')}")
    print(f"{rest[1].node.name} reads: {await rest[1].read(lambda counter: counter.total)}")
    for node in rest:
        await node.__aexit__()


def free_ports(count):
    """The nodes must know each other's addresses before any of them runs."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(place))
