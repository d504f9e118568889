"""The stage: a cluster of simulated nodes whose messages wait until the script hands them over.

The idea: what chance meets too rarely is written down, move by move. Clocks stand still unless the script moves them,
messages lie in the mail until they are delivered or dropped, and only the disks work by themselves. The nodes, their
hosts, the judge and the clients' history are those of the random schedules.

The rule: an election is moved by hand as any message; nobody's timer rings by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from onerack.raft.messages import Propose, RequestVote, Vote
from onerack.runtime.seam import Tick
from onerack.sim.raft.clients import SimClient
from onerack.sim.raft.judge import check_history, require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.machine import Command, encode_command
from onerack.sim.raft.node import SimNode
from onerack.sim.raft.options import small_world
from onerack.sim.raft.requests import Reply, Request
from onerack.sim.raft.schedule import Schedule
from onerack.sim.raft.story import Story
from onerack.sim.seeds import stream

DISK_S = 0.001
"""Long enough for whatever the disks are at."""


class Letter(NamedTuple):
    sender: str
    to: str
    message: Any


class Stage(Schedule):
    """`limits`: fields of RaftConfig; `changes`: fields of Options."""

    def __init__(
        self, kit: Kit, nodes: int = 3, story: Story | None = None, *, limits: dict[str, Any] | None = None,
        watches: bool = True, **changes: Any,
    ) -> None:  # fmt: skip
        options = replace(small_world(nodes), **changes)
        options = replace(options, config=replace(options.config, **(limits or {})))
        super().__init__(1, kit, story, options=options, watches=watches)
        self.mail: list[Letter] = []
        for node in self.nodes.values():
            node.clock.run(0.0)
            node.alarm_works = False
        self.begin()
        self.work()

    # ------------------------------------------------------------------------------------------------ the mail

    def send(self, sender: str, to: str, message: Any) -> None:
        if isinstance(message, Request | Reply):
            # Clients reach everybody who is alive.
            self.world.after(0.0, self._deliver, to, message, sender)
        else:
            self.mail.append(Letter(sender, to, message))

    def work(self) -> None:
        """The disks end what they are at; clients are heard."""
        self.live_for(DISK_S)

    def take(self, sender: str, to: str, *kinds: type) -> list[Letter]:
        """Takes letters out of the mail; no kind means all."""
        taken = [
            letter
            for letter in self.mail
            if letter[:2] == (sender, to) and (not kinds or isinstance(letter.message, kinds))
        ]
        self.mail = [letter for letter in self.mail if not any(letter is each for each in taken)]
        return taken

    def give(self, *letters: Letter) -> None:
        """Delivers letters, also ones that were delivered before."""
        for sender, to, message in letters:
            self._deliver(to, message, sender)
            self.work()

    def deliver(self, sender: str, to: str, *kinds: type) -> None:
        self.give(*self.take(sender, to, *kinds))

    def exchange(self, *names: str, rounds: int = 12) -> None:
        """Whatever these nodes have for each other, and their answers, until they are quiet."""
        for _ in range(rounds):
            letters = [letter for letter in self.mail if letter.sender in names and letter.to in names]
            if not letters:
                return
            self.mail = [letter for letter in self.mail if letter not in letters]
            self.give(*letters)

    def drop_all(self) -> None:
        self.mail.clear()

    # ------------------------------------------------------------------------------------------------ moves

    def time_out(self, name: str, seconds: float = 1.0) -> None:
        """The node's clock moves on, and its alarm rings."""
        self.nodes[name].clock.jump(seconds)
        self.nodes[name].tell_core(Tick())
        self.work()

    def elect(self, name: str, *voters: str) -> None:
        """An election among these; the others hear nothing of it, and the new leader's first words stay in the mail."""
        for _ in range(3):
            # Once to hear of the newest term, once to be elected in the next one.
            if self.leads(name):
                break
            self._campaign(name, voters)
        others = [letter for letter in self.mail if isinstance(letter.message, RequestVote | Vote)]
        self.mail = [letter for letter in self.mail if letter not in others]

    def _campaign(self, name: str, voters: tuple[str, ...]) -> None:
        for each in voters:
            self.nodes[each].clock.jump(1.0)
        self.time_out(name)
        for _ in range(4):
            for voter in voters:
                self.deliver(name, voter, RequestVote)
                self.deliver(voter, name, Vote)

    def leads(self, name: str) -> bool:
        return self.nodes[name].is_leader

    def expect_leader(self, name: str) -> None:
        require(self.leads(name), "the_script_goes_on", f"{name} does not lead: {self._what_is_open()}")

    def beat(self, name: str) -> None:
        """The leader's heartbeat timer rings."""
        self.time_out(name, self.options.config.heartbeat_interval_s * 1.01)

    def spread(self, name: str, *others: str) -> None:
        """These nodes get all that the leader has, and know that it is committed."""
        for _ in range(4):
            self.exchange(name, *others)
            self.beat(name)
        self.exchange(name, *others)

    def crash(self, name: str, why: str = "the script") -> None:
        """Power is lost; nobody restarts it but the script."""
        self.nodes[name].die(why)

    def died(self, node: SimNode, why: str) -> None:
        self.tell(node.name, f"dies: {why}")

    def restart(self, name: str) -> None:
        self.nodes[name].start()
        self.work()

    def crash_and_restart(self, name: str) -> None:
        self.crash(name)
        self.restart(name)

    # ------------------------------------------------------------------------------------------------ clients

    def client(self, name: str = "c1") -> SimClient:
        if name not in self.clients:
            self.clients[name] = SimClient(self, name, stream(1, name))
        return self.clients[name]

    def ask(self, to: str, kind: str, key: str = "r0", argument: Any = None, *, client: str = "") -> SimClient:
        """A new client asks for one thing."""
        asking = self.client(client or f"c{len(self.clients) + 1}")
        asking.begin(kind, key, argument, to)
        self.work()
        return asking

    def propose(self, to: str, value: int) -> None:
        """An entry that nobody waits for, or asks for again."""
        command = Command("script", value, "write", "w0", value)
        self.nodes[to].tell_core(Propose(-value, encode_command(command)))
        self.work()

    # ------------------------------------------------------------------------------------------------ the end

    def finish(self) -> None:
        """All is mended: clocks run, everybody lives, messages travel; the cluster must become well."""
        self.tell("everything", "is mended")
        self.healed = True
        self.mail.clear()
        self.send = self._send_for_good  # type: ignore[method-assign]
        for node in self.nodes.values():
            node.clock.run(1.0)
            node.alarm_works = True
            if node.alive:
                node.rearm()
            elif node.life:
                node.start()
        self.live_until(self._all_ended)
        self.live_until(self._all_equal)
        leader = self._leader()
        assert leader is not None
        self.judge.check_replicas(leader.configuration)
        check_history(self.history.operations())

    def _send_for_good(self, sender: str, to: str, message: Any) -> None:
        self.network.send(sender, to, message)
