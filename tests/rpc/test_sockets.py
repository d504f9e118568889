"""Tests of sockets: who may listen and dial, socket files, what cannot be connected, and how many may be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onerack.config import MIB, RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Listener
from onerack.rpc.messages import Cancel, Hello, Notice, Request, Response
from onerack.rpc.transports import Address, attach, dial, listen
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.frames import TOGETHER_BYTES_MAX
from onerack.rpc.transports.listener import SocketListener
from onerack.rpc.transports.listener import listen as listen_at_socket
from tests.rpc.links import LOOPS, Recorder, ends, run

CONFIG = RpcConfig()
REQUEST = Request(7, 3, 2, 2000, 1 << 60, 42, 41, b"arguments")

both_loops = pytest.mark.parametrize("loop", LOOPS)


# ---------------------------------------------------------------------------------------------- tcp


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:1", "tcp://example.invalid:1"])
def test_plain_tcp_stays_on_this_machine_unless_it_is_written_out(address: str) -> None:
    async def main() -> None:
        for attempt in (listen(address, Recorder().accept, config=CONFIG), dial(address, Recorder(), config=CONFIG)):
            with pytest.raises(UsageError, match="write insecure=True"):
                await attempt

    run(main())


def test_plain_tcp_goes_anywhere_when_it_is_written_out() -> None:
    async def main() -> None:
        listener = await listen("tcp://0.0.0.0:0", Recorder().accept, config=CONFIG, insecure=True)
        assert listener.address.startswith("tcp://0.0.0.0:")
        assert not listener.address.endswith(":0")
        await listener.close()

    run(main())


def test_a_name_and_an_ipv6_address_are_resolved() -> None:
    async def main() -> None:
        for host in ("localhost", "[::1]"):
            at_server, at_client = Recorder(), Recorder()
            try:
                listener = await listen(f"tcp://{host}:0", at_server.accept, config=CONFIG)
            except UsageError:
                assert host == "[::1]", "only IPv6 may be absent"
                continue
            link = await dial(listener.address, at_client, config=CONFIG)
            link.send(Hello(1, "", ""))
            await at_server.until(lambda at_server=at_server: at_server.arrivals)  # type: ignore[misc]
            await listener.close()
            await at_client.until_lost()

    run(main())


@both_loops
def test_a_port_that_is_taken_is_a_clear_error(loop: str) -> None:
    async def main() -> None:
        listener = await listen("tcp://127.0.0.1:0", Recorder().accept, config=CONFIG)
        with pytest.raises(UsageError, match="cannot listen there: Address already in use"):
            await listen(listener.address, Recorder().accept, config=CONFIG)
        await listener.close()

    run(main(), loop)


@both_loops
def test_nobody_there_is_a_connection_error_with_address_and_reason(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
            for address, reason in [
                (closed, "Connection refused"),
                (f"unix://{tmp_path}/none.sock", "No such file or directory"),
            ]:
                at_client = Recorder()
                with pytest.raises(ConnectionError) as refusal:
                    await dial(address, at_client, config=CONFIG)
                assert str(refusal.value) == f"{address}: {reason}"
                assert at_client.lost_reasons == []
        with pytest.raises(ConnectionError, match=r"^tcp://name\.invalid:1: "):
            await dial("tcp://name.invalid:1", Recorder(), config=CONFIG, insecure=True)

    run(main(), loop)


@both_loops
def test_a_server_that_does_not_answer_is_given_up(loop: str, tmp_path: Path) -> None:
    """A unix listener whose queue is full says "try again", which is neither yes nor no."""

    async def main() -> None:
        path = str(tmp_path / "full.sock")
        with socket.socket(socket.AF_UNIX) as deaf, contextlib.ExitStack() as filling:
            deaf.bind(path)
            deaf.listen(0)
            for _ in range(3):
                waiting = filling.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect_ex(path)
            with pytest.raises(ConnectionError, match=r"full\.sock: no connection within 0\.1 s"):
                await dial(f"unix://{path}", Recorder(), config=RpcConfig(connect_timeout_s=0.1))

    run(main(), loop)


def test_time_for_connecting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_socket: socket.socket, _where: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
        with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:9: no connection within 0\.05 s"):
            await dial("tcp://127.0.0.1:9", Recorder(), config=RpcConfig(connect_timeout_s=0.05))

    run(main())


# ---------------------------------------------------------------------------------------------- socket files


def test_a_socket_file_is_for_its_owner_alone_and_goes_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def main() -> None:
        listener = await listen(f"unix://{path}", Recorder().accept, config=CONFIG)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await listener.close()
        assert not path.exists()

    run(main())


def test_the_socket_file_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.exists()

    async def main() -> None:
        at_server = Recorder()
        listener = await listen(f"unix://{path}", at_server.accept, config=CONFIG)
        at_client = Recorder()
        await dial(listener.address, at_client, config=CONFIG)
        await at_server.until(lambda: at_server.links)
        await listener.close()
        await at_client.until_lost()

    run(main())


def test_a_socket_file_at_which_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def main() -> None:
        at_server = Recorder()
        listener = await listen(f"unix://{path}", at_server.accept, config=CONFIG)
        with pytest.raises(UsageError, match="somebody listens there already"):
            await listen(f"unix://{path}", Recorder().accept, config=CONFIG)
        at_client = Recorder()
        await dial(listener.address, at_client, config=CONFIG)
        await listener.close()
        await at_client.until_lost()

    run(main())


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("dear")

    async def main() -> None:
        with pytest.raises(UsageError, match="a file of another kind"):
            await listen(f"unix://{path}", Recorder().accept, config=CONFIG)
        assert path.read_text() == "dear"

    run(main())


def test_the_socket_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def main() -> None:
        first = await listen(f"unix://{path}", Recorder().accept, config=CONFIG)
        path.unlink()
        second = await listen(f"unix://{path}", Recorder().accept, config=CONFIG)
        await first.close()
        assert path.exists()
        await second.close()

    run(main())


@pytest.mark.parametrize("name", ["x" * 200, "no/such/folder/s.sock"])
def test_a_socket_file_that_cannot_be_made_is_a_clear_error(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="no socket can be made there: "):
            await listen(f"unix://{tmp_path}/{name}", Recorder().accept, config=CONFIG)

    run(main())


# ---------------------------------------------------------------------------------------------- handed over


def test_a_child_that_is_started_slowly_is_not_taken_for_dead() -> None:
    """The peer has the other end and does not run yet: nothing is heard until it does, and only keepalive counts."""

    async def main() -> None:
        config = RpcConfig(hello_timeout_s=0.05, keepalive_interval_s=5, keepalive_timeout_s=5)
        near, far = socket.socketpair()
        parent = attach(near, Recorder().accept, side="server", config=config)
        await asyncio.sleep(0.3)
        assert parent.is_open
        at_child = Recorder()
        attach(far, at_child.accept, side="client", config=CONFIG)
        parent.send(Response(1, 1, 0, b""))
        await at_child.until(lambda: at_child.arrivals)
        parent.close()
        await at_child.until_lost()
        await asyncio.sleep(0.05)

    run(main())


# ---------------------------------------------------------------------------------------------- how many


@both_loops
def test_one_connection_too_many_is_told_so_and_there_is_room_again_later(loop: str) -> None:
    async def main() -> None:
        at_server, at_client, refused = Recorder(), Recorder(), Recorder()
        config = RpcConfig(connections_max=2)
        listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=config)
        first = await dial(listener.address, at_client, config=CONFIG)
        await dial(listener.address, at_client, config=CONFIG)
        await at_server.until(lambda: len(at_server.links) == 2)
        link = await dial(listener.address, refused, config=CONFIG)
        link.send(Hello(1, "", ""))
        reason = await refused.until_lost()
        assert reason.endswith(": overloaded: this server has 2 connections, and takes no more")
        assert refused.messages == [Notice("overloaded", "this server has 2 connections, and takes no more")]
        first.close()
        await at_server.until_lost()
        await dial(listener.address, at_client, config=CONFIG)
        await at_server.until(lambda: len(at_server.links) == 3)
        await listener.close()
        await at_client.until(lambda: len(at_client.lost_reasons) == 3)

    run(main(), loop)


def test_a_crowd_that_is_refused_costs_no_more_than_a_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerack.rpc.transports.listener._REFUSALS_MAX", 5)

    async def main() -> None:
        at_server, crowd = Recorder(), Recorder()
        listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=RpcConfig(connections_max=1))
        await dial(listener.address, crowd, config=CONFIG)
        await at_server.until(lambda: at_server.links)
        await asyncio.gather(*(dial(listener.address, crowd, config=CONFIG) for _ in range(50)))
        await crowd.until(lambda: len(crowd.lost_reasons) == 50)
        assert 0 < sum("overloaded" in reason for reason in crowd.lost_reasons) < 50
        assert len(at_server.links) == 1
        await listener.close()
        await crowd.until(lambda: len(crowd.lost_reasons) == 51)

    run(main())


class NoDescriptors:
    """A listening socket at which `accept` fails at first, as it does when a process has no descriptors left."""

    def __init__(self, real: socket.socket, failures: int) -> None:
        self._real = real
        self.failures = failures

    def accept(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_process_without_descriptors_accepts_again_later() -> None:
    async def main() -> None:
        at_server, at_client = Recorder(), Recorder()
        listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=CONFIG)
        assert isinstance(listener, SocketListener)
        listener._socket = NoDescriptors(listener._socket, 2)  # type: ignore[assignment]
        await dial(listener.address, at_client, config=CONFIG)
        await at_server.until(lambda: at_server.links)
        assert listener._socket.failures == 0  # type: ignore[attr-defined]
        await listener.close()
        await at_client.until_lost()

    run(main())


# ---------------------------------------------------------------------------------------------- the budget


class Account(Budget):
    """A budget that notes its highest state, and how often somebody had to wait."""

    def __init__(self, config: RpcConfig) -> None:
        super().__init__(config)
        self.highest = 0
        self.waits = 0

    def take(self, holder: Any, size: int) -> None:
        super().take(holder, size)
        self.highest = max(self.highest, self.used_bytes)

    def wait(self, holder: Any, call: Callable[[], None]) -> None:
        self.waits += 1
        super().wait(holder, call)


@both_loops
def test_honest_senders_wait_for_room_and_all_of_them_get_through(loop: str) -> None:
    """Six that send 12 MiB each; the server has room for 2 MiB, and for what one may have unfinished."""
    config = RpcConfig(attachment_bytes_max=16 * MIB, unfinished_bytes_max=TOGETHER_BYTES_MAX + 2 * MIB)

    async def main() -> None:
        account = Account(config)
        at_server, at_client = Recorder(), Recorder()
        anywhere = Address("tcp", "127.0.0.1")
        listener: Listener = await listen_at_socket(anywhere, at_server.accept, config=config, budget=account)
        links = [await dial(listener.address, at_client, config=config) for _ in range(6)]
        for number, link in enumerate(links):
            link.send(Cancel(number), bytes([number]) * (12 * MIB))
        await at_server.until(lambda: len(at_server.arrivals) == 6)
        for message, attachment in at_server.arrivals:
            assert attachment == bytes([message.call]) * (12 * MIB)
        assert account.waits > 0
        assert account.highest <= config.unfinished_bytes_max
        assert account.used_bytes == 0
        await listener.close()
        await at_client.until(lambda: len(at_client.lost_reasons) == 6)

    run(main(), loop)


def test_a_link_that_is_lost_gives_back_what_it_held(tmp_path: Path) -> None:
    async def main() -> None:
        account = Account(CONFIG)
        near, far = socket.socketpair()
        at_server = Recorder()
        server = attach(far, at_server.accept, side="server", config=CONFIG, budget=account)
        at_client = Recorder()
        client = attach(near, at_client.accept, side="client", config=CONFIG)
        client.send(REQUEST, bytes(32 * MIB))
        while not account.used_bytes:
            await asyncio.sleep(0)
        server.close()
        assert account.used_bytes == 0
        await at_server.until_lost()
        await at_client.until_lost()

    run(main())


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    async def main() -> None:
        for scheme in ("tcp", "unix", "attached"):
            async with ends(scheme, tmp_path):
                pass
        with pytest.raises(ConnectionError):
            await dial(f"unix://{tmp_path}/none", Recorder(), config=CONFIG)

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before
