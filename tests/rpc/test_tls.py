"""Tests of tls:// links: both ends show a certificate, and whoever does not is refused with a reason."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from pathlib import Path

import pytest

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Link, Peer
from onerack.rpc.messages import Cancel, Hello
from onerack.rpc.transports import dial, listen
from onerack.rpc.transports.tls import peer_of
from tests.rpc.certificates import Authority
from tests.rpc.links import LOOPS, QUICK, Recorder, run
from tests.rpc.mutations import frames_of, hammer

CONFIG = RpcConfig()

both_loops = pytest.mark.parametrize("loop", LOOPS)


class Rack:
    """An authority, a server's certificate and a client's."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.server = self.authority.issue("server", hosts=["localhost"], addresses=["127.0.0.1"])
        self.client = self.authority.issue("client", uris=["spiffe://rack/client"], hosts=["client.rack"])


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return Rack(tmp_path)


# ---------------------------------------------------------------------------------------------- contexts


def weakened(context: ssl.SSLContext, **changes: object) -> ssl.SSLContext:
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def test_a_context_that_would_do_with_less_is_refused(rack: Rack) -> None:
    server, client = rack.authority.server, rack.authority.client
    old, lax = {"minimum_version": ssl.TLSVersion.TLSv1_2}, {"check_hostname": False, "verify_mode": ssl.CERT_NONE}

    async def main() -> None:
        for context, complaint in [
            (None, "needs tls="),
            (client(rack.client), "for the other side; expected one of ssl.PROTOCOL_TLS_SERVER"),
            (weakened(server(rack.server), **old), "write context.minimum_version = ssl.TLSVersion.TLSv1_3"),
            (weakened(server(rack.server), verify_mode=ssl.CERT_OPTIONAL), "does not ask clients for a certificate"),
            (weakened(server(rack.server), verify_mode=ssl.CERT_NONE), "write context.verify_mode = ssl.CERT_REQUIRED"),
        ]:
            with pytest.raises(UsageError, match=re.escape(complaint)):
                await listen("tls://127.0.0.1:0", Recorder().accept, config=CONFIG, tls=context)
        for context, complaint in [
            (None, "needs tls="),
            (server(rack.server), "expected one of ssl.PROTOCOL_TLS_CLIENT"),
            (weakened(client(rack.client), **old), "write context.minimum_version = ssl.TLSVersion.TLSv1_3"),
            (weakened(client(rack.client), **lax), "does not ask the server for a certificate"),
        ]:
            with pytest.raises(UsageError, match=re.escape(complaint)):
                await dial("tls://127.0.0.1:1", Recorder(), config=CONFIG, tls=context)

    run(main())


def test_the_peer_is_who_its_certificate_says() -> None:
    subject = ((("organizationName", "Rack"),), (("commonName", "node-7"),))
    alternatives = (("DNS", "a.rack"), ("URI", "spiffe://rack/a"), ("IP Address", "10.0.0.1"), ("DNS", "b.rack"))
    names = ("spiffe://rack/a", "a.rack", "b.rack")
    assert peer_of({"subject": subject, "subjectAltName": alternatives}, "x") == Peer("x", "spiffe://rack/a", names)
    by_host = {"subject": subject, "subjectAltName": (("DNS", "a.rack"),)}
    assert peer_of(by_host, "x") == Peer("x", "a.rack", ("a.rack",))
    assert peer_of({"subject": subject}, "x") == Peer("x", "node-7")
    assert peer_of({}, "x") == peer_of(None, "x") == Peer("x")


@both_loops
def test_each_end_knows_the_other(loop: str, rack: Rack) -> None:
    async def main() -> None:
        at_server, at_client = Recorder(), Recorder()
        context = rack.authority.server(rack.server)
        listener = await listen("tls://localhost:0", at_server.accept, config=CONFIG, tls=context)
        link = await dial(listener.address, at_client, config=CONFIG, tls=rack.authority.client(rack.client))
        await at_server.until(lambda: at_server.links)
        assert link.peer.identity == "localhost"
        assert at_server.link.peer.identity == "spiffe://rack/client"
        assert at_server.link.peer.names == ("spiffe://rack/client", "client.rack")
        await listener.close()
        await at_client.until_lost()

    run(main(), loop)


# ---------------------------------------------------------------------------------------------- strangers


async def refusal_of(
    rack: Rack, context: ssl.SSLContext | None, *, scheme: str = "tls", host: str = "127.0.0.1"
) -> str:
    """How a client with this context fares that says Hello at once. No owner at the server hears of it."""
    at_server, at_client = Recorder(), Recorder()
    serving = rack.authority.server(rack.server)
    listener = await listen("tls://0.0.0.0:0", at_server.accept, config=CONFIG, tls=serving)
    link: Link | None = None
    try:
        port = listener.address.rpartition(":")[2]
        try:
            link = await dial(f"{scheme}://{host}:{port}", at_client, config=CONFIG, tls=context)
        except ConnectionError as error:
            assert at_client.lost_reasons == []
            return str(error)
        link.send(Hello(1, "", ""))
        return await at_client.until_lost()
    finally:
        await listener.close()
        assert at_server.links == []


