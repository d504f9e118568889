"""The client: from an interface and an address to an object whose methods are calls.

    client = await connect(Account, "tcp://127.0.0.1:7700")
    async with client as account:
        await account.transfer("ann", "bob", 5)

The idea: `connect` gives a `Client`, which owns the connection; its `stub` has the interface's methods and nothing
else. The rule: `connect` returns when a server has welcomed us, or raises what is wrong; later losses of the
connection are repaired behind the stub.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.channel import Channel
from onerack.rpc.interface import Interface, interface_of
from onerack.rpc.messages import Mode
from onerack.rpc.resolver import Resolver
from onerack.rpc.stub import Interceptor, stub_of

Service = TypeVar("Service")


class Client(Generic[Service]):
    """A connection to a service. `async with client as stub`, or `client.stub` and `await client.close()`."""

    def __init__(self, interface: Interface, channel: Channel, stub: Service) -> None:
        self.stub = stub
        self._interface = interface
        self._channel = channel

    @property
    def server(self) -> str:
        """Where the connection that is up leads to; empty while there is none."""
        return self._channel.server

    @property
    def open_calls(self) -> int:
        return self._channel.open_calls

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Sends a request that is not answered: for messages of a protocol that has answers of its own.

        It arrives once or not at all. While there is no connection it does nothing: sent later, it may be wrong.
        Raises: UsageError: there is no such method, it has a stream, or promises more. TypeError: wrong arguments.
        """
        called = self._interface.methods.get(method)
        if called is None or called.stream_parameter or called.result_is_stream:
            raise UsageError(f"{self._interface.name} has no method {method!r} without a stream")
        if called.mode > Mode.AT_LEAST_ONCE:
            raise UsageError(f"{called.full_name} is {called.mode.name.lower()}, which needs an answer")
        arguments, attachment, _ = called.arguments(*args, **kwargs)
        self._channel.tell(called, called.encode_arguments(arguments), attachment)

    async def close(self) -> None:
        """Ends the connection; open calls end as Unknown if they may have run. May be called again."""
        await self._channel.close()

    async def __aenter__(self) -> Service:
        return self.stub

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


async def connect(
    protocol: Callable[..., Service],
    *addresses: str,
    over: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    cluster: str = "",
    deadline: float | None = None,
    connect_timeout: float | None = None,
    resolver: Resolver | None = None,
    interceptors: Sequence[Interceptor] = (),
    config: RpcConfig | None = None,
) -> Client[Service]:
    """Connects to a service at one of several addresses: `tcp:// tls:// unix:// memory:// sim:// name://`.

    `over`: instead of an address, a connected stream socket, whose other end a server has attached (`Server.attach`).
    It is the client's from now on, and nothing is dialled again: when that connection is lost, all is over.
    `deadline`: seconds that each call may take unless `options(deadline=...)` says less. `connect_timeout`:
    seconds that connecting may take now. `cluster`: a server of another is refused. `resolver`: for `name://`.

    Raises: BindingRefused: the server does not fit: protocol, cluster, schema (with the first difference). UsageError:
    an interface that cannot be called from afar, or an address that makes no sense. NotExecuted: nobody answers.
    """
    settings = config or RpcConfig()
    if bool(addresses) == (over is not None):
        raise UsageError("connect() needs an address, such as tcp://127.0.0.1:7700, or a connected socket as over=")
    for name, value in (("deadline", deadline), ("connect_timeout", connect_timeout)):
        if value is not None and not value > 0:
            raise UsageError(f"{name}={value}: seconds, more than 0")
    interface = interface_of(cast(type, protocol))
    channel = Channel(
        interface, addresses, over=over, config=settings, cluster=cluster, tls=tls, insecure=insecure, resolver=resolver
    )
    await channel.start(settings.connect_timeout_s if connect_timeout is None else connect_timeout)
    stub: Any = stub_of(interface, channel, interceptors, deadline)
    return Client(interface, channel, stub)
