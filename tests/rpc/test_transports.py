"""Tests of links, the same over every transport and both loops: what is sent arrives, and the end is told once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from onerack.config import KIB, MIB, RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import TOGETHER, Accept, Arrival, Buffer, Link, Listener, Owner, Peer
from onerack.rpc.messages import Cancel, GoAway, Hello, Notice, Request, Response, StreamItem, Welcome
from onerack.rpc.transports import Address, Transport, dial, listen, register
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.connection import Connection
from onerack.rpc.transports.sender import LARGE_WAITING_MAX
from tests.rpc.links import LOOPS, QUICK, SCHEMES, Recorder, ends, run

REQUEST = Request(7, 3, 2, 2000, 1 << 60, 42, 41, b"arguments", {"traceparent": "00-1-2-03"})
RESPONSE = Response(7, 1 << 60, 0, b"result")
SIZES = [None, 0, 1, 1000, 64 * KIB - 1, 64 * KIB, 300 * KIB, MIB, MIB + 1, 5 * MIB + 3]

everywhere = pytest.mark.parametrize("scheme", SCHEMES)
both_loops = pytest.mark.parametrize("loop", LOOPS)


def by_content(arrivals: list[Arrival]) -> list[tuple[Any, bytes | None]]:
    plain = [(message, None if attachment is None else bytes(attachment)) for message, attachment in arrivals]
    return sorted(plain, key=lambda arrival: (repr(arrival[0]), len(arrival[1] or b"")))


@everywhere
@both_loops
def test_messages_and_attachments_arrive_in_both_directions(scheme: str, loop: str, tmp_path: Path) -> None:
    chance = Random(1)
    story = [(n, None if size is None else chance.randbytes(size)) for n, size in enumerate(SIZES)]
    from_client: list[Arrival] = [(Cancel(n), attachment) for n, attachment in story]
    from_server: list[Arrival] = [(Response(n, 5, 0, b"x"), attachment) for n, attachment in story]

    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            for arrival in from_client:
                client.send(*arrival)
            for arrival in from_server:
                server.send(*arrival)
            await at_server.until(lambda: len(at_server.arrivals) == len(story))
            await at_client.until(lambda: len(at_client.arrivals) == len(story))
            assert by_content(at_server.arrivals) == by_content(from_client)
            assert by_content(at_client.arrivals) == by_content(from_server)

    run(main(), loop)


@everywhere
@both_loops
def test_small_messages_arrive_in_order_and_many_at_once(scheme: str, loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, _, _, at_server, _):
            for number in range(1000):
                client.send(Cancel(number), None if number % 3 else b"attached")
            await at_server.until(lambda: len(at_server.arrivals) == 1000)
            assert [message.call for message in at_server.messages] == list(range(1000))
            assert max(at_server.batches) >= TOGETHER
            assert len(at_server.batches) < 60, "one write, so few reads"

    run(main(), loop)


@everywhere
@both_loops
def test_answers_leave_without_another_turn_of_the_loop(scheme: str, loop: str, tmp_path: Path) -> None:
    """What the owner sends while it is told of a batch leaves as one write; nothing is left for call_soon."""

    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, _, at_server, _):

            def answer(link: Link, arrivals: Sequence[Arrival]) -> None:
                for _ in arrivals:
                    link.send(RESPONSE)

            at_server.answer = answer
            for _ in range(100):
                client.send(REQUEST)
            await at_client.until(lambda: len(at_client.arrivals) == 100)
            assert len(at_client.batches) <= len(at_server.batches)

    run(main(), loop)


@everywhere
def test_messages_handed_over_together_arrive_like_others(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, _, _, at_server, _):
            client.send_all([Cancel(1), Cancel(2)])
            client.send(Cancel(3))
            client.send_all([])
            client.send_all([Cancel(number) for number in range(4, 20_000)])
            await at_server.until(lambda: len(at_server.arrivals) == 19_999)
            assert [message.call for message in at_server.messages] == list(range(1, 20_000))

    run(main())


class Bottomless:
    """A wire that takes everything at once, as a socket does whose peer is as fast as we are."""

    hint = ""

    def __init__(self) -> None:
        self.writes: list[list[Buffer]] = []

    def start(self, reader: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def finish(self) -> None: ...

    def look(self) -> None: ...

    def write(self, parts: Sequence[Buffer]) -> bool:
        self.writes.append(list(parts))
        return True

    def abort(self) -> None: ...


def test_a_large_attachment_leaves_the_loop_to_others_now_and_then() -> None:
    async def main() -> None:
        wire = Bottomless()
        connection = Connection("here", Peer("there"), "client", config=RpcConfig(), budget=Budget(RpcConfig()))
        connection.start(wire, Recorder())
        connection.send(REQUEST, bytes(64 * MIB))
        assert 1 <= len(wire.writes) <= 8, "about as many MiB"
        connection.send(Cancel(1))
        before = len(wire.writes)
        await asyncio.sleep(0)
        assert bytes(wire.writes[before][0])[4:] == msgspec.msgpack.encode(Cancel(1))
        assert len(wire.writes) <= before + 8
        await connection.drained()
        assert sum(len(part) for parts in wire.writes for part in parts) > 64 * MIB
        connection.ended(None)

    run(main())


@everywhere
def test_a_small_call_is_not_held_up_by_a_large_attachment(scheme: str, tmp_path: Path) -> None:
    """Round trips, one after the other, while 64 MiB are on their way."""

    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, _, at_server, _):

            def answer(link: Link, arrivals: Any) -> None:
                for message, _ in arrivals:
                    if isinstance(message, Cancel):
                        link.send(Response(message.call, 0, 0, b""))

            at_server.answer = answer
            client.send(REQUEST, bytes(64 * MIB))
            for number in range(1, 6):
                client.send(Cancel(number))
                client.flush()
                await at_client.until(lambda number=number: len(at_client.arrivals) == number)  # type: ignore[misc]
            assert REQUEST not in at_server.messages, "the calls were answered before it was there"
            await at_server.until(lambda: REQUEST in at_server.messages)
            assert len(at_server.arrivals[-1][1] or b"") == 64 * MIB

    run(main())


# ---------------------------------------------------------------------------------------------- ends


@everywhere
@both_loops
@pytest.mark.parametrize("who", ["client", "server"])
def test_what_was_queued_before_the_close_arrives(scheme: str, loop: str, who: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            closing, other = (client, at_server) if who == "client" else (server, at_client)
            at_closing = at_client if who == "client" else at_server
            message = REQUEST if who == "client" else RESPONSE
            closing.send(message, bytes(8 * MIB))
            closing.send(message)
            closing.close("enough")
            closing.send(message)
            assert not closing.is_open
            assert await at_closing.until_lost() == "enough"
            assert (await other.until_lost()).startswith("the peer closed the connection")
            assert by_content(other.arrivals) == by_content([(message, bytes(8 * MIB)), (message, None)])

    run(main(), loop)


@everywhere
def test_nothing_is_delivered_after_close_and_close_may_be_called_again(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            at_server.answer = lambda link, _arrivals: link.close("heard enough")
            client.send(REQUEST)
            client.flush()
            await at_server.until(lambda: at_server.arrivals)
            for _ in range(100):
                client.send(REQUEST)
            client.flush()
            server.close("again")
            assert await at_server.until_lost() == "heard enough"
            await at_client.until_lost()
            assert at_server.messages == [REQUEST]
            for link in (client, server):
                link.close()
                link.send(REQUEST)
                link.flush()
                link.pause()
                link.resume()
                await link.drained()

    run(main())


@everywhere
def test_lost_is_told_from_the_loop_and_not_from_inside_close(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            client.close()
            server.close()
            assert at_client.lost_reasons == at_server.lost_reasons == []

    run(main())


@everywhere
def test_a_notice_becomes_the_reason(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (_, at_client, server, _, _):
            server.send(Notice("stopping", "the node goes down"))
            server.close()
            assert await at_client.until_lost() == "the peer closed the connection: stopping: the node goes down"
            assert at_client.messages == [Notice("stopping", "the node goes down")]

    run(main())


@everywhere
def test_an_owner_that_fails_loses_its_link_and_its_error_is_not_swallowed(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, _, at_server, _):
            complaints: list[str] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: complaints.append(str(context.get("exception"))))

            def fail(_link: Link, _arrivals: Any) -> None:
                raise RuntimeError("a bug")

            at_server.answer = fail
            client.send(REQUEST)
            assert await at_server.until_lost() == "its owner failed"
            await at_client.until_lost()
            assert complaints == ["a bug"]

    run(main())


# ---------------------------------------------------------------------------------------------- brakes


@everywhere
@both_loops
def test_a_link_that_is_paused_hears_nothing_and_then_everything(scheme: str, loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            server.pause()
            client.send(REQUEST)
            server.send(RESPONSE)
            await at_client.until(lambda: at_client.arrivals)
            for _ in range(20):
                await asyncio.sleep(0)
            assert at_server.arrivals == []
            server.resume()
            await at_server.until(lambda: at_server.arrivals)

    run(main(), loop)


@everywhere
@both_loops
def test_drained_waits_for_a_reader_that_does_not_read(scheme: str, loop: str, tmp_path: Path) -> None:
    """Memory is bounded: a writer that waits gets only so far ahead of its reader."""

    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, _, server, at_server, _):
            content = bytes(MIB)
            sent = 0

            async def push() -> None:
                nonlocal sent
                for number in range(64):
                    client.send(Cancel(number), content)
                    await client.drained()
                    sent += 1

            server.pause()
            pushing = asyncio.create_task(push())
            before = -1
            while before < sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 32
            assert not pushing.done()
            server.resume()
            await pushing
            await at_server.until(lambda: len(at_server.arrivals) == 64)

    run(main(), loop)


@everywhere
def test_drained_returns_when_the_link_is_lost(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, _, server, _, _):
            server.pause()
            client.send(REQUEST, bytes(64 * MIB))
            waiting = asyncio.create_task(client.drained())
            await asyncio.sleep(0)
            assert not waiting.done()
            client.close("no patience")
            await waiting
            server.resume()

    run(main())


@everywhere
def test_a_peer_that_does_not_read_is_cut_off_when_too_much_waits_for_it(scheme: str, tmp_path: Path) -> None:
    config = RpcConfig(output_bytes_max=8 * MIB)

    async def main() -> None:
        async with ends(scheme, tmp_path, config) as (client, at_client, server, _, _):
            server.pause()
            item = StreamItem(1, bytes(100 * KIB))
            sent = 0
            while client.is_open:
                client.send(item)
                sent += 100 * KIB
                assert sent < 64 * MIB
            assert "the peer does not read" in await at_client.until_lost()
            assert sent > 8 * MIB
            server.resume()

    run(main())


def test_large_attachments_that_wait_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with ends("tcp", tmp_path) as (client, at_client, server, _, _):
            server.pause()
            content = bytes(64 * KIB)
            for _ in range(LARGE_WAITING_MAX + 300):
                client.send(REQUEST, content)
            assert "more than 4096 large attachments wait" in await at_client.until_lost()

    run(main())


def test_a_turn_that_sends_more_than_may_wait_is_no_error_while_the_peer_reads(tmp_path: Path) -> None:
    config = RpcConfig(output_bytes_max=4 * MIB)

    async def main() -> None:
        async with ends("memory", tmp_path, config) as (client, _, _, at_server, _):
            for _ in range(20):
                for _ in range(8):
                    client.send(StreamItem(1, bytes(100 * KIB)))
                await client.drained()
            await at_server.until(lambda: len(at_server.arrivals) == 160)

    run(main())


@everywhere
def test_what_the_limits_forbid_is_the_callers_error_and_the_link_lives_on(scheme: str, tmp_path: Path) -> None:
    config = RpcConfig(head_bytes_max=64 * KIB, attachment_bytes_max=MIB)

    async def main() -> None:
        async with ends(scheme, tmp_path, config) as (client, _, _, at_server, _):
            with pytest.raises(UsageError, match="at most 65536 are allowed"):
                client.send(StreamItem(1, bytes(64 * KIB)))
            with pytest.raises(UsageError, match="at most 1048576 are allowed"):
                client.send(REQUEST, bytes(MIB + 1))
            client.send(REQUEST)
            await at_server.until(lambda: at_server.arrivals)
            assert at_server.messages == [REQUEST]

    run(main())


# ---------------------------------------------------------------------------------------------- life and death


@everywhere
@both_loops
def test_two_that_have_nothing_to_say_stay_connected(scheme: str, loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path, QUICK) as (client, at_client, server, at_server, _):
            client.send(Hello(1, "", ""))
            server.send(Welcome(1, "", 1, ()))
            await asyncio.sleep(0.5)
            assert client.is_open
            assert server.is_open
            assert len(at_client.arrivals) == len(at_server.arrivals) == 1, "no owner hears of Pings"

    run(main(), loop)


@everywhere
def test_one_that_is_paused_for_long_is_not_taken_for_dead(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path, QUICK) as (client, at_client, server, at_server, _):
            client.send(Hello(1, "", ""))
            server.send(Welcome(1, "", 1, ()))
            await at_client.until(lambda: at_client.arrivals)
            await at_server.until(lambda: at_server.arrivals)
            server.pause()
            await asyncio.sleep(0.5)
            assert client.is_open
            server.resume()
            client.send(REQUEST)
            await at_server.until(lambda: REQUEST in at_server.messages)

    run(main())


@pytest.mark.parametrize("scheme", ["tcp", "tls", "memory"])
def test_a_stranger_that_says_nothing_is_closed_and_told_why(scheme: str, tmp_path: Path) -> None:
    """The client answers Pings, but never introduces itself."""
    patient = RpcConfig()

    async def main() -> None:
        async with ends(scheme, tmp_path, QUICK, client_config=patient) as (_, at_client, _, at_server, _):
            assert "has not introduced itself within 0.2 s" in await at_server.until_lost()
            assert "timeout: the peer has not introduced itself" in await at_client.until_lost()

    run(main())


# ---------------------------------------------------------------------------------------------- names and schemes


@everywhere
def test_links_have_names_of_their_own_and_say_who_the_peer_is(scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (client, _, server, _, listener):
            assert client.name != server.name
            assert client.name not in ("", server.name)
            if listener is not None and scheme in ("tcp", "tls"):
                assert client.peer.address == listener.address.partition("://")[2]
            expected = {"unix": f"unix:{tmp_path}/s.sock", "memory": "memory", "attached": "socket"}
            assert server.peer.address.startswith(expected.get(scheme, "127.0.0.1:"))
            assert server.peer.identity == ("spiffe://rack/client" if scheme == "tls" else "")

    run(main())


@everywhere
@both_loops
def test_what_arrives_belongs_to_nobodys_context(scheme: str, loop: str, tmp_path: Path) -> None:
    deadline: contextvars.ContextVar[str] = contextvars.ContextVar("deadline", default="none")
    heard: list[str] = []

    async def main() -> None:
        deadline.set("of whoever happened to dial")
        async with ends(scheme, tmp_path) as (client, at_client, server, at_server, _):
            at_server.answer = at_client.answer = lambda _link, _arrivals: heard.append(deadline.get())
            client.send(REQUEST)
            await at_server.until(lambda: at_server.arrivals)
            server.send(RESPONSE)
            await at_client.until(lambda: at_client.arrivals)
            assert heard == ["none", "none"]

    run(main(), loop)


@pytest.mark.parametrize("scheme", ["tcp", "tls", "unix", "memory"])
@both_loops
def test_a_listener_that_is_closed_ends_its_links_and_its_address_is_free(
    scheme: str, loop: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with ends(scheme, tmp_path) as (_, at_client, server, at_server, listener):
            assert listener is not None
            server.send(GoAway("bye"))
            await listener.close()
            await listener.close()
            assert at_server.lost_reasons == ["the server has stopped"]
            await at_client.until_lost()
            assert at_client.messages == [GoAway("bye")]
            if scheme in ("tcp", "unix", "memory"):
                with pytest.raises(ConnectionError):
                    await dial(listener.address, at_client, config=RpcConfig())
                again = await listen(listener.address, at_server.accept, config=RpcConfig())
                await again.close()

    run(main(), loop)


def test_memory_names_belong_to_their_loop() -> None:
    async def main() -> None:
        at_server = Recorder()
        listener = await listen("memory://here", at_server.accept, config=RpcConfig())
        with pytest.raises(UsageError, match="memory://here: somebody listens there already"):
            await listen("memory://here", at_server.accept, config=RpcConfig())

        def elsewhere() -> None:
            with pytest.raises(ConnectionError, match="memory://here: nobody listens there in this event loop"):
                asyncio.run(dial_it())

        async def dial_it() -> None:
            await dial("memory://here", Recorder(), config=RpcConfig())

        await asyncio.to_thread(elsewhere)
        await listener.close()

    run(main())


def test_memory_has_room_for_so_many_connections() -> None:
    async def main() -> None:
        at_server, at_client = Recorder(), Recorder()
        config = RpcConfig(connections_max=2)
        listener = await listen("memory://small", at_server.accept, config=config)
        links = [await dial("memory://small", at_client, config=config) for _ in range(2)]
        with pytest.raises(ConnectionError, match="memory://small: overloaded: there are 2 connections"):
            await dial("memory://small", at_client, config=config)
        links[0].close()
        await at_server.until_lost()
        await dial("memory://small", at_client, config=config)
        await listener.close()
        await at_client.until(lambda: len(at_client.lost_reasons) == 3)

    run(main())


class World:
    """A transport that only notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Address] = []

    async def listen(self, address: Address, accept: Accept, **_rest: Any) -> Listener:
        self.asked.append(address)
        raise NotImplementedError

    async def dial(self, address: Address, owner: Owner, **_rest: Any) -> Link:
        self.asked.append(address)
        raise NotImplementedError


def test_a_scheme_is_served_by_what_is_registered_while_it_is() -> None:
    async def main() -> None:
        world: Transport = World()
        with register("sim", world):
            for address in ("sim://a", Address("sim", "b")):
                with contextlib.suppress(NotImplementedError):
                    await dial(address, Recorder(), config=RpcConfig())
            with contextlib.suppress(NotImplementedError):
                await listen("sim://c", Recorder().accept, config=RpcConfig())
        assert world.asked == [Address("sim", "a"), Address("sim", "b"), Address("sim", "c")]  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="sim://a: nothing serves sim:// here"):
            await dial("sim://a", Recorder(), config=RpcConfig())
        with pytest.raises(UsageError, match="must be resolved"):
            await dial("name://a", Recorder(), config=RpcConfig())

    run(main())


def test_a_registered_scheme_gives_the_former_one_back() -> None:
    async def main() -> None:
        world = World()
        with register("memory", world), register("memory", World()):
            pass
        with pytest.raises(ConnectionError, match="nobody listens"):
            await dial("memory://a", Recorder(), config=RpcConfig())
        assert world.asked == []

    run(main())