@both_loops
def test_a_client_without_certificate_is_refused_and_knows_why(loop: str, rack: Rack) -> None:
    """It thinks that it is connected; the refusal comes with its first read."""

    async def main() -> None:
        reason = await refusal_of(rack, rack.authority.client(None))
        assert reason == "the server wants a client certificate; load one: context.load_cert_chain(...)"

    run(main(), loop)


@both_loops
def test_a_client_of_another_authority_is_refused(loop: str, rack: Rack, tmp_path: Path) -> None:
    async def main() -> None:
        other = Authority(tmp_path, "other")
        context = rack.authority.client(other.issue("stranger"))
        assert await refusal_of(rack, context) == "the peer does not trust the authority that signed our certificate"
        context = rack.authority.client(rack.authority.issue("old", days=-1))
        assert await refusal_of(rack, context) == "our certificate has expired"

    run(main(), loop)


@both_loops
def test_a_server_that_is_not_who_it_should_be_is_refused_by_the_client(loop: str, rack: Rack, tmp_path: Path) -> None:
    async def main() -> None:
        other = Authority(tmp_path, "other")
        assert "the peer's certificate is not accepted: " in await refusal_of(rack, other.client(other.issue("us")))
        assert "IP address mismatch" in await refusal_of(rack, rack.authority.client(rack.client), host="127.0.0.2")
        rack.server = rack.authority.issue("old", addresses=["127.0.0.1"], days=-1)
        assert "certificate has expired" in await refusal_of(rack, rack.authority.client(rack.client))

    run(main(), loop)


@both_loops
def test_plain_and_tls_do_not_understand_each_other_and_say_so(loop: str, rack: Rack) -> None:
    async def main() -> None:
        assert "before it said anything" in await refusal_of(rack, None, scheme="tcp")
        at_server = Recorder()
        plain = await listen("tcp://127.0.0.1:0", at_server.accept, config=CONFIG)
        with pytest.raises(ConnectionError):
            await dial(
                plain.address.replace("tcp", "tls"), Recorder(), config=CONFIG, tls=rack.authority.client(rack.client)
            )
        assert "seems to speak TLS (is one address tcp:// and the other tls://?)" in await at_server.until_lost()
        await plain.close()

    run(main(), loop)


@both_loops
def test_a_handshake_that_does_not_come_is_given_up(loop: str, rack: Rack) -> None:
    async def main() -> None:
        at_server = Recorder()
        context = rack.authority.server(rack.server)
        listener = await listen("tls://127.0.0.1:0", at_server.accept, config=QUICK, tls=context)
        with socket.socket() as silent:
            silent.setblocking(False)
            port = int(listener.address.rpartition(":")[2])
            await asyncio.get_running_loop().sock_connect(silent, ("127.0.0.1", port))
            assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""
        await listener.close()
        assert at_server.links == []

    run(main(), loop)


@both_loops
def test_a_listener_that_is_closed_ends_handshakes_too(loop: str, rack: Rack) -> None:
    async def main() -> None:
        context = rack.authority.server(rack.server)
        listener = await listen("tls://127.0.0.1:0", Recorder().accept, config=CONFIG, tls=context)
        with socket.socket() as silent:
            silent.setblocking(False)
            port = int(listener.address.rpartition(":")[2])
            await asyncio.get_running_loop().sock_connect(silent, ("127.0.0.1", port))
            while not listener._shaking:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            await listener.close()
            assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""

    run(main(), loop)


@both_loops
def test_one_connection_too_many_is_told_so(loop: str, rack: Rack) -> None:
    async def main() -> None:
        at_server, at_client, refused = Recorder(), Recorder(), Recorder()
        config = RpcConfig(connections_max=1)
        context = rack.authority.server(rack.server)
        listener = await listen("tls://127.0.0.1:0", at_server.accept, config=config, tls=context)
        dialling = rack.authority.client(rack.client)
        await dial(listener.address, at_client, config=CONFIG, tls=dialling)
        await at_server.until(lambda: at_server.links)
        await dial(listener.address, refused, config=CONFIG, tls=dialling)
        assert "overloaded: this server has 1 connections" in await refused.until_lost()
        await listener.close()
        await at_client.until_lost()

    run(main(), loop)


@both_loops
def test_bytes_that_no_tls_has_made_end_the_link_and_nothing_else(loop: str, rack: Rack) -> None:
    async def main() -> None:
        at_server, at_client = Recorder(), Recorder()
        context = rack.authority.server(rack.server)
        listener = await listen("tls://127.0.0.1:0", at_server.accept, config=CONFIG, tls=context)
        frames = frames_of([(Hello(1, "", ""), None), (Cancel(1), bytes(1000))], CONFIG)
        await hammer(listener.address, frames, seed=5, count=30)
        assert at_server.links == []
        link = await dial(listener.address, at_client, config=CONFIG, tls=rack.authority.client(rack.client))
        link.send(Hello(1, "", ""))
        await at_server.until(lambda: at_server.arrivals)
        link._wire._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # type: ignore[attr-defined]
        assert "TLS failed" in await at_server.until_lost()
        await at_client.until_lost()
        await listener.close()

    run(main(), loop)
