"""A bank whose server is killed, again and again, and whose books are right nevertheless.

    python examples/bank.py
    python examples/bank.py --kills 5

A server process keeps accounts; several clients transfer money between them, without pause. Twenty times the server
gets SIGKILL in the middle of its work and is started again. `transfer` is `exactly_once`: each call is kept in a log
on the disk, with its effect, before it is answered, and its client asks again for as long as it must. So at the end
the total is what it was, and the ledger holds each transfer once: those that clients were told of, and no others.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import msgspec

from onerack import rpc
from onerack.config import RpcConfig

ACCOUNTS = 10
CENTS_EACH = 1_000
CONFIG = RpcConfig(backoff_max_s=0.2)  # seconds between two looks whether the server is there again


class Entry(msgspec.Struct):
    """A line of the ledger."""

    name: str
    source: int
    target: int
    cents: int


class Bank(Protocol):
    """The interface: what can be asked of the bank, and how often it runs."""

    @rpc.exactly_once
    async def transfer(self, name: str, source: int, target: int, cents: int) -> int:
        """Gives the line of the ledger. `name` is for the books; that it runs once does not depend on it."""

    @rpc.readonly
    async def balances(self) -> list[int]: ...

    @rpc.readonly
    def ledger(self) -> AsyncIterator[Entry]: ...


class BankServer:
    """Plain methods on plain state. What is exactly once runs again from the log after a crash: no clock, no dice."""

    def __init__(self):
        self.accounts = [CENTS_EACH] * ACCOUNTS
        self.entries = []

    def transfer(self, name, source, target, cents):
        if self.accounts[source] < cents:
            raise rpc.ApplicationError(f"account {source} has only {self.accounts[source]}", cause="no_funds")
        self.accounts[source] -= cents
        self.accounts[target] += cents
        self.entries.append(Entry(name, source, target, cents))
        return len(self.entries)

    def balances(self):
        return self.accounts

    async def ledger(self):
        for entry in self.entries:
            yield entry

    def snapshot(self):
        return msgspec.msgpack.encode((self.accounts, self.entries))

    def restore(self, snapshot):
        self.accounts, self.entries = msgspec.msgpack.decode(snapshot, type=tuple[list[int], list[Entry]])


async def serve(directory):
    """What the server process does, from the word that it is wanted until it is killed."""
    if not sys.stdin.readline():
        return
    log = rpc.LocalLog(directory / "log", config=CONFIG)
    server = await rpc.serve(Bank, BankServer(), f"unix://{directory}/bank", durable=log, config=CONFIG)
    await server.wait()


class Teller:
    """A client that transfers from its start to its end, and writes down what it was told."""

    def __init__(self, number):
        self.number = number
        self.chance = random.Random(number)
        self.lines = {}
        self.refused = set()
        self.slowest = 0.0

    async def work(self, address, stopping):
        async with await rpc.connect(Bank, address, connect_timeout=20, config=CONFIG) as bank:
            while not stopping.is_set():
                await asyncio.gather(*(self.transfer(bank) for _ in range(4)))

    async def transfer(self, bank):
        name = f"{self.number}-{len(self.lines) + len(self.refused)}-{self.chance.getrandbits(32)}"
        source, target = self.chance.sample(range(ACCOUNTS), 2)
        began = time.monotonic()
        try:
            self.lines[name] = await bank.transfer(name, source, target, self.chance.randrange(1, 400))
        except rpc.ApplicationError:
            self.refused.add(name)
        self.slowest = max(self.slowest, time.monotonic() - began)


class Servers:
    """One that serves, and a spare that has started already, so that a kill costs no time for imports."""

    def __init__(self, directory):
        self.directory = directory
        self.serving = self.spare = None

    async def next(self):
        spare = self.spare or await self.started()
        spare.stdin.write(b"go\n")
        self.serving, self.spare = spare, await self.started()

    async def started(self):
        command = [sys.executable, __file__, "--serve", str(self.directory)]
        return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)

    async def kill(self):
        self.serving.send_signal(signal.SIGKILL)
        await self.serving.wait()

    async def end(self):
        await self.kill()
        self.spare.stdin.close()
        await self.spare.wait()


async def kill_again_and_again(servers, kills, tellers):
    """Kills the server in the middle of its work; the last one may live."""
    chance = random.Random(kills)
    await servers.next()
    for number in range(1, kills + 1):
        goal = sum(len(teller.lines) for teller in tellers) + chance.randrange(20, 200)
        while sum(len(teller.lines) for teller in tellers) < goal:
            await asyncio.sleep(0.005)
        await servers.kill()
        print(f"kill {number:2}: more than {goal} transfers were answered", flush=True)
        await servers.next()


async def books_are_right(address, tellers):
    """Compares the ledger with what the clients were told. Prints what it finds."""
    async with await rpc.connect(Bank, address, connect_timeout=20, config=CONFIG) as bank:
        balances = await bank.balances()
        entries = [entry async for entry in bank.ledger()]
    told = {name: line for teller in tellers for name, line in teller.lines.items()}
    refused = set().union(*(teller.refused for teller in tellers))
    executed = Counter(entry.name for entry in entries)
    findings = {
        "the total is what it was": sum(balances) == ACCOUNTS * CENTS_EACH,
        "no transfer was executed twice": max(executed.values()) == 1,
        "each that was answered is in the ledger, where the answer says": all(
            line <= len(entries) and entries[line - 1].name == name for name, line in told.items()
        ),
        "the ledger holds no other": set(executed) == set(told),
        "what was refused for lack of money is not in it": not refused & set(executed),
    }
    print(f"{len(told)} transfers, {len(refused)} refused; {sum(balances)} cents in {ACCOUNTS} accounts")
    for finding, holds in findings.items():
        print(f"  {'yes' if holds else 'NO '}  {finding}")
    return all(findings.values())


async def main(kills, clients):
    with tempfile.TemporaryDirectory(prefix="bank-") as name:
        directory = Path(name)
        address = f"unix://{directory}/bank"
        tellers = [Teller(number) for number in range(clients)]
        stopping = asyncio.Event()
        working = [asyncio.create_task(teller.work(address, stopping)) for teller in tellers]
        servers = Servers(directory)
        try:
            await kill_again_and_again(servers, kills, tellers)
            stopping.set()
            await asyncio.gather(*working)
            print(f"the longest wait for an answer, over a kill: {max(teller.slowest for teller in tellers):.1f} s")
            return 0 if await books_are_right(address, tellers) else 1
        finally:
            await servers.end()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--clients", type=int, default=4)
    words.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = words.parse_args()
    sys.exit(asyncio.run(serve(chosen.serve) if chosen.serve else main(chosen.kills, chosen.clients)))
